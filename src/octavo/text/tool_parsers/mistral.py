"""Mistral: ``[TOOL_CALLS]`` before a JSON array of calls, or, in newer models, before each ``name[ARGS]{…}``."""

from __future__ import annotations

import re

from octavo.text.text_source import Reading
from octavo.text.tool_parsers.base import ToolParser, is_json_object

BEGIN = "[TOOL_CALLS]"
_CALL_ID = "[CALL_ID]"
_ARGUMENTS = "[ARGS]"
MARKERS = (BEGIN, _CALL_ID, _ARGUMENTS)
_NAME = re.compile(r"[A-Za-z0-9_.:-]")


class MistralParser(ToolParser):
    """Calls stand behind a control token, anywhere in the text."""

    def _read(self) -> Reading[None]:
        yield
        while (yield from self._read_content((BEGIN,))):
            yield from self._source.skip_spaces()
            if (yield from self._source.peek()) == "[":
                yield from self._read_json_array(num_chars_before=len(BEGIN))
            else:
                yield from self._read_named_call()

    def _read_named_call(self) -> Reading[None]:
        source = self._source
        name = yield from source.take_while(_NAME)
        if (yield from source.take(_CALL_ID)):
            yield from source.take_while(_NAME)
        yield from source.take(_ARGUMENTS)
        yield from source.skip_spaces()
        if not name or (yield from source.peek()) != "{":
            self._give_back(len(BEGIN))
            return
        self._begin_call(name)
        arguments = yield from source.take_json(self._add_arguments)
        self._end_call(whole=arguments is not None and is_json_object(arguments))
