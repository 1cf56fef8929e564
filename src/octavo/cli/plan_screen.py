"""How ``octavo plan`` shows a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from octavo.config.sizes import format_bytes
from octavo.plan.fit import Fit
from octavo.plan.hardware import gpu_catalogue
from octavo.plan.planner import Plan
from octavo.plan.prices import Cost, Price, price_of
from octavo.plan.speed import Speed

_BAR_WIDTH = 60
_PARTS = (
    ("weights", "blue"),
    ("KV cache", "green"),
    ("activations", "yellow"),
    ("overhead", "magenta"),
    ("free", "bright_black"),
)


def print_plan(plan: Plan) -> None:
    """Print a plan."""
    Console(highlight=False, soft_wrap=True).print(Group(*_sections(plan)))


def print_gpus(prices: Sequence[Price]) -> None:
    """Print the catalogue of GPUs."""
    table = Table(box=None, pad_edge=False)
    for heading in ("GPU", "memory", "GB/s", "FP32", "16 bit", "FP8", "INT8", "FP4", "$/h"):
        table.add_column(heading, justify="left" if heading == "GPU" else "right", no_wrap=True)
    for gpu in gpu_catalogue().values():
        price = price_of(gpu, prices)
        half = gpu.flops.get("bf16", gpu.flops.get("fp16"))
        speeds = (gpu.flops.get("fp32"), half, gpu.flops.get("fp8"), gpu.flops.get("int8"), gpu.flops.get("fp4"))
        table.add_row(
            gpu.name,
            format_bytes(gpu.memory_bytes),
            f"{gpu.bandwidth / 1e9:,.0f}",
            *(f"{speed / 1e12:,.0f}" if speed else "–" for speed in speeds),
            f"{price.usd_per_hour:.2f}" if price else "–",
        )
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print("Speeds in TFLOPS for dense matrices, from the vendors' data sheets.", style="dim")


def _sections(plan: Plan) -> Iterator[RenderableType]:
    yield from _head(plan)
    yield Text()
    yield from _memory(plan)
    yield Text()
    yield from _limits(plan)
    if plan.speed is not None:
        yield Text()
        yield from _speed(plan, plan.speed)
    elif plan.fits and plan.deployment.hardware.is_cpu:
        yield Text("Speed: unknown, since this machine was not measured with this model. Add --calibrate.")
    if plan.cost is not None:
        yield Text()
        yield from _cost(plan.cost)
    elif plan.speed is not None and not plan.deployment.hardware.is_cpu:
        yield Text("Cost: no list price of this GPU is known. Give one with --prices FILE.")
    yield Text()
    yield from _command(plan)


def _head(plan: Plan) -> Iterator[Text]:
    wanted, shape = plan.deployment, plan.deployment.shape
    parameters = f"{shape.num_parameters:,} parameters"
    if shape.num_active_parameters != shape.num_parameters:
        parameters += f", {shape.num_active_parameters:,} active"
    kind = wanted.dtype + (f", {wanted.quantization.name} weights" if wanted.quantization else "")
    if wanted.rounds_activations:
        kind += ", activations rounded to bfloat16"
    yield Text.assemble((wanted.model, "bold"), f"  {shape.model_type}, {parameters}, {kind}")
    if shape.is_part:
        yield Text("Only the language model is counted; this model has other parts.", "yellow")
    if wanted.hardware.is_cpu:
        yield Text("on this machine's processor")
        return
    count = f"{wanted.num_gpus} x " if wanted.num_gpus > 1 else ""
    parallel = f", {wanted.tensor_parallel_size} a replica over {wanted.hardware.link}" if wanted.num_gpus > 1 else ""
    yield Text(f"on {count}{wanted.hardware.name}{parallel}")


def _memory(plan: Plan) -> Iterator[RenderableType]:
    found = plan.fit
    where = "that is free" if plan.deployment.hardware.is_cpu else "on each GPU"
    share = "" if plan.deployment.hardware.is_cpu else f", {format_bytes(found.allowed_bytes)} of it may be used"
    yield Text(f"Memory {where}: {format_bytes(found.total_bytes)}{share}", "bold")
    sizes = _sizes(found)
    if found.kv_cache_bytes >= 0:
        yield _bar(sizes, found.total_bytes)
    for (name, colour), size, note in zip(_PARTS, sizes, _notes(plan), strict=True):
        yield Text.assemble((f"■ {name:<12}", colour), f"{format_bytes(size):>10}  {note}")


def _sizes(found: Fit) -> tuple[int, ...]:
    used = found.weight_bytes + found.activation_bytes + found.overhead_bytes + max(found.kv_cache_bytes, 0)
    return (
        found.weight_bytes,
        max(found.kv_cache_bytes, 0),
        found.activation_bytes,
        found.overhead_bytes,
        max(found.total_bytes - used, 0),
    )


def _bar(sizes: Sequence[int], total: int) -> Text:
    bar = Text()
    end = 0
    for (_, colour), size in zip(_PARTS, sizes, strict=True):
        end += size
        bar.append("█" * (round(_BAR_WIDTH * end / total) - len(bar)), colour)
    return bar


def _notes(plan: Plan) -> tuple[str, ...]:
    wanted, found = plan.deployment, plan.fit
    windows = [
        f"{count} layers with a window of {window:,}" for window, count in wanted.shape.windows.items() if window
    ]
    kept = " (this version keeps all tokens)" if windows and not found.layout.frees_outside_window else ""
    return (
        f"{found.weight_bytes / 1e9:,.2f} GB",
        f"{found.kv_bytes_per_token:,} bytes a token" + "".join(f", {text}{kept}" for text in windows),
        f"at most, in a step of {wanted.max_num_batched_tokens:,} tokens and {wanted.max_num_seqs:,} sequences",
        "state of the sequences" if wanted.hardware.is_cpu else "CUDA context, libraries, state of the sequences",
        "",
    )


def _limits(plan: Plan) -> Iterator[Text]:
    wanted, found = plan.deployment, plan.fit
    if not plan.fits:
        yield Text("It does not fit.", "bold red")
        yield Text(_shortage(plan))
        return
    yield Text("It fits.", "bold green")
    yield Text(
        f"Longest sequence: {found.max_model_len:,} tokens (the model is made for {wanted.shape.max_model_len:,})"
    )
    yield Text(f"Largest batch:    {plan.max_batch:,} sequences of {wanted.asked_len:,} tokens")
    yield Text(f"Largest context:  {plan.max_context:,} tokens with {wanted.concurrency or 1:,} at the same time")


def _shortage(plan: Plan) -> str:
    wanted, found = plan.deployment, plan.fit
    rest = found.weight_bytes + found.activation_bytes + found.overhead_bytes
    arithmetic = (
        f"{format_bytes(found.allowed_bytes)} allowed - {format_bytes(found.weight_bytes)} weights - "
        f"{format_bytes(found.activation_bytes)} activations - {format_bytes(found.overhead_bytes)} overhead"
    )
    if rest > found.allowed_bytes:
        return f"{arithmetic} = {format_bytes(found.allowed_bytes - rest)}: there is no room for a KV cache."
    left = f"{arithmetic} leaves {format_bytes(found.kv_cache_bytes)} for the KV cache"
    if found.kv_cache_limit is not None and found.kv_cache_limit <= found.kv_cache_bytes:
        left = f"The KV cache may take {format_bytes(found.kv_cache_bytes)}"
    if found.missing_bytes:
        one = found.layout.bytes_of_sequence(wanted.shape, found.max_model_len)
        return f"{left}; one sequence of {found.max_model_len:,} tokens takes {format_bytes(one)}."
    one = found.layout.bytes_of_sequence(wanted.shape, wanted.asked_len)
    return (
        f"{left}; {wanted.concurrency:,} sequences of {wanted.asked_len:,} tokens take "
        f"{format_bytes(one * (wanted.concurrency or 1))}. {plan.max_batch} of them fit."
    )


def _speed(plan: Plan, speed: Speed) -> Iterator[Text]:
    yield Text.assemble(
        ("Speed", "bold"),
        f" with {speed.batch:,} requests of {speed.input_len:,} + {speed.output_len:,} tokens a replica",
    )
    num_replicas = plan.deployment.num_replicas
    total = speed.output_tokens_per_s * num_replicas
    yield Text(f"Time to first token:   {_seconds(speed.ttft_s)} when idle")
    yield Text(f"Time per output token: {_seconds(speed.tpot_s)} ({1 / speed.tpot_s:,.1f} tokens/s for each request)")
    yield Text(f"Throughput:            {total:,.1f} output tokens/s" + (" in all" if num_replicas > 1 else ""))
    yield Text(f"From: {plan.speed_source}", "dim")


def _cost(cost: Cost) -> Iterator[Text]:
    yield Text.assemble(
        ("Cost", "bold"),
        f" ${cost.per_hour:,.2f} an hour; per million tokens ${cost.per_million_input:,.4f} input and "
        f"${cost.per_million_output:,.4f} output, if it is kept busy",
    )
    yield Text(f"{cost.price.provider}, {cost.price.date}, {cost.price.source}; --prices FILE takes others", "dim")


def _command(plan: Plan) -> Iterator[RenderableType]:
    if plan.advice:
        yield Text("Each of these changes is enough:", "bold")
        for advice in plan.advice:
            yield Text(f"  {advice.text}")
        yield Text()
    elif not plan.fits:
        yield Text("No change of types, length or number of GPUs is enough; choose a smaller model.", "bold")
    if plan.command is not None:
        yield Text("Command" if plan.fits else f"Command with {plan.command_change}", "bold")
        yield Text(f"  {plan.command}", "cyan")
    for reason in plan.reasons:
        yield Text(f"  ! {reason}", "yellow")


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1e3:,.1f} ms"
