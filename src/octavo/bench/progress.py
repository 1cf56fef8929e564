"""How a load test stands while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from octavo.bench.load import Load, Outcome

INTERVAL_S = 0.25
_RECENT_REQUESTS = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """Figures so far; medians are of the last 500 successful requests, None where there were none.

    Attributes:
        phase: ``warm-up`` or ``test``.
        num_requests, duration_s: where the test ends, as far as its settings say.
    """

    phase: str
    elapsed_s: float
    num_requests: int | None
    duration_s: float | None
    num_under_way: int
    num_done: int
    num_failed: int
    num_output_tokens: int
    ttft_ms: float | None
    tpot_ms: float | None


OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class ProgressMeter:
    """Counts what is over."""

    phase: str
    num_requests: int | None
    duration_s: float | None
    _num_done: int = 0
    _num_failed: int = 0
    _num_output_tokens: int = 0
    _ttft_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_REQUESTS))
    _tpot_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_REQUESTS))

    def add(self, outcome: Outcome) -> None:
        """Count one request."""
        record = outcome.record
        if record.error is not None:
            self._num_failed += 1
            return
        self._num_done += 1
        self._num_output_tokens += record.output_tokens
        if record.ttft_s is not None:
            self._ttft_s.append(record.ttft_s)
        if record.tpot_s is not None:
            self._tpot_s.append(record.tpot_s)

    def progress(self, load: Load) -> Progress:
        """Return how a load stands."""
        return Progress(
            phase=self.phase,
            elapsed_s=load.elapsed_s,
            num_requests=self.num_requests,
            duration_s=self.duration_s,
            num_under_way=load.num_under_way,
            num_done=self._num_done,
            num_failed=self._num_failed,
            num_output_tokens=self._num_output_tokens,
            ttft_ms=median(self._ttft_s) * 1e3 if self._ttft_s else None,
            tpot_ms=median(self._tpot_s) * 1e3 if self._tpot_s else None,
        )
