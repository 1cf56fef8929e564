"""``octavo bench throughput``: how many tokens a second an engine makes of a large batch, without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from octavo.cli.arguments import build_command
from octavo.cli.bench_serve import HTML_OPTION, OUTPUT_OPTION
from octavo.cli.config_flags import CONFIG_OPTION, config_options, given_flags
from octavo.config.schema import EngineConfig
from octavo.config.sources import load_config
from octavo.observe.logging import set_up_logging

if TYPE_CHECKING:
    from octavo.bench.records import BenchResult


def make_command() -> Any:
    """Return the command."""
    return build_command("throughput", throughput, config_options(EngineConfig))


def throughput(
    input_len: int = typer.Option(1024, help="Tokens of each prompt."),
    output_len: int = typer.Option(128, help="Tokens to generate for each."),
    num_prompts: int = typer.Option(1000, help="Requests in the batch."),
    output: Path | None = OUTPUT_OPTION,
    html: Path | None = HTML_OPTION,
    config: Path | None = CONFIG_OPTION,
    **flags: Any,
) -> None:
    """Measure how many tokens a second the engine makes of a large batch, in this process and without a server.

    Prompts are random tokens. All requests are given to the engine at once.
    """
    engine = load_config(EngineConfig, given_flags(None, flags), config_file=config, environ=os.environ)
    from octavo.bench.files import check_targets
    from octavo.bench.offline import ThroughputSettings, run_throughput_benchmark

    check_targets(output, html)
    settings = ThroughputSettings(input_len=input_len, output_len=output_len, num_prompts=num_prompts, seed=engine.seed)
    set_up_logging("warning", "bench")
    from octavo.engine.llm import LLM  # reads the tokenizer's library, which wrong flags need not wait for

    result = run_throughput_benchmark(LLM(**engine.model_dump()), settings, show_progress=True)
    summary = result.summary
    typer.echo(f"{summary.num_requests:,} requests in {summary.duration_s:.2f} s")
    typer.echo(f"throughput: {summary.request_throughput:.2f} requests/s")
    typer.echo(
        f"            {summary.total_throughput:,.1f} total tokens/s, {summary.output_throughput:,.1f} output tokens/s"
    )
    save(result, output, html)


def save(result: BenchResult, output: Path | None, html: Path | None) -> None:
    """Write a result where the user wants it, and say so."""
    from octavo.bench.html_report import write_html_report
    from octavo.bench.records import write_result

    for path, write in ((output, write_result), (html, write_html_report)):
        if path is not None:
            write(result, path)
            typer.echo(f"wrote {path}", err=True)
