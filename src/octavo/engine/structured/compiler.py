"""Compiles grammars beside the engine's loop, and keeps those that may be asked for again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from octavo.engine.structured.limits import explain, parser_limits
from octavo.engine.structured.state import GrammarState
from octavo.errors import RequestError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_CACHED_GRAMMARS = 256
MAX_CACHED_BYTES = 512 * 2**20
# Measured: large grammars take 60 to 260 bytes of memory for each byte of their text.
_BYTES_PER_GRAMMAR = 64 * 1024
_BYTES_PER_SOURCE_BYTE = 256


class CompiledGrammar:
    """A grammar that is ready for use; sequences start from copies of it."""

    def __init__(self, matcher: LLMatcher, *, eos_token_id: int, vocab_size: int) -> None:
        self._matcher = matcher
        self._eos_token_id = eos_token_id
        self._vocab_size = vocab_size

    def start(self) -> GrammarState:
        """Return the state of a sequence that has no tokens yet."""
        return GrammarState(self._matcher.deep_copy(), eos_token_id=self._eos_token_id, vocab_size=self._vocab_size)


class GrammarCompiler:
    """One thread that compiles, and the grammars compiled last.

    Args:
        load_vocabulary: called once, in the thread, when the first grammar comes.
        max_grammars, max_bytes: bounds of the cache; bytes are estimated from the size of a grammar's text.
    """

    def __init__(
        self,
        load_vocabulary: Callable[[], LLTokenizer],
        *,
        max_grammars: int = MAX_CACHED_GRAMMARS,
        max_bytes: int = MAX_CACHED_BYTES,
    ) -> None:
        self._load_vocabulary = load_vocabulary
        self._max_grammars = max_grammars
        self._max_bytes = max_bytes
        self._vocabulary: LLTokenizer | None = None
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, Future[CompiledGrammar]] = OrderedDict()
        self._num_bytes = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grammars")

    @property
    def num_cached(self) -> int:
        """Grammars that are compiled or about to be."""
        return len(self._cache)

    def submit(self, grammar: str) -> Future[CompiledGrammar]:
        """Have a grammar compiled; the future of one that is cached is done.

        The future's exception is a RequestError if the grammar is wrong or too complex.
        """
        with self._lock:
            known = self._cache.get(grammar)
            if known is not None and not known.cancelled():
                self._cache.move_to_end(grammar)
                return known
            if known is None:
                self._num_bytes += _cached_bytes(grammar)
            future = self._cache[grammar] = self._thread.submit(self._compile, grammar)
            while len(self._cache) > 1 and (len(self._cache) > self._max_grammars or self._num_bytes > self._max_bytes):
                oldest, _ = self._cache.popitem(last=False)
                self._num_bytes -= _cached_bytes(oldest)
            return future

    def _compile(self, grammar: str) -> CompiledGrammar:
        from llguidance import LLMatcher

        if self._vocabulary is None:
            self._vocabulary = self._load_vocabulary()
        vocabulary = self._vocabulary
        matcher = LLMatcher(vocabulary, grammar, limits=parser_limits(), log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # a grammar that nothing matches is found out by its first mask
        if matcher.is_error():
            raise RequestError(explain(matcher.get_error()), param="structured_outputs")
        return CompiledGrammar(matcher, eos_token_id=vocabulary.eos_token, vocab_size=vocabulary.vocab_size)


def _cached_bytes(grammar: str) -> int:
    return _BYTES_PER_GRAMMAR + _BYTES_PER_SOURCE_BYTE * len(grammar)
