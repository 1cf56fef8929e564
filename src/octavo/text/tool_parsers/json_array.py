"""An answer that is a JSON array of calls: what a grammar makes a model write that has no format of its own."""

from __future__ import annotations

from octavo.text.text_source import Reading
from octavo.text.tool_parsers.base import ToolParser


class JsonArrayParser(ToolParser):
    """The array stands at the beginning of the answer."""

    def _read(self) -> Reading[None]:
        yield
        source = self._source
        yield from source.skip_spaces()
        self._write(source.release())
        if (yield from source.peek()) == "[":
            yield from self._read_json_array(num_chars_before=1)
        yield from self._read_content(())
