"""Recorded traffic: when requests came, how many tokens they had, and which prefixes they shared.

Two public forms are read: CSV as of the Azure LLM inference traces (TIMESTAMP, ContextTokens, GeneratedTokens), and
JSONL as of the Mooncake traces (timestamp in ms, input_length, output_length, hash_ids of blocks of 512 tokens).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import msgspec

from octavo.errors import ConfigError

HASH_BLOCK_TOKENS = 512
_CSV_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace.

    Attributes:
        arrival_s: seconds after the first request of the trace (or of the slice that was read).
        input_tokens, output_tokens: at least 1 each.
        hash_ids: one id for each begun block of 512 input tokens; blocks of one id have the same tokens. None where
            the trace does not say what requests share.
    """

    arrival_s: float
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...] | None = None


class _MooncakeLine(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] | None = None


def read_trace(
    path: Path, *, start_s: float = 0.0, max_requests: int | None = None, speed: float = 1.0
) -> list[TraceRequest]:
    """Read a trace, earliest request first.

    Args:
        path: a ``.csv`` or ``.jsonl`` file; with another ending the first character decides.
        start_s: leave out what came earlier than this many seconds (of the trace's own time) after its first request.
        max_requests: read this many at most; None reads all.
        speed: 2.0 replays twice as fast.

    Raises:
        ConfigError: the file cannot be read, is of neither form, or has no request in the slice; the message names
            the line.
    """
    if speed <= 0:
        raise ConfigError(f"the speed of a trace must be above 0, not {speed}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            requests = sorted(_read_requests(lines, path), key=lambda request: request.arrival_s)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}") from error
    if not requests:
        raise ConfigError(f"{path} has no requests")
    first_s, last_s = requests[0].arrival_s, requests[-1].arrival_s
    kept = [request for request in requests if request.arrival_s - first_s >= start_s][:max_requests]
    if not kept:
        raise ConfigError(f"{path} has no requests after {start_s:g} s: it is {last_s - first_s:.0f} s long")
    origin_s = kept[0].arrival_s
    return [replace(request, arrival_s=(request.arrival_s - origin_s) / speed) for request in kept]


def clip_trace(requests: Sequence[TraceRequest], max_model_len: int) -> tuple[list[TraceRequest], int]:
    """Shorten the requests that a model cannot take.

    Of a request that is too long, each of input and output keeps what it needs up to half of ``max_model_len``, and
    the longer one gets the rest.

    Returns:
        All requests, and how many of them were shortened.
    """
    clipped = [_clip(request, max_model_len) for request in requests]
    return clipped, sum(after is not before for before, after in zip(requests, clipped, strict=True))


def _clip(request: TraceRequest, max_model_len: int) -> TraceRequest:
    if request.input_tokens + request.output_tokens <= max_model_len:
        return request
    output_tokens = min(request.output_tokens, max(max_model_len // 2, max_model_len - request.input_tokens))
    input_tokens = min(request.input_tokens, max_model_len - output_tokens)
    num_blocks = -(-input_tokens // HASH_BLOCK_TOKENS)
    hash_ids = None if request.hash_ids is None else request.hash_ids[:num_blocks]
    return replace(request, input_tokens=input_tokens, output_tokens=output_tokens, hash_ids=hash_ids)


def _read_requests(lines: Iterable[str], path: Path) -> Iterator[TraceRequest]:
    """Yield the requests with the arrival times of the file: seconds since whatever moment."""
    rest = iter(lines)
    first = next(rest, "")
    is_jsonl = first.lstrip().startswith("{") if path.suffix not in (".csv", ".jsonl") else path.suffix == ".jsonl"
    read = _read_jsonl if is_jsonl else _read_csv
    return read(chain([first], rest) if first else rest, path)


def _read_csv(lines: Iterator[str], path: Path) -> Iterator[TraceRequest]:
    reader = csv.reader(lines)
    header = next(reader, [])
    if any(column not in header for column in _CSV_COLUMNS):
        raise ConfigError(
            f"{path} must have the columns {', '.join(_CSV_COLUMNS)} in its first line; it has {', '.join(header)}"
        )
    time_at, input_at, output_at = (header.index(column) for column in _CSV_COLUMNS)
    for row in reader:
        if not row:
            continue
        try:
            yield _request(_seconds(row[time_at]), int(row[input_at]), int(row[output_at]), None)
        except (ValueError, LookupError) as error:
            raise ConfigError(f"{path}, line {reader.line_num}: {error}") from error


def _read_jsonl(lines: Iterator[str], path: Path) -> Iterator[TraceRequest]:
    decoder = msgspec.json.Decoder(_MooncakeLine)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = decoder.decode(line)
            yield _request(read.timestamp / 1e3, read.input_length, read.output_length, read.hash_ids)
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error


def _request(arrival_s: float, input_tokens: int, output_tokens: int, hash_ids: tuple[int, ...] | None) -> TraceRequest:
    if input_tokens < 0 or output_tokens < 0:
        raise ValueError(f"a request has {input_tokens} input tokens and {output_tokens} output tokens")
    if hash_ids is not None and len(hash_ids) != -(-input_tokens // HASH_BLOCK_TOKENS):
        raise ValueError(f"{len(hash_ids)} hash_ids do not fit {input_tokens} input tokens in blocks of 512")
    return TraceRequest(arrival_s, max(input_tokens, 1), max(output_tokens, 1), hash_ids)


def _seconds(timestamp: str) -> float:
    """Read a point in time (UTC unless it says otherwise), or plain seconds."""
    try:
        return float(timestamp)
    except ValueError:
        time = datetime.fromisoformat(timestamp.strip())
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
