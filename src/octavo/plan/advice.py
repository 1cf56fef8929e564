"""What to change when a deployment does not fit: each single change that is enough, in its smallest form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from octavo.plan.deployment import Deployment
from octavo.plan.hardware import gpu_catalogue
from octavo.plan.weights import QUANTIZATIONS, Quantization

MIN_USEFUL_LEN = 512
_MAX_GPUS = 64
_STEP = 256


@dataclass(frozen=True, slots=True)
class Advice:
    """One change that makes it fit.

    Attributes:
        text: what to do, in words.
        deployment: the deployment after it.
    """

    text: str
    deployment: Deployment


def advise(wanted: Deployment) -> tuple[Advice, ...]:
    """Return the changes of which each alone makes a deployment fit, the least invasive first.

    If none does, the smallest combination that is found; nothing if there is not even that.
    """
    return tuple(_changes(wanted)) or tuple(_combinations(wanted))


def _changes(wanted: Deployment) -> Iterator[Advice]:
    yield from _narrower_dtype(wanted)
    yield from _larger_kv_cache(wanted)
    yield from _fewer_requests(wanted)
    yield from _shorter_context(wanted)
    yield from _smaller_kv_cache(wanted)
    yield from _packed_weights(wanted)
    yield from _more_gpus(wanted)
    yield from _larger_gpu(wanted)


def _works(changed: Deployment) -> bool:
    return changed.is_met_by(changed.fit())


def _narrower_dtype(wanted: Deployment) -> Iterator[Advice]:
    if wanted.dtype == "float32":
        dtype = wanted.shape.dtype if wanted.shape.dtype != "float32" else "bfloat16"
        if dtype == "bfloat16" and not wanted.hardware.has_bfloat16:
            dtype = "float16"
        rounds_activations = wanted.hardware.is_cpu and dtype == "bfloat16"
        changed = replace(wanted, dtype=dtype, rounds_activations=rounds_activations)
        if _works(changed):
            yield Advice(f"--dtype {dtype}", changed)


def _larger_kv_cache(wanted: Deployment) -> Iterator[Advice]:
    """Give the cache what it needs, where its size is a choice or the default on a CPU."""
    if not wanted.hardware.is_cpu and wanted.kv_cache_memory_bytes is None:
        return
    found = wanted.fit()
    padding = found.layout.block_size * found.kv_bytes_per_token
    longest = found.layout.bytes_of_sequence(wanted.shape, found.max_model_len)
    together = found.layout.bytes_of_sequence(wanted.shape, wanted.asked_len) * (wanted.concurrency or 1)
    changed = replace(wanted, kv_cache_memory_bytes=max(longest, together) + padding)
    if _works(changed):
        yield Advice(f"--kv-cache-memory-bytes {changed.kv_cache_memory_bytes}", changed)


def _fewer_requests(wanted: Deployment) -> Iterator[Advice]:
    """Lower the concurrency; with it goes what logits take, so it is searched."""
    low, high = 0, (wanted.concurrency or 1) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if _works(replace(wanted, concurrency=middle)):
            low = middle
        else:
            high = middle - 1
    if low:
        yield Advice(f"--concurrency {low}", replace(wanted, concurrency=low))


def _shorter_context(wanted: Deployment) -> Iterator[Advice]:
    """Shorten the longest sequence, where it is not the requests themselves that are too long."""
    if wanted.max_model_len is None:
        return
    floor = wanted.request_len if wanted.input_len or wanted.output_len else MIN_USEFUL_LEN
    low, high = 0, (wanted.max_model_len - 1) // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        if middle * _STEP >= floor and _works(replace(wanted, max_model_len=middle * _STEP)):
            low = middle
        elif middle * _STEP < floor:
            return
        else:
            high = middle - 1
    if low:
        yield Advice(f"--max-model-len {low * _STEP}", replace(wanted, max_model_len=low * _STEP))


def _smaller_kv_cache(wanted: Deployment) -> Iterator[Advice]:
    if wanted.kv_bytes_per_element == 1:
        return
    has_int8 = wanted.is_served and not wanted.shape.has_latent_attention
    changed = replace(wanted, kv_cache_dtype="int8" if has_int8 else "fp8")
    if _works(changed):
        yield Advice(f"--kv-cache-dtype {changed.kv_cache_dtype}", changed)


def _packed_weights(wanted: Deployment) -> Iterator[Advice]:
    """Pack the weights: in 8 bits if that is enough, else in 4."""
    if wanted.quantization is not None:
        return
    for name in ("fp8", "int4"):
        changed = replace(wanted, quantization=QUANTIZATIONS[name])
        if _works(changed):
            yield Advice(f"--quantization {name}", changed)
            return


def _more_gpus(wanted: Deployment) -> Iterator[Advice]:
    if wanted.hardware.is_cpu:
        return
    for size in wanted.possible_parallel_sizes:
        if size > wanted.tensor_parallel_size and size <= _MAX_GPUS:
            changed = replace(wanted, num_gpus=size * wanted.num_replicas, tensor_parallel_size=size)
            if _works(changed):
                yield Advice(f"--gpus {changed.num_gpus} --tensor-parallel-size {size}", changed)
                return


def _larger_gpu(wanted: Deployment) -> Iterator[Advice]:
    # float16 on a GPU without bfloat16 was no choice; a GPU with it takes the checkpoint's type.
    was_forced = wanted.dtype == "float16" and not wanted.hardware.has_bfloat16
    larger = sorted(
        (gpu for gpu in gpu_catalogue().values() if gpu.memory_bytes > wanted.hardware.memory_bytes),
        key=lambda gpu: gpu.memory_bytes,
    )
    for gpu in larger:
        changed = replace(wanted, hardware=gpu, dtype=wanted.shape.dtype if was_forced else wanted.dtype)
        if _works(changed):
            yield Advice(f"--gpu {gpu.name}", changed)
            return


def _combinations(wanted: Deployment) -> Iterator[Advice]:
    """Pack the weights and share them; at last with the shortest context that is still of use."""
    lengths = [wanted.max_model_len]
    if wanted.max_model_len is not None and wanted.max_model_len > MIN_USEFUL_LEN >= wanted.request_len:
        lengths.append(MIN_USEFUL_LEN)
    for length in lengths:
        for quantization in _possible_packings(wanted):
            for size in (1,) if wanted.hardware.is_cpu else wanted.possible_parallel_sizes:
                changed = replace(
                    wanted,
                    max_model_len=length,
                    quantization=quantization,
                    tensor_parallel_size=size,
                    num_gpus=size * wanted.num_replicas,
                )
                if size >= wanted.tensor_parallel_size and _works(changed):
                    yield Advice(_flags(wanted, changed), changed)
                    return


def _possible_packings(wanted: Deployment) -> tuple[Quantization | None, ...]:
    if wanted.quantization is not None:
        return (wanted.quantization,)
    return (None, QUANTIZATIONS["fp8"], QUANTIZATIONS["int4"])


def _flags(wanted: Deployment, changed: Deployment) -> str:
    """Return the flags that make one deployment of another."""
    flags = []
    if changed.quantization is not None and changed.quantization != wanted.quantization:
        flags.append(f"--quantization {changed.quantization.name}")
    if changed.num_gpus != wanted.num_gpus:
        flags.append(f"--gpus {changed.num_gpus} --tensor-parallel-size {changed.tensor_parallel_size}")
    if changed.max_model_len != wanted.max_model_len:
        flags.append(f"--max-model-len {changed.max_model_len}")
    return " ".join(flags)
