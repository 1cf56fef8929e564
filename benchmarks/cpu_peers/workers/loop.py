"""The worker's side of the conversation: one JSON object a line on standard input, one answer a line on output."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Prompts = Sequence[Sequence[int]]


class Engine(Protocol):
    """A loaded model. All is greedy, nothing ends early, and token ids go in.

    What an engine cannot do, it does not have; the benchmark knows.
    """

    def generate(self, prompts: Prompts, num_tokens: int) -> tuple[float, float]:
        """Generate in one batch, with nothing kept from earlier calls.

        Returns:
            Seconds until each prompt had its first token, and from there to the last token.
        """

    def serve(self, prompts: Prompts, num_tokens: int) -> list[list[float]]:
        """Take all prompts at once, batched continuously; return when each prompt's tokens came, in seconds."""

    def turns(self, first: Sequence[int], more: Sequence[int]) -> tuple[float, float]:
        """Answer a prompt with one token, then the same prompt with more behind it, with what the engine reuses.

        Returns:
            Seconds to the token of the first and of the second prompt.
        """


def run(make: Callable[..., Any]) -> None:
    """Make an ``Engine`` of the model that the first line describes, then call what further lines say until the end.

    What the peer prints goes to standard error. An exception is answered as an error; the worker goes on.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine: Any = None
    for line in sys.stdin:
        call = json.loads(line)
        name = call.pop("call")
        try:
            started = time.perf_counter()
            if name == "load":
                engine = make(**call)
                answer = {"load_s": time.perf_counter() - started, "version": engine.version}
            elif name == "memory":
                answer = {"pss_bytes": pss_bytes(os.getpid())}
            else:
                answer = {"result": getattr(engine, name)(**call)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def pss_bytes(pid: int) -> int:
    """Return a process's memory, pages that it shares counted in proportion."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
