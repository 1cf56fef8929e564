"""Llama 3: the whole answer is ``{"name": …, "parameters": {…}}``; several calls are separated by ``;``."""

from __future__ import annotations

from octavo.text.text_source import Reading
from octavo.text.tool_parsers.base import ToolParser

PYTHON_TAG = "<|python_tag|>"


class Llama3JsonParser(ToolParser):
    """Calls stand at the beginning of the answer, behind another call, or behind the tag that begins code.

    An object at the beginning that does not start with one of a call's members is an answer in JSON: it is content at
    once, and not held back until it ends.
    """

    def _read(self) -> Reading[None]:
        yield
        source = self._source
        yield from source.skip_spaces()
        self._write(source.release())
        is_place_of_call = True
        while True:
            if not is_place_of_call or (yield from source.peek()) != "{":
                if not (yield from self._read_content((PYTHON_TAG,))):
                    return
                yield from source.skip_spaces()
            begin = source.position
            whole = (yield from self._read_json_call()) if (yield from self._is_like_call()) else None
            if whole is None:
                self._give_back(max(begin, 1))
                is_place_of_call = False
                continue
            if whole:
                yield from self._skip_separator()
            self._end_call(whole=whole)
            is_place_of_call = whole

    def _is_like_call(self) -> Reading[bool]:
        """Whether an object comes next whose first member is one of a call's; nothing is read."""
        source = self._source
        start = source.position
        is_like_call = yield from source.take("{")
        if is_like_call:
            yield from source.skip_spaces()
            keys = ('"name"', '"parameters"', '"arguments"', '"type"', '"function"')
            is_like_call = bool((yield from source.take_any(keys)))
        source.position = start
        return is_like_call

    def _skip_separator(self) -> Reading[None]:
        """Read what stands between this call and the next, if there is a next."""
        source = self._source
        yield from source.skip_spaces()
        start = source.position
        if (yield from source.take_any((";", ","))):
            yield from source.skip_spaces()
            if (yield from source.peek()) != "{":
                source.position = start
