"""``octavo generate``: text for one prompt, or for each line of a JSONL file, without a server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from octavo.cli.arguments import build_command
from octavo.cli.config_flags import CONFIG_OPTION, config_options, given_flags
from octavo.cli.jsonl import Job, Record, Refused, error_of, in_chunks, make_params, read_jobs, result_of
from octavo.config.schema import EngineConfig
from octavo.config.sources import load_config
from octavo.errors import ConfigError, RequestError
from octavo.observe.logging import set_up_logging

if TYPE_CHECKING:
    from octavo.engine.llm import LLM

_LINES_AT_ONCE = 1024


def make_command() -> Any:
    """Return the command."""
    return build_command("generate", generate, config_options(EngineConfig))


def generate(
    prompt: str | None = typer.Argument(None, metavar="PROMPT", help="The prompt.", show_default=False),
    chat: bool = typer.Option(False, "--chat", help="Take the prompt as a message to a chat model."),
    input_file: Path | None = typer.Option(
        None, "--input", metavar="FILE", help='JSONL file: {"prompt": …} or {"messages": …} and sampling fields a line.'
    ),
    output_file: Path | None = typer.Option(None, "--output", metavar="FILE", help="JSONL file for the results."),
    max_tokens: int = typer.Option(256, help="Most tokens to generate."),
    temperature: float | None = typer.Option(None, help="Sampling temperature; 0 takes the most likely token."),
    top_p: float | None = typer.Option(None, help="Nucleus sampling."),
    top_k: int | None = typer.Option(None, help="Choose among this many most likely tokens."),
    stop: list[str] | None = typer.Option(None, metavar="TEXT...", help="Texts that end the output."),
    config: Path | None = CONFIG_OPTION,
    **flags: Any,
) -> int:
    """Generate text for one prompt, or for each line of a JSONL file.

    A line of the input may have sampling fields (temperature, max_tokens, …), which go before the flags, and any
    other fields, which are kept. A line of the output has "outputs", or "error"; with an error the exit code is 1.
    """
    sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k, "stop": stop}
    defaults = {name: value for name, value in sampling.items() if value is not None}
    params = make_params(defaults)
    settings = load_config(EngineConfig, given_flags(None, flags), config_file=config, environ=os.environ)
    set_up_logging("warning", "generate")
    if prompt is not None and input_file is None and output_file is None:
        record = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        return _run_prompt(settings, Job(record, params))
    if prompt is None and not chat and input_file is not None and output_file is not None:
        return _run_file(settings, input_file, output_file, defaults)
    raise ConfigError("give either a prompt (with --chat as a message to a chat model), or both --input and --output")


def _run_prompt(settings: EngineConfig, job: Job) -> int:
    (result,) = _run_jobs(_load(settings), [job])
    if isinstance(result, Refused):
        raise RequestError(result.error)
    for output in result["outputs"]:
        typer.echo(output["text"])
    return 0


def _run_file(settings: EngineConfig, input_file: Path, output_file: Path, defaults: Mapping[str, Any]) -> int:
    num_lines = num_errors = 0
    with _open(input_file, "r") as lines, _open(output_file, "w") as results:
        llm = _load(settings)
        for chunk in in_chunks(read_jobs(lines, defaults), _LINES_AT_ONCE):
            for result in _run_jobs(llm, chunk):
                num_lines += 1
                num_errors += isinstance(result, Refused)
                record = error_of(result) if isinstance(result, Refused) else result
                results.write(json.dumps(record, ensure_ascii=False) + "\n")
            results.flush()
    if num_errors:
        typer.echo(f"octavo: {num_errors} of {num_lines} lines have an error; {output_file} says which", err=True)
    return 1 if num_errors else 0


def _open(path: Path, mode: str) -> IO[str]:
    try:
        return path.open(mode, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _load(settings: EngineConfig) -> LLM:
    from octavo.engine.llm import LLM  # reads the tokenizer's library, which wrong flags need not wait for

    return LLM(**settings.model_dump())


def _run_jobs(llm: LLM, jobs: Sequence[Job | Refused]) -> list[Record | Refused]:
    """Run prompts and conversations as two batches and put the results in the order of the jobs."""
    results: dict[int, Record | Refused] = {}
    for is_chat in (False, True):
        batch = {i: job for i, job in enumerate(jobs) if isinstance(job, Job) and job.is_chat is is_chat}
        results.update(zip(batch, _run_batch(llm, list(batch.values())), strict=True))
    return [job if isinstance(job, Refused) else results[i] for i, job in enumerate(jobs)]


def _run_batch(llm: LLM, jobs: list[Job]) -> list[Record | Refused]:
    """Run jobs of one kind. The engine refuses a batch as a whole: then its halves are run, down to the culprit."""
    if not jobs:
        return []
    params = [job.params for job in jobs]
    try:
        if jobs[0].is_chat:
            outputs = llm.chat([job.record["messages"] for job in jobs], params, use_tqdm=len(jobs) > 1)
        else:
            outputs = llm.generate([job.record["prompt"] for job in jobs], params, use_tqdm=len(jobs) > 1)
    except RequestError as error:
        if len(jobs) == 1:
            return [Refused(jobs[0].record, str(error))]
        middle = len(jobs) // 2
        return [*_run_batch(llm, jobs[:middle]), *_run_batch(llm, jobs[middle:])]
    return [result_of(job, output) for job, output in zip(jobs, outputs, strict=True)]
