"""The text of one generated sequence: tokens in, text deltas out, ended by the first stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.text.detokenizer import IncrementalDetokenizer
from octavo.text.stop_strings import StopStringMatcher
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What some tokens added to the text.

    Attributes:
        text: what can be shown now.
        stop_string: the stop string that ended the text, if one has.
        num_tokens_used: how many of the tokens given were taken, up to the one that completed the stop string.
    """

    text: str
    stop_string: str | None
    num_tokens_used: int


class TextStream:
    """Detokenises one sequence and watches for its stop strings, across token borders.

    A stop string counts only if it lies in the text that came after the first ``min_tokens`` tokens.

    Raises:
        RequestError: the stop strings are empty or too long.
    """

    __slots__ = ("_detokenizer", "_matcher", "_num_before_matching", "_stop_string")

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stop: Sequence[str] = (),
        include_stop_str_in_output: bool = False,
        skip_special_tokens: bool = True,
        min_tokens: int = 0,
    ) -> None:
        self._detokenizer = IncrementalDetokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
        self._matcher = StopStringMatcher(stop, include_stop_str_in_output) if stop else None
        self._num_before_matching = min_tokens
        self._stop_string: str | None = None

    def push(self, token_ids: Sequence[int], *, finished: bool) -> TextDelta:
        """Take the next tokens; with ``finished`` they are the last, and all text that was held back is released.

        Once a stop string was found, nothing more comes out.
        """
        if self._matcher is None:
            text = self._detokenizer.push(token_ids)
            if finished:
                text += self._detokenizer.finish()
            return TextDelta(text, None, len(token_ids))
        return self._push_watched(self._matcher, token_ids, finished)

    def _push_watched(self, matcher: StopStringMatcher, token_ids: Sequence[int], finished: bool) -> TextDelta:
        if self._stop_string is not None:
            return TextDelta("", self._stop_string, 0)
        texts: list[str] = []
        for num_used, token_id in enumerate(token_ids, start=1):
            self._watch(matcher, self._detokenizer.push((token_id,)), texts)
            if self._stop_string is not None:
                return TextDelta("".join(texts), self._stop_string, num_used)
            if self._num_before_matching:
                self._num_before_matching -= 1
        if finished:
            self._watch(matcher, self._detokenizer.finish(), texts)
            if self._stop_string is None:
                texts.append(matcher.finish())
        return TextDelta("".join(texts), self._stop_string, len(token_ids))

    def _watch(self, matcher: StopStringMatcher, delta: str, texts: list[str]) -> None:
        if self._num_before_matching:
            texts.append(delta)
            return
        text, self._stop_string = matcher.push(delta)
        texts.append(text)
