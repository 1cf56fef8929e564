"""The reasoning in a model's answer, apart from the answer itself: ``<think> … </think>``.

White space around both is left out: it stands between the tags and the text, and chat templates write their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from octavo.text.text_source import Reading, TextSource, num_chars_held


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a family of models writes its reasoning.

    Attributes:
        name: as ``--reasoning-parser`` has it.
        begins_open: whether an answer begins with reasoning though neither prompt nor answer open it.
    """

    name: str
    begins_open: bool
    begin: str = "<think>"
    end: str = "</think>"

    def is_open_after(self, prompt_end: str) -> bool:
        """Whether the answer to a prompt with this end begins in the middle of reasoning."""
        prompt_end = prompt_end.rstrip()
        if prompt_end.endswith(self.end):
            return False
        return self.begins_open or prompt_end.endswith(self.begin)


REASONING_FORMATS: Mapping[str, ReasoningFormat] = {
    "qwen3": ReasoningFormat("qwen3", begins_open=False),
    "deepseek_r1": ReasoningFormat("deepseek_r1", begins_open=True),
}


class ReasoningParser:
    """Reads one answer.

    Args:
        is_open: whether the answer begins in the middle of reasoning; else it reasons only if it begins with the tag.

    Attributes:
        is_reasoning: whether the text read so far ends in reasoning.
    """

    def __init__(self, style: ReasoningFormat, *, is_open: bool) -> None:
        self.is_reasoning = is_open
        self._style = style
        self._source = TextSource()
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._reading = self._read()
        next(self._reading)

    def push(self, text: str) -> tuple[str, str]:
        """Take the next part of the text; return what is new of the reasoning, and of the answer itself."""
        self._source.text += text
        next(self._reading, None)
        return self._take_parts()

    def finish(self) -> tuple[str, str]:
        """Return the rest of both: no more text will come."""
        self._source.has_ended = True
        next(self._reading, None)
        return self._take_parts()

    def _read(self) -> Reading[None]:
        yield
        source = self._source
        yield from source.skip_spaces()
        is_opened = yield from source.take(self._style.begin)
        if is_opened or self.is_reasoning:
            self.is_reasoning = True
            yield from source.skip_spaces()
            source.release()
            yield from self._read_reasoning()
            self.is_reasoning = False
            yield from source.skip_spaces()
        else:
            source.position = 0
        while True:
            source.release()
            self._content.append(source.text)
            source.position = len(source.text)
            if source.has_ended:
                return
            yield

    def _read_reasoning(self) -> Reading[None]:
        """Read up to the closing tag and over it; white space is held back as it may be the last."""
        source, end = self._source, self._style.end
        while True:
            place = source.text.find(end)
            if place >= 0:
                self._reasoning.append(source.text[:place].rstrip())
                source.position = place + len(end)
                source.release()
                return
            held = 0 if source.has_ended else num_chars_held(source.text, (end,))
            source.position = len(source.text[: len(source.text) - held].rstrip())
            self._reasoning.append(source.release())
            if source.has_ended:
                source.position = len(source.text)
                source.release()
                return
            yield

    def _take_parts(self) -> tuple[str, str]:
        parts = "".join(self._reasoning), "".join(self._content)
        self._reasoning.clear()
        self._content.clear()
        return parts
