"""``octavo simulate``: a load on any number of replicas in virtual time, and how many replicas it needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from octavo.cli.arguments import build_command
from octavo.cli.number_options import count_option
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.summary import Slo, Summary
    from octavo.simulate.hardware import SimulatedHardware
    from octavo.simulate.load import Load
    from octavo.simulate.simulation import SimulationSettings


def make_command() -> Any:
    """Return the command."""
    return build_command("simulate", simulate)


def simulate(
    model: str = typer.Argument("octavo-nano", metavar="MODEL", help="Model: with --gpu only its config.json is read."),
    gpu: str | None = typer.Option(None, metavar="NAME", help="GPU of the planner's catalogue, e.g. H100."),
    calibration: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Measured step times; without --gpu by default what octavo plan --calibrate kept for the model.",
    ),
    tensor_parallel_size: int = typer.Option(1, min=1, help="With --gpu: GPUs of one replica."),
    dtype: str | None = typer.Option(None, help="With --gpu: float32, bfloat16 or float16; by default the model's."),
    quantization: str | None = typer.Option(None, help="With --gpu: how the weights are packed, e.g. fp8 or awq."),
    trace: Path | None = typer.Option(None, metavar="FILE", help="Trace to replay: Azure CSV or Mooncake JSONL."),
    trace_speed: float = typer.Option(1.0, help="2.0 replays a trace twice as fast."),
    trace_start: float = typer.Option(0.0, metavar="SECONDS", help="Leave out the beginning of a trace."),
    num_prompts: int | None = count_option("Requests; by default all of a trace, or 1000."),
    input_len: int = typer.Option(1024, min=1, help="Without a trace: mean tokens of a prompt."),
    output_len: int = typer.Option(128, min=1, help="Without a trace: mean tokens of an answer."),
    range_ratio: float = typer.Option(0.0, help="Without a trace: lengths are uniform in [len·(1-r), len·(1+r)]."),
    request_rate: float | None = typer.Option(None, help="Without a trace: requests a second, at random times."),
    concurrency: int | None = typer.Option(None, min=1, help="Keep so many requests under way instead."),
    replicas: int | None = typer.Option(None, min=1, help="Number of replicas. [default: 1]"),
    policy: str = typer.Option(
        "least-outstanding",
        help="Balancing: round-robin, random, least-outstanding, least-tokens, least-kv or prefix-affinity.",
    ),
    max_model_len: int | None = count_option("Longest prompt plus output; a trace is cut to it.", minimum=2),
    max_num_seqs: int | None = count_option("Most sequences that run at the same time."),
    max_num_batched_tokens: int | None = count_option("Most tokens computed in one step."),
    num_kv_blocks: int | None = count_option("Blocks of each replica's KV cache."),
    enable_prefix_caching: bool = typer.Option(True, help="Reuse the KV cache of equal prefixes."),
    seed: int = typer.Option(0, min=0, help="Of lengths, arrival times and the random policy."),
    slo: str | None = typer.Option(None, metavar="NAME:TIME,…", help="Objectives, e.g. ttft:500ms,tpot:33ms."),
    find_replicas: bool = typer.Option(False, "--find-replicas", help="Find the least number that meets --slo."),
    slo_attainment: float = typer.Option(0.95, help="Part of the requests that must meet --slo."),
    max_replicas: int = typer.Option(1024, min=1, help="Where --find-replicas gives up."),
    price_per_hour: float | None = typer.Option(None, min=0, help="Of one replica in US dollars."),
    output: Path | None = typer.Option(None, metavar="FILE", help="JSON file for the result."),
    html: Path | None = typer.Option(None, metavar="FILE", help="HTML file for the report."),
    png: Path | None = typer.Option(None, metavar="FILE", help="With --find-replicas: PNG file of its curve."),
) -> int:
    """Serve a load in virtual time, with the engine's own scheduler and KV cache on simulated replicas.

    Step times come from a calibration of this machine (octavo plan --calibrate) or, with --gpu, from the GPU's data
    sheet. With --find-replicas the exit code is 1 if no number of replicas meets the objectives.
    """
    from octavo.bench.slo import parse_slo  # these need numpy, which wrong flags need not wait for
    from octavo.simulate.hardware import Overrides, find_hardware
    from octavo.simulate.load import Load
    from octavo.simulate.simulation import SimulationSettings

    if find_replicas and (replicas is not None or slo is None):
        raise ConfigError("--find-replicas needs --slo, and finds out the number that --replicas would set")
    if png is not None and not find_replicas:
        raise ConfigError("--png is the curve of --find-replicas; a single simulation has --html")
    load = Load(
        trace=trace,
        trace_speed=trace_speed,
        trace_start_s=trace_start,
        num_prompts=num_prompts,
        input_len=input_len,
        output_len=output_len,
        range_ratio=range_ratio,
        request_rate=request_rate,
        seed=seed,
    )
    hardware = find_hardware(
        model,
        Overrides(
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            num_blocks=num_kv_blocks,
            enable_prefix_caching=enable_prefix_caching,
        ),
        gpu=gpu,
        calibration=calibration,
        tensor_parallel_size=tensor_parallel_size,
        dtype=dtype,
        quantization=quantization,
        price_per_hour=price_per_hour,
    )
    settings = SimulationSettings(
        replica=hardware.replica, num_replicas=replicas or 1, policy=policy, max_concurrency=concurrency, seed=seed
    )
    objectives = parse_slo(slo) if slo is not None else None
    if objectives is not None and find_replicas:
        return _search(hardware, load, settings, objectives, slo_attainment, max_replicas, output, html, png)
    return _simulate_once(hardware, load, settings, objectives, output, html)


def _simulate_once(
    hardware: SimulatedHardware,
    load: Load,
    settings: SimulationSettings,
    slo: Slo | None,
    output: Path | None,
    html: Path | None,
) -> int:
    from octavo.bench.html_report import write_html_report
    from octavo.bench.records import write_result
    from octavo.simulate.load import make_requests
    from octavo.simulate.result import describe_settings, make_result
    from octavo.simulate.simulation import simulate as run

    requests, warnings = make_requests(load, settings.replica.max_num_tokens)
    started = time.perf_counter()
    outcome = run(requests, settings)
    elapsed_s = time.perf_counter() - started
    result = make_result(outcome, hardware, settings=describe_settings(load, settings), slo=slo, warnings=warnings)
    typer.echo(f"{hardware.model} on {settings.num_replicas} x ({hardware.target})")
    typer.echo(f"simulated {result.summary.duration_s:,.1f} s in {elapsed_s:.1f} s, {outcome.num_steps:,} steps")
    _print_summary(result.summary, outcome.num_preemptions)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    for path, write in ((output, write_result), (html, write_html_report)):
        if path is not None:
            write(result, path)
            typer.echo(f"wrote {path}", err=True)
    return 0


def _search(
    hardware: SimulatedHardware,
    load: Load,
    settings: SimulationSettings,
    slo: Slo,
    target_attainment: float,
    max_replicas: int,
    output: Path | None,
    html: Path | None,
    png: Path | None,
) -> int:
    import msgspec

    from octavo.bench.files import write_whole
    from octavo.simulate.load import make_requests
    from octavo.simulate.replica_search import find_replicas
    from octavo.simulate.result import describe_settings
    from octavo.simulate.search_report import describe_search, search_table, write_search_png, write_search_report
    from octavo.simulate.simulation import simulate as run

    requests, warnings = make_requests(load, settings.replica.max_num_tokens)
    search = find_replicas(
        lambda num_replicas: run(requests, replace(settings, num_replicas=num_replicas)),
        slo,
        target_attainment=target_attainment,
        max_replicas=max_replicas,
        price_per_hour=hardware.price_per_hour,
        progress=lambda point: typer.echo(
            f"replicas: {point.num_replicas}, attainment: {point.attainment:.4f}", err=True
        ),
    )
    typer.echo(f"{hardware.model} on {hardware.target}")
    typer.echo(describe_search(search))
    if hardware.price_source:
        typer.echo(f"price: {hardware.price_source}")
    _print_table(*search_table(search))
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    if output is not None:
        write_whole(output, msgspec.json.format(msgspec.json.encode(search), indent=1))
    if html is not None:
        write_search_report(
            search,
            html,
            title=f"{hardware.model} on {hardware.target}",
            settings=describe_settings(load, settings),
            warnings=warnings,
        )
    if png is not None:
        write_search_png(search, png)
    for path in (output, html, png):
        if path is not None:
            typer.echo(f"wrote {path}", err=True)
    return 0 if search.needed is not None else 1


def _print_summary(summary: Summary, num_preemptions: int) -> None:
    typer.echo(f"requests            {summary.num_successful:,}, {summary.request_throughput:.2f} a second")
    typer.echo(f"input tokens        {summary.total_input_tokens:,}, {summary.total_cached_tokens:,} from the cache")
    typer.echo(f"output tokens       {summary.total_output_tokens:,}, {summary.output_throughput:,.1f} a second")
    typer.echo(f"under way           {summary.mean_concurrency:.1f} on average, {summary.max_concurrency} at most")
    typer.echo(f"preemptions         {num_preemptions:,}")
    for label, values in (("TTFT", summary.ttft_ms), ("TPOT", summary.tpot_ms), ("end to end", summary.e2e_ms)):
        if values is not None:
            typer.echo(f"{label + ', ms':<20}p50 {values.p50:,.1f}   p90 {values.p90:,.1f}   p99 {values.p99:,.1f}")
    if summary.goodput is not None:
        typer.echo(f"goodput             {summary.goodput:.2f} requests a second within the objectives")


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
