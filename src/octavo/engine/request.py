"""One sequence as the scheduler sees it: its tokens, how many of them are computed, and the blocks that it holds."""

from __future__ import annotations

import enum
import hashlib
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.engine.messages import EngineRequest, TokenLogprobs
    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.structured.state import GrammarState


class RequestStatus(enum.Enum):
    """Where a request stands. A preempted request is waiting again."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    FINISHED = enum.auto()


class Request:
    """State of one sequence.

    Every request wants ``num_computed_tokens`` to reach ``num_tokens``; prefill, decode and resumption after preemption
    differ only in the numbers.

    Attributes:
        token_ids: prompt and output tokens that are known.
        num_tokens: known tokens plus those that steps in flight are going to sample.
        num_computed_tokens: tokens that have (or, once the steps in flight are done, will have) keys and values.
        max_num_tokens: prompt plus output at most.
        block_ids: blocks held, in order of position.
        next_publication: number of computed tokens from which on another full block can be shared.
        row: place in the runner's buffers while running.
        prompt_logprobs: of the prompt's tokens but the first, as far as they are computed, if they were asked for.
        may_share_tokens: whether what the request says may be guessed in others; not if it has a ``cache_salt``.
        num_cached_tokens: prompt tokens found in the prefix cache when the request was first admitted; -1 before that.
        grammar: what may follow the known tokens; None for free text.
    """

    __slots__ = (
        "_block_hashes",
        "_hash_seed",
        "arrival",
        "bad_word_ids",
        "block_ids",
        "grammar",
        "lora_id",
        "max_num_tokens",
        "may_share_tokens",
        "next_publication",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_published_blocks",
        "num_tokens",
        "priority",
        "prompt_len",
        "prompt_logprobs",
        "request_id",
        "row",
        "sampling_params",
        "seed",
        "status",
        "stop_token_ids",
        "token_ids",
    )

    def __init__(self, message: EngineRequest, *, arrival: int, hash_extra: bytes = b"") -> None:
        params = message.sampling_params
        self.request_id: str = message.request_id
        self.token_ids: list[int] = list(message.prompt_token_ids)
        self.prompt_len: int = len(self.token_ids)
        self.num_tokens: int = self.prompt_len
        self.max_num_tokens: int = self.prompt_len + message.max_tokens
        self.num_computed_tokens: int = 0
        self.num_cached_tokens: int = -1
        self.num_published_blocks: int = 0
        self.next_publication: int = 0
        self.block_ids: list[int] = []
        self.row: int = -1
        self.status: RequestStatus = RequestStatus.WAITING
        self.priority: int = message.priority
        self.arrival: int = arrival
        self.sampling_params: SamplingParams = params
        self.seed: int = message.seed
        self.grammar: GrammarState | None = None
        self.bad_word_ids: list[list[int]] = message.bad_word_ids
        self.lora_id: int = message.lora_id
        self.stop_token_ids: frozenset[int] = frozenset(params.stop_token_ids)
        if not params.ignore_eos:
            self.stop_token_ids |= frozenset(message.eos_token_ids)
        self.may_share_tokens: bool = not message.cache_salt
        self.prompt_logprobs: list[TokenLogprobs] = []
        self._hash_seed: bytes = hashlib.blake2b(
            message.cache_salt.encode() + b"\0" + hash_extra, digest_size=16
        ).digest()
        self._block_hashes: list[bytes] = []

    @property
    def is_finished(self) -> bool:
        """Whether the request has ended for any reason."""
        return self.status is RequestStatus.FINISHED

    @property
    def num_unscored_tokens(self) -> int:
        """Tokens of the prompt whose log-probabilities are still to be computed."""
        if self.sampling_params.prompt_logprobs is None:
            return 0
        return self.prompt_len - 1 - len(self.prompt_logprobs)

    @property
    def num_output_tokens(self) -> int:
        """Output tokens that are known."""
        return len(self.token_ids) - self.prompt_len

    def block_hashes(self, block_size: int) -> list[bytes]:
        """Return the chained hashes of the blocks that the known tokens fill.

        Each hash covers all tokens up to the end of its block and whatever else changes their keys and values, so equal
        hashes mean equal contents.
        """
        hashes = self._block_hashes
        for start in range(len(hashes) * block_size, len(self.token_ids) - block_size + 1, block_size):
            parent = hashes[-1] if hashes else self._hash_seed
            tokens = array("q", self.token_ids[start : start + block_size]).tobytes()
            hashes.append(hashlib.blake2b(parent + tokens, digest_size=16).digest())
        return hashes
