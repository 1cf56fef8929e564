"""Prompts in a JSONL file, results in another: one object a line, in the same order, with the input's fields kept."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from octavo.engine.outputs import RequestOutput
from octavo.engine.sampling_params import SamplingParams
from octavo.errors import RequestError

SAMPLING_FIELDS = frozenset(SamplingParams.__struct_fields__) - {"output_kind"}
_PROMPT_FIELDS = ("prompt", "messages")
_LIKELY_A_TYPO = 0.85

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One line that can be run."""

    record: Record
    params: SamplingParams

    @property
    def is_chat(self) -> bool:
        """Whether the line has messages instead of a prompt."""
        return "messages" in self.record


@dataclass(frozen=True, slots=True)
class Refused:
    """One line that cannot be run, and why."""

    record: Record
    error: str


def read_jobs(lines: Iterable[str], defaults: Mapping[str, Any]) -> Iterator[Job | Refused]:
    """Read the lines of a JSONL file; empty lines are passed over.

    Args:
        defaults: sampling parameters of lines that do not say otherwise.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read_job(line, number, defaults)


def in_chunks(jobs: Iterator[Job | Refused], size: int) -> Iterator[list[Job | Refused]]:
    """Yield lists of at most ``size`` jobs, so that a large file is never held in memory."""
    while chunk := list(islice(jobs, size)):
        yield chunk


def make_params(fields: Mapping[str, Any]) -> SamplingParams:
    """Return sampling parameters.

    Raises:
        RequestError: a value has the wrong type or is out of range.
    """
    try:
        return msgspec.convert(dict(fields), SamplingParams)
    except msgspec.ValidationError as error:
        # msgspec wraps an error of __post_init__; its cause is our own, with the better message.
        if isinstance(error.__cause__, RequestError):
            raise error.__cause__ from None
        raise RequestError(str(error).replace(" - at `$.", " in `")) from None


def result_of(job: Job, output: RequestOutput) -> Record:
    """Return the line that says what was generated."""
    generated = [
        {"text": one.text, "finish_reason": one.finish_reason, "num_tokens": len(one.token_ids)}
        for one in output.outputs
    ]
    return {**_without_result(job.record), "outputs": generated}


def error_of(refused: Refused) -> Record:
    """Return the line that says why nothing was generated."""
    return {**_without_result(refused.record), "error": refused.error}


def _without_result(record: Record) -> Record:
    """Drop what an earlier run wrote, so that a file of results can be run again."""
    return {name: value for name, value in record.items() if name not in ("outputs", "error")}


def _read_job(line: str, number: int, defaults: Mapping[str, Any]) -> Job | Refused:
    try:
        record = json.loads(line)
    except ValueError as error:
        return Refused({"line": number}, f"line {number} is not JSON: {error}")
    if not isinstance(record, dict):
        return Refused({"line": number}, f"line {number} is not a JSON object")
    try:
        _check_record(record)
        sampling = {name: value for name, value in record.items() if name in SAMPLING_FIELDS}
        return Job(record, make_params({**defaults, **sampling}))
    except RequestError as error:
        return Refused(record, str(error))


def _check_record(record: Record) -> None:
    given = [name for name in _PROMPT_FIELDS if name in record]
    if len(given) != 1:
        raise RequestError("the line must have either 'prompt' or 'messages'" + (", not both" if given else ""))
    if given == ["prompt"] and not isinstance(record["prompt"], str):
        raise RequestError(f"'prompt' must be a text, not {type(record['prompt']).__name__}")
    messages = record.get("messages")
    if given == ["messages"] and not (messages and isinstance(messages, list) and all(map(_is_message, messages))):
        raise RequestError("'messages' must be a list of objects with 'role' and 'content', and not empty")
    for name in record.keys() - SAMPLING_FIELDS:
        near = difflib.get_close_matches(name, SAMPLING_FIELDS, n=1, cutoff=_LIKELY_A_TYPO)
        if near:
            raise RequestError(f"there is no sampling parameter {name!r}; did you mean {near[0]!r}?")


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value
