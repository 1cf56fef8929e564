"""What became of one engine request, written down while its outputs pass: for the log of requests, and for traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from octavo.engine.sampling_params import RequestOutputKind, SamplingParams
from octavo.observe.request_timing import RequestTiming

if TYPE_CHECKING:
    from octavo.engine.outputs import RequestOutput
    from octavo.engine.request_builder import Prompt
    from octavo.text import Tokenizer


@dataclass(slots=True)
class GenerationRecord:
    """One engine request.

    Attributes:
        request_id: the engine request's id: that of the answer, ``-``, and the index of the prompt.
        timing: when the request was where; the engine fills it while the request advances.
        num_kept_chars: characters of each output that ``texts`` keep.
        finish_reasons: of each sequence whose end was given out, by its index.
        texts: beginning of each sequence's output, by its index.
        error: what ended it, if an error did.
        is_finished: whether the last output has come; else it failed, or nobody wanted it any more.
    """

    request_id: str
    prompt: Prompt
    params: SamplingParams
    timing: RequestTiming
    num_kept_chars: int = 0
    finish_reasons: dict[int, str] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    error: Exception | None = None
    is_finished: bool = False

    @property
    def is_streamed(self) -> bool:
        """Whether outputs come as they are made."""
        return self.params.output_kind is RequestOutputKind.DELTA

    @property
    def was_accepted(self) -> bool:
        """Whether the engine took it."""
        return self.timing.max_tokens > 0

    @property
    def is_aborted(self) -> bool:
        """Whether it ended before its answer was complete, though nothing was wrong with it."""
        return self.error is None and (not self.is_finished or "abort" in self.finish_reasons.values())

    @property
    def ends(self) -> list[str]:
        """The finish reasons of all sequences, in their order; those that were broken off have ``abort``."""
        unknown = "abort" if self.is_aborted and self.was_accepted else ""
        reasons = (self.finish_reasons.get(index, unknown) for index in range(self.params.n))
        return [reason for reason in reasons if reason]

    def add(self, output: RequestOutput) -> None:
        """Take in an output of kind DELTA or FINAL_ONLY."""
        for sequence in output.outputs:
            if sequence.finish_reason is not None:
                self.finish_reasons[sequence.index] = sequence.finish_reason
            if self.num_kept_chars:
                text = self.texts.get(sequence.index, "") + sequence.text
                self.texts[sequence.index] = text[: self.num_kept_chars]
        self.is_finished = output.finished

    def prompt_text(self, tokenizer: Tokenizer, num_chars: int) -> str:
        """Return the first characters of the prompt."""
        given = _text_or_token_ids(self.prompt)
        if isinstance(given, str):
            return given[:num_chars]
        # A token is a character at least, but for those that are a part of one.
        return tokenizer.decode(given[: 4 * num_chars], skip_special_tokens=False)[:num_chars]

    def prompt_length(self) -> tuple[int, str]:
        """Return the length of the prompt as it was given, and its unit."""
        given = _text_or_token_ids(self.prompt)
        return len(given), "characters" if isinstance(given, str) else "tokens"


current_generations: ContextVar[list[GenerationRecord] | None] = ContextVar("octavo_generations", default=None)
"""Where the engine requests of the present HTTP request are collected; None if nobody wants to know."""


def _text_or_token_ids(prompt: Prompt) -> str | list[int]:
    if isinstance(prompt, Mapping):
        prompt = cast(Any, prompt.get("prompt_token_ids") or prompt.get("prompt") or "")
    return prompt if isinstance(prompt, str) else list(cast(Sequence[int], prompt))
