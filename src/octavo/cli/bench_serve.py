"""``octavo bench serve``: a load test of any server with OpenAI's API."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from octavo.bench.serve_settings import Arrivals, ServeSettings, Target
from octavo.bench.workload_options import OPTIONS, make_workload
from octavo.cli.arguments import build_command
from octavo.cli.number_options import count_option
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.bench.records import BenchResult

OUTPUT_OPTION = typer.Option(None, "--output", metavar="FILE", help="JSON file for the result.")
HTML_OPTION = typer.Option(None, "--html", metavar="FILE", help="HTML file for the report.")


def make_command() -> Any:
    """Return the command."""
    return build_command("serve", serve, load_options())


def serve(output: Path | None = OUTPUT_OPTION, html: Path | None = HTML_OPTION, **flags: Any) -> int:
    """Send requests to a server with OpenAI's API (Octavo, vLLM, llama-server, a cloud) and measure its answers.

    With --max-concurrency that many requests are always under way; with --request-rate they come at that rate, however
    slow the server is; with both, requests above the concurrency wait. Ctrl-C ends the test and shows what there is.
    The exit code is 0 if any request succeeded.
    """
    settings = load_settings(**flags)
    for path in (output, html):
        if path is not None and not path.parent.is_dir():  # told now, since the test may take an hour
            raise ConfigError(f"{path} cannot be written: there is no directory {path.parent}")
    result = measure(settings)
    from octavo.bench.html_report import write_html_report
    from octavo.bench.records import write_result

    for path, write in ((output, write_result), (html, write_html_report)):
        if path is not None:
            write(result, path)
            typer.echo(f"wrote {path}", err=True)
    return 0 if result.summary.num_successful else 1


def measure(settings: ServeSettings) -> BenchResult:
    """Run a test with its progress on the terminal, and print its figures."""
    from rich.console import Console

    from octavo.bench.serve import run_serve_benchmark  # needs numpy, which wrong flags need not wait for
    from octavo.bench.terminal import describe_result, live_progress

    with live_progress(Console(stderr=True)) as on_progress:
        result = run_serve_benchmark(settings, on_progress)
    typer.echo(describe_result(result))
    return result


def load_options() -> list[inspect.Parameter]:
    """Return the flags that ``load_settings`` takes."""
    parameters = inspect.signature(load_settings, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]


def load_settings(
    base_url: str = typer.Option("http://127.0.0.1:8000", metavar="URL", help="The server; with /v1 or without."),
    model: str | None = typer.Option(None, help="Model to ask for; by default the first one that the server lists."),
    endpoint: str = typer.Option("/v1/chat/completions", help="/v1/chat/completions or /v1/completions."),
    api_key: str | None = typer.Option(None, metavar="KEY", help="Key for the server. [default: $OPENAI_API_KEY]"),
    header: list[str] | None = typer.Option(None, metavar="'NAME: VALUE'...", help="Headers of every request."),
    tokenizer: Path | None = typer.Option(
        None, metavar="DIR", help="The model's tokenizer; by default the server's /tokenize, if it has one."
    ),
    stream: bool = typer.Option(True, "--stream/--no-stream", help="Ask for streamed answers."),
    ignore_eos: bool | None = typer.Option(
        None,
        "--ignore-eos/--no-ignore-eos",
        help="Generate up to the output length (fields ignore_eos and min_tokens). [default: on, off for jsonl]",
    ),
    temperature: float | None = typer.Option(None, help="Sampling temperature; by default the server's own."),
    extra_body: str | None = typer.Option(
        None, metavar="JSON", help="Further fields of every request; a field that is null is left out."
    ),
    timeout: float = typer.Option(600.0, metavar="SECONDS", help="Most time that a request may take."),
    num_prompts: int | None = typer.Option(
        None, help="Requests to send. [default: 1000, all of a file, or no limit with --duration]"
    ),
    duration: float | None = typer.Option(None, metavar="SECONDS", help="Send no request later than this."),
    num_warmups: int = typer.Option(0, "--num-warmups", "--warmup", help="Requests before the test; not counted."),
    seed: int = typer.Option(0, help="Seed of prompts, lengths and arrival times."),
    max_concurrency: int | None = typer.Option(
        None, "--max-concurrency", "--concurrency", help="Most requests under way."
    ),
    request_rate: float = typer.Option(float("inf"), help="Requests a second; inf sends all at once."),
    burstiness: float = typer.Option(
        1.0, help="Shape of the gamma distribution of arrivals: 1 is Poisson, less is burstier, inf regular."
    ),
    ramp_up_strategy: str | None = typer.Option(None, help="linear or exponential: change the rate over the test."),
    ramp_up_start_rps: float | None = typer.Option(None, help="Requests a second at the start of the ramp-up."),
    ramp_up_end_rps: float | None = typer.Option(None, help="Requests a second at its end."),
    slo: str | None = typer.Option(
        None, metavar="NAME:TIME,...", help="Objectives for the goodput, e.g. ttft:500ms,tpot:33ms,itl:0.1s,e2e:2s."
    ),
    dataset_name: str = typer.Option("random", help="random, shared-prefix, multi-turn, jsonl or trace."),
    random_input_len: int | None = typer.Option(None, help="Tokens of a prompt (of each turn). [default: 1024]"),
    random_output_len: int | None = typer.Option(None, help="Tokens of an answer. [default: 128]"),
    random_range_ratio: float | None = typer.Option(
        None, help="Lengths vary by this part of themselves, both ways; below 1. [default: 0]"
    ),
    prefix_repetition_num_prefixes: int | None = typer.Option(None, help="Shared prefixes. [default: 10]"),
    prefix_repetition_prefix_len: int | None = typer.Option(None, help="Tokens of each. [default: 256]"),
    prefix_repetition_suffix_len: int | None = typer.Option(None, help="Tokens after the prefix. [default: 256]"),
    prefix_repetition_output_len: int | None = typer.Option(None, help="Tokens of an answer. [default: 128]"),
    num_turns: int | None = typer.Option(None, help="Turns of a multi-turn conversation. [default: 4]"),
    think_time: float | None = typer.Option(
        None, metavar="SECONDS", help="Between an answer and the next turn. [default: 0]"
    ),
    dataset_path: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="JSONL with prompt or messages (and output_tokens) a line; or a trace: CSV with TIMESTAMP, ContextTokens, "
        "GeneratedTokens, or JSONL as of Mooncake.",
    ),
    custom_output_len: int | None = typer.Option(
        None, help="Most tokens of an answer where a line of jsonl does not say. [default: 256]"
    ),
    trace_speed: float | None = typer.Option(None, help="Replay a trace this many times as fast. [default: 1]"),
    trace_start: float | None = typer.Option(None, metavar="SECONDS", help="Begin here in the trace. [default: 0]"),
    max_model_len: int | None = count_option("Shorten longer requests of a trace to this many tokens."),
) -> ServeSettings:
    """Return the settings that the flags describe.

    Raises:
        ConfigError: a value is wrong.
    """
    given = dict(locals())  # the flags, before anything else gets a name here
    from octavo.bench.slo import parse_slo  # this needs numpy, which other wrong flags need not wait for

    return ServeSettings(
        target=Target(
            base_url=base_url,
            model=model,
            endpoint=endpoint,
            api_key=api_key or os.environ.get("OPENAI_API_KEY"),
            headers=dict(map(_parse_header, header or ())),
            stream=stream,
            ignore_eos=ignore_eos,
            temperature=temperature,
            extra_body=_parse_object(extra_body),
            timeout_s=timeout,
            tokenizer=tokenizer,
        ),
        workload=make_workload(dataset_name, {name: given[name] for name in OPTIONS}),
        arrivals=Arrivals(
            max_concurrency=max_concurrency,
            request_rate=request_rate,
            burstiness=burstiness,
            ramp_up_strategy=ramp_up_strategy,  # type: ignore[arg-type]  # Arrivals checks it
            ramp_up_start_rps=ramp_up_start_rps,
            ramp_up_end_rps=ramp_up_end_rps,
        ),
        num_prompts=num_prompts,
        duration_s=duration,
        num_warmups=num_warmups,
        seed=seed,
        slo=parse_slo(slo) if slo is not None else None,
    )


def _parse_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"header {text!r} must be written as 'NAME: VALUE'")
    return name.strip(), value.strip()


def _parse_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"flag --extra-body is not JSON ({error}): {text}") from error
    if not isinstance(parsed, dict):
        raise ConfigError(f"flag --extra-body must be a JSON object, not {text}")
    return parsed
