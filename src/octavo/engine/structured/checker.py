"""Tries the grammars of requests before the engine sees them, in a process that may die of them."""

from __future__ import annotations

import hashlib
import json
import logging
import select
import subprocess
import sys
import threading
from collections import OrderedDict

from octavo.engine.structured.limits import explain
from octavo.errors import RequestError

_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 30.0
_NUM_REMEMBERED = 1024

logger = logging.getLogger(__name__)


class GrammarChecker:
    """A process that compiles grammars, and what it said of those that it has seen.

    Every method may be called from several threads; checks of grammars that are not remembered take turns.

    Args:
        timeout_s: longest time for one grammar.
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._verdicts: OrderedDict[bytes, str] = OrderedDict()
        self._is_closed = False

    def check(self, grammar: str) -> None:
        """Return if the grammar can be compiled.

        Raises:
            RequestError: it is wrong, or takes more time or memory than a request may.
        """
        key = hashlib.blake2b(grammar.encode(), digest_size=16).digest()
        with self._lock:
            verdict = self._verdicts.get(key)
            if verdict is None:
                verdict = self._verdicts[key] = self._ask(grammar)
                if len(self._verdicts) > _NUM_REMEMBERED:
                    self._verdicts.popitem(last=False)
            else:
                self._verdicts.move_to_end(key)
        if verdict:
            raise RequestError(explain(verdict), param="structured_outputs")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._is_closed = True
            self._stop()

    def _ask(self, grammar: str) -> str:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(grammar).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._stop()
            return "it could not be compiled"
        if not select.select([process.stdout], [], [], self._timeout_s)[0]:
            self._stop()
            return f"it takes more than {self._timeout_s:g} seconds to compile"
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._stop()
            logger.warning("a grammar ended the process that checks them (exit code %d); it was refused", code)
            return "it is too complex to be compiled"
        message: str = json.loads(line)
        return message

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the process, started if there is none and ready for the time limit to count."""
        if self._is_closed:
            raise RequestError("the server is shutting down")
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "octavo.engine.structured.check_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(b'"start: \\"a\\""\n')
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], _START_TIMEOUT_S)[0]:
                raise RuntimeError("the process that checks grammars does not start")
            self._process.stdout.readline()
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
