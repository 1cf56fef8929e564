"""Requests whose grammars are being compiled. They join the scheduler's queue when that is done."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, NamedTuple

from octavo.errors import RequestError

if TYPE_CHECKING:
    from octavo.engine.request import Request
    from octavo.engine.structured.compiler import CompiledGrammar, GrammarCompiler


class _Pending(NamedTuple):
    request: Request
    grammar: Future[CompiledGrammar]


class GrammarQueue:
    """Holds requests until their grammars are there, in order of arrival."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self._compiler = compiler
        self._pending: dict[str, _Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._pending

    def requests(self) -> Iterator[Request]:
        """Yield the requests that wait."""
        return (pending.request for pending in self._pending.values())

    def add(self, request: Request, grammar: str) -> None:
        """Have a request's grammar compiled."""
        self._pending[request.request_id] = _Pending(request, self._compiler.submit(grammar))

    def abort(self, request_id: str) -> bool:
        """Drop a request; what nobody else waits for is not compiled. Returns whether there was one."""
        dropped = self._pending.pop(request_id, None)
        if dropped is None:
            return False
        if all(other.grammar is not dropped.grammar for other in self._pending.values()):
            dropped.grammar.cancel()
        return True

    def take_ready(self) -> tuple[list[Request], list[tuple[str, str]]]:
        """Return the requests that can go on, and ``(request id, why)`` of those that cannot."""
        ready: list[Request] = []
        failed: list[tuple[str, str]] = []
        for request_id, (request, grammar) in list(self._pending.items()):
            if not grammar.done():
                continue
            del self._pending[request_id]
            error = grammar.exception()
            if error is None:
                request.grammar = grammar.result().start()
                ready.append(request)
            elif isinstance(error, RequestError):
                failed.append((request_id, str(error)))
            else:
                raise error
        return ready, failed

    def wait(self, timeout_s: float) -> None:
        """Wait until some grammar is ready, but not longer than ``timeout_s``."""
        wait([pending.grammar for pending in self._pending.values()], timeout_s, FIRST_COMPLETED)
