"""The progress bar of offline use: requests done and tokens a second."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

_REFRESH_S = 0.1


class GenerationProgress:
    """A bar on standard error while the context is open; shows nothing if not enabled or not in a terminal."""

    def __init__(self, num_requests: int, *, enabled: bool, title: str = "Generating") -> None:
        self._num_requests = num_requests
        self._enabled = enabled
        self._title = title
        self._progress: Progress | None = None
        self._num_tokens = 0
        self._started = 0.0
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._enabled:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(stderr=True)
            self._progress = Progress(
                TextColumn(self._title),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[speed]:.1f} tokens/s"),
                console=console,
                disable=not console.is_terminal,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=self._num_requests, speed=0.0)
            self._started = time.monotonic()
        return self

    def update(self, num_finished: int, num_new_tokens: int) -> None:
        """Say how many requests are done in all, and how many tokens are new."""
        self._num_tokens += num_new_tokens
        now = time.monotonic()
        if self._progress is not None and (now - self._shown_at > _REFRESH_S or num_finished == self._num_requests):
            self._shown_at = now
            speed = self._num_tokens / max(now - self._started, 1e-9)
            self._progress.update(self._task, completed=num_finished, speed=speed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
