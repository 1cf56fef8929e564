"""Hermes: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, as Qwen, Hermes and octavo-nano write calls."""

from __future__ import annotations

from octavo.text.text_source import Reading
from octavo.text.tool_parsers.base import ToolParser

BEGIN = "<tool_call>"
END = "</tool_call>"


class HermesParser(ToolParser):
    """Calls stand between tags, anywhere in the text. Without its closing tag a call is still one."""

    def _read(self) -> Reading[None]:
        yield
        source = self._source
        while (yield from self._read_content((BEGIN,))):
            yield from source.skip_spaces()
            is_object = (yield from source.peek()) == "{"
            whole = (yield from self._read_json_call()) if is_object else None
            if whole is None:
                self._give_back(len(BEGIN))
                continue
            if whole:
                yield from source.skip_spaces()
                yield from source.take(END)
            self._end_call(whole=whole)
