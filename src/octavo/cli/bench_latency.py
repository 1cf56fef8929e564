"""``octavo bench latency``: how long an engine takes for one batch, without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from octavo.cli.arguments import build_command
from octavo.cli.bench_serve import HTML_OPTION, OUTPUT_OPTION
from octavo.cli.bench_throughput import save
from octavo.cli.config_flags import CONFIG_OPTION, config_options, given_flags
from octavo.config.schema import EngineConfig
from octavo.config.sources import load_config
from octavo.observe.logging import set_up_logging

if TYPE_CHECKING:
    from octavo.bench.offline import LatencyRun


def make_command() -> Any:
    """Return the command."""
    return build_command("latency", latency, config_options(EngineConfig))


def latency(
    input_len: int = typer.Option(32, help="Tokens of each prompt."),
    output_len: int = typer.Option(128, help="Tokens to generate for each."),
    batch_size: int = typer.Option(8, help="Requests in a batch."),
    num_iters: int = typer.Option(30, help="Batches that are measured."),
    num_iters_warmup: int = typer.Option(10, help="Batches before them that do not count."),
    output: Path | None = OUTPUT_OPTION,
    html: Path | None = HTML_OPTION,
    config: Path | None = CONFIG_OPTION,
    **flags: Any,
) -> None:
    """Measure how long the engine takes for one batch, many times, in this process and without a server.

    Prompts are random tokens, new ones for each batch. It also says how much of the memory's bandwidth decoding uses,
    which is what limits it in the end.
    """
    engine = load_config(EngineConfig, given_flags(None, flags), config_file=config, environ=os.environ)
    from octavo.bench.files import check_targets
    from octavo.bench.offline import LatencySettings, run_latency_benchmark

    check_targets(output, html)
    settings = LatencySettings(
        input_len=input_len,
        output_len=output_len,
        batch_size=batch_size,
        num_iters=num_iters,
        num_iters_warmup=num_iters_warmup,
        seed=engine.seed,
    )
    set_up_logging("warning", "bench")
    from octavo.engine.llm import LLM  # reads the tokenizer's library, which wrong flags need not wait for

    llm = LLM(**engine.model_dump())
    with Console(stderr=True).status("") as status:
        run = run_latency_benchmark(llm, settings, lambda done, total: status.update(f"batch {done} of {total}"))
    _print(run)
    save(run.result, output, html)


def _print(run: LatencyRun) -> None:
    typer.echo(f"{'mean':>12}: {run.batch_ms.mean:.1f} ms for a batch")
    for name in ("min", "p50", "p90", "p95", "p99", "max"):
        typer.echo(f"{name:>12}: {getattr(run.batch_ms, name):.1f} ms")
    typer.echo(f"{'prefill':>12}: {run.prefill_s * 1e3:.1f} ms")
    summary = run.result.summary
    typer.echo(f"{'throughput':>12}: {summary.output_throughput:,.1f} output tokens/s")
    if run.traffic is not None:
        traffic = run.traffic
        typer.echo(
            f"{'decode step':>12}: {traffic.step_s * 1e3:.2f} ms, in which {traffic.bytes_read / 1e6:,.1f} MB of "
            f"weights, keys and values are read: {traffic.bytes_per_s / 1e9:.1f} GB/s, {traffic.share_of_limit:.0%} of "
            f"the {traffic.limit_bytes_per_s / 1e9:.1f} GB/s that the memory can deliver"
        )
