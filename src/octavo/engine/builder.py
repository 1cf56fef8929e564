"""Builds an engine core from its settings: device, dtype, weights, KV cache, scheduler, runner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from octavo.config.sizes import format_bytes
from octavo.engine import memory
from octavo.engine.batch_invariance import is_batch_invariant, log_batch_invariance
from octavo.engine.core import EngineCore
from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.kv_cache_pages import KVCachePages
from octavo.engine.lora.adapters import Adapters
from octavo.engine.messages import EngineReady
from octavo.engine.profiling import run_largest_steps
from octavo.engine.runner import Runner
from octavo.engine.scheduler import Scheduler
from octavo.engine.speculation.builder import make_speculator
from octavo.engine.speculation.draft_loading import find_draft_model, load_draft_model
from octavo.engine.structured.compiler import GrammarCompiler
from octavo.engine.structured.vocabulary import grammar_vocabulary
from octavo.errors import ConfigError, OctavoError
from octavo.kernels.cpu import default_num_threads, has_native, load_native, native_status
from octavo.models.loading import LoadOptions, load_model, weight_bytes
from octavo.models.quantization.choice import choose_formats
from octavo.plan.memory import kv_bytes_per_token

if TYPE_CHECKING:
    from pathlib import Path

    from llguidance import LLTokenizer

    from octavo.config import EngineConfig
    from octavo.engine.lora.request import LoRARequest
    from octavo.models.config import ModelConfig
    from octavo.models.layers.decoder import CausalLM

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_KV_CACHE_DTYPES = {**_DTYPES, "int8": torch.int8}
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine core and what its client wants to know about it.

    Attributes:
        use_idle_time: does a little of what makes later steps faster, and says whether there is more.
    """

    core: EngineCore
    ready: EngineReady
    use_idle_time: Callable[[], bool]


def build_engine(
    config: EngineConfig,
    directory: Path,
    model_config: ModelConfig,
    max_model_len: int,
    adapters: Sequence[LoRARequest] = (),
) -> BuiltEngine:
    """Load a model and make everything around it.

    Args:
        adapters: LoRA adapters to load before what is left of the memory is divided.

    Raises:
        ConfigError: the device is missing, the checkpoint is quantised in another way than asked for, batch invariance
            cannot be promised, or the model or one sequence does not fit in memory.
        ModelError: the checkpoint is broken or not supported.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, model_config.dtype, device)
    if device.type == "cpu":
        prepare_cpu(config.cpu_threads)
    batch_invariant = is_batch_invariant(config, device)
    log_batch_invariance(batch_invariant)
    formats = choose_formats(config.quantization, model_config.quantization)
    num_weight_bytes = weight_bytes(model_config, dtype=dtype, formats=formats)
    memory.check_weights_fit(num_weight_bytes, free_memory(device), device.type)
    logger.info("weights: %s, %s", format_bytes(num_weight_bytes), formats.method or "not quantized")
    is_native = device.type == "cpu" and has_native()
    rounds_activations = is_native and wants_rounded_activations(config.dtype)
    if rounds_activations:
        logger.info("activations: rounded to bfloat16 for products with bfloat16 matrices")
    draft = find_draft_model(config, model_config, max_model_len)
    kv_cache_dtype = choose_kv_cache_dtype(config.kv_cache_dtype, dtype, model_config)
    bytes_per_token = kv_cache_bytes_per_token(model_config, kv_cache_dtype)
    if draft is not None:
        bytes_per_token += kv_cache_bytes_per_token(draft.config, kv_cache_dtype)
    memory.check_kv_cache_setting(config, max_model_len=max_model_len, bytes_per_token=bytes_per_token)
    options = LoadOptions(
        dtype,
        device,
        load_format=config.load_format,
        seed=config.seed,
        native=is_native,
        rounds_activations=rounds_activations,
    )
    model = load_model(directory, model_config, options, formats=formats)
    loaded, failed = _load_adapters(config, model, device, adapters) if config.enable_lora else (None, {})
    draft_model = None if draft is None else load_draft_model(draft, options, free_bytes=free_memory(device))
    if device.type == "cuda":
        budget = _profile_cuda(config, model, max_model_len, device, kv_cache_dtype)
    else:
        budget = memory.cpu_kv_cache_budget(config, free_memory(device))
    num_blocks = memory.num_kv_blocks(
        budget, config=config, max_model_len=max_model_len, bytes_per_token=bytes_per_token
    )
    logger.info(
        "KV cache: %s (%d blocks of %d tokens) on %s, %s",
        format_bytes(num_blocks * config.block_size * bytes_per_token),
        num_blocks,
        config.block_size,
        device,
        dtype_name(kv_cache_dtype),
    )
    runner = Runner(
        model,
        num_blocks=num_blocks,
        block_size=config.block_size,
        max_num_tokens=config.step_tokens(device.type),
        max_num_seqs=config.max_num_seqs,
        max_model_len=max_model_len,
        device=device,
        dtype=kv_cache_dtype,
        adapters=loaded,
        draft_model=draft_model,
    )
    kv_cache = KVCacheManager(num_blocks, config.block_size, enable_prefix_caching=config.enable_prefix_caching)
    scheduler = Scheduler(
        kv_cache,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.step_tokens(device.type),
        policy=config.scheduling_policy,
        max_loras=config.max_loras,
        speculator=make_speculator(config, runner, max_model_len),
    )
    ready = EngineReady(
        num_blocks=num_blocks,
        block_size=config.block_size,
        max_model_len=max_model_len,
        device=str(device),
        dtype=dtype_name(dtype),
        kv_cache_dtype=dtype_name(kv_cache_dtype),
        quantization=formats.method,
        batch_invariant=batch_invariant,
        failed_adapters=failed,
    )
    grammars = GrammarCompiler(lambda: _read_vocabulary(config, directory, model_config.vocab_size))
    core = EngineCore(scheduler, runner, model_config, grammars, loaded)
    return BuiltEngine(core, ready, KVCachePages(runner.kv_caches).make_some)


def _read_vocabulary(config: EngineConfig, directory: Path, vocab_size: int) -> LLTokenizer:
    # Libraries for text come with it, which an engine needs for nothing else.
    from octavo.engine.model_files import read_tokenizer

    return grammar_vocabulary(read_tokenizer(config, directory), vocab_size)


def _load_adapters(
    config: EngineConfig, model: CausalLM, device: torch.device, requests: Sequence[LoRARequest]
) -> tuple[Adapters, dict[int, str]]:
    """Return the adapters, and why some could not be loaded: that is not the end of an engine that is restarted."""
    adapters = Adapters(
        model,
        device=device,
        max_rank=config.max_lora_rank,
        max_adapters=config.max_cpu_loras,
        free_memory=lambda: free_memory(device),
    )
    failed: dict[int, str] = {}
    for request in requests:
        try:
            adapters.load(request)
        except OctavoError as error:
            failed[request.lora_int_id] = str(error)
    return adapters, failed


def choose_device(name: str) -> torch.device:
    """Return the device for a ``device`` setting; ``auto`` takes a GPU if there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device=cuda was asked for, but torch finds no CUDA device. Use --device cpu, or check the driver with "
            "nvidia-smi and that torch was installed with CUDA."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_dtype(name: str, checkpoint_dtype: str, device: torch.device) -> torch.dtype:
    """Return the dtype for a ``dtype`` setting.

    ``auto`` is the checkpoint's own type: native kernels of the CPU widen 16-bit weights on the way and compute in
    float32, which loses nothing. Without them it is float32 on a CPU, as torch computes 16-bit types in software there.
    """
    if name == "auto":
        name = "float32" if device.type == "cpu" and not has_native() else checkpoint_dtype
    return _DTYPES[name]


