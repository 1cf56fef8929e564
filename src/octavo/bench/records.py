"""What a load test writes down about each request, and the file that a test leaves behind.

The simulator fills the same records with virtual times, so that a prediction and a measurement are summarised, drawn
and compared by the same code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from octavo.bench.files import write_whole
from octavo.bench.summary import Summary
from octavo.errors import ConfigError

SCHEMA_VERSION = 1


class RequestRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request. All times are seconds since the start of the test.

    Attributes:
        scheduled_at: when it was due; in a closed loop the moment at which its slot became free.
        sent_at: when it was sent.
        chunk_times: arrival of each streamed piece that carried tokens, first token included; empty if not streamed.
        finished_at: when the answer was complete, or the error was known.
        input_tokens, output_tokens: as the server's usage says, or as counted by a tokenizer where it says nothing.
        cached_tokens: input tokens that the server took from its prefix cache.
        error: kind of failure (``http_503``, ``connection``, ``timeout``, ``stream``, …), None if it succeeded.
        error_message: the failure in the server's or the system's own words.
        replica: which simulated replica served it.
        connect_s: what a new connection cost before the request was sent; 0 on one that was open.
    """

    index: int
    scheduled_at: float
    sent_at: float
    finished_at: float
    chunk_times: list[float] = []
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None
    error_message: str = ""
    replica: int = 0
    connect_s: float = 0.0

    @property
    def ttft_s(self) -> float | None:
        """Seconds from sending to the first token; None without one."""
        return self.chunk_times[0] - self.sent_at if self.chunk_times else None

    @property
    def tpot_s(self) -> float | None:
        """Mean seconds per output token after the first; None with fewer than two.

        It is taken to the end of the answer: the last tokens may have no text of their own, and so no piece.
        """
        if not self.chunk_times or self.output_tokens < 2:
            return None
        return (self.finished_at - self.chunk_times[0]) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float:
        """Seconds from sending to the end of the answer."""
        return self.finished_at - self.sent_at


class BenchResult(msgspec.Struct, kw_only=True):
    """What one test leaves behind: how it was run, what came of it, and every request.

    Attributes:
        kind: ``serve`` for a measured server, ``simulate`` for a predicted one, ``throughput`` and ``latency`` for an
            offline engine.
        created_at: ISO 8601, UTC.
        target: the endpoint, or the model of an offline engine.
        settings: the options of the test, by name.
        environment: machine and versions, for the reader.
        warnings: what makes the figures doubtful, one sentence each.
    """

    kind: Literal["serve", "simulate", "throughput", "latency"]
    created_at: str
    octavo_version: str
    target: str
    model: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    summary: Summary
    records: list[RequestRecord]
    warnings: list[str] = []
    schema_version: int = SCHEMA_VERSION


def write_result(result: BenchResult, path: Path) -> None:
    """Write a result as JSON, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_whole(path, msgspec.json.encode(result))


def read_result(path: Path) -> BenchResult:
    """Read what ``write_result`` wrote.

    Raises:
        ConfigError: there is no such file, or it is not a result.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchResult)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not a result of octavo bench: {error}") from error
