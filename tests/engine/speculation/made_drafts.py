"""Proposers whose drafts a test decides on, the scheduler's view of them, an engine, and all that its outputs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from octavo import LLM
from octavo.engine.outputs import RequestOutput
from octavo.engine.request import Request


class ScriptedProposer:
    """Proposes what a function of the known tokens and the greatest length returns."""

    def __init__(self, guess: Callable[[list[int], int], list[int]], *, computes: bool = False) -> None:
        self._guess = guess
        self.computes = computes
        self.forgotten: list[str] = []

    def num_behind(self, request: Request) -> int:
        return 0

    def propose(self, requests: Sequence[Request], max_lens: Sequence[int]) -> list[list[int]]:
        return [
            self._guess(list(request.token_ids), max_len)[:max_len]
            for request, max_len in zip(requests, max_lens, strict=True)
        ]

    def forget(self, request: Request) -> None:
        self.forgotten.append(request.request_id)


def engine(checkpoint: Path, **settings: Any) -> LLM:
    settings = {"max_model_len": 128, "kv_cache_memory_bytes": "4MiB", "max_num_seqs": 8} | settings
    return LLM(str(checkpoint), **settings)


def what_was_said(outputs: list[RequestOutput]) -> list[list[tuple[Any, ...]]]:
    return [
        [
            (list(o.token_ids), o.text, o.logprobs, o.cumulative_logprob, o.finish_reason, o.stop_reason)
            for o in output.outputs
        ]
        for output in outputs
    ]