def wants_rounded_activations(name: str) -> bool:
    """Return whether a ``dtype`` setting lets native kernels round what they multiply with bfloat16 matrices.

    bfloat16 that is asked for by name means what it means on a GPU, for matrix products; everything else stays float32.
    ``auto`` is exact.
    """
    return name == "bfloat16"


def choose_kv_cache_dtype(name: str, dtype: torch.dtype, config: ModelConfig) -> torch.dtype:
    """Return the dtype for a ``kv_cache_dtype`` setting; ``auto`` is that of the weights.

    Raises:
        ConfigError: the model cannot have such a cache.
    """
    if name == "int8" and config.latent_attention is not None:
        raise ConfigError(
            "kv_cache_dtype=int8 is not supported with latent attention, whose cache is small already. Leave it out."
        )
    return dtype if name == "auto" else _KV_CACHE_DTYPES[name]


def kv_cache_bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
    """Return the bytes that a token takes in a KV cache of such a type."""
    return kv_bytes_per_token(
        num_layers=config.num_hidden_layers,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        bytes_per_element=dtype.itemsize,
        bytes_per_scale=torch.float32.itemsize if dtype is torch.int8 else 0,
        num_parts=config.cached_parts,
    )


def dtype_name(dtype: torch.dtype) -> str:
    """Return what settings call a dtype."""
    return str(dtype).removeprefix("torch.")


def prepare_cpu(num_threads: int | None) -> None:
    """Give torch and the native kernels their threads; say so if there are no native kernels."""
    status = native_status()
    if status.missing_because is None:
        load_native().set_num_threads(num_threads or default_num_threads())
        # What is left to torch is small, and its threads would spin on the cores that the kernels' own threads need.
        torch.set_num_threads(1)
        logger.info("native CPU kernels: %s", status.active_isa)
    else:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        logger.warning(
            "there are no native CPU kernels (%s): torch computes instead, more slowly. To have them, install a C++ "
            "compiler and then octavo once more with: pip install --force-reinstall --no-deps octavo",
            status.missing_because,
        )


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.available_host_memory()


def _profile_cuda(
    config: EngineConfig, model: CausalLM, max_model_len: int, device: torch.device, dtype: torch.dtype
) -> memory.KVCacheBudget:
    """Run the largest steps that can be scheduled on a cache of one block, and measure what activations take."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run_largest_steps(config, model, max_model_len, device, dtype)
    peak = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return memory.cuda_kv_cache_budget(config, total_bytes=total, used_bytes=total - free, peak_activation_bytes=peak)
