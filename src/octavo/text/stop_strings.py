"""Stop strings in text that arrives in parts: nothing of a stop string leaks, and no text waits longer than it must."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.errors import RequestError

MAX_STOP_CHARS = 16_384
"""Most characters in all stop strings of one request: the automaton takes some hundred bytes for each."""


class StopStringMatcher:
    """Finds the stop string that is complete first; of several complete at once, the longest.

    An automaton over all stop strings at once (Aho and Corasick, 1975): the cost is linear in the text, however many
    stop strings there are. Its depth is the length of the longest end of the text that may become a stop string.

    Raises:
        RequestError: a stop string is empty, or they have more than ``MAX_STOP_CHARS`` characters in all.
    """

    __slots__ = ("_automaton", "_held", "_include_in_output", "_state")

    def __init__(self, stop: Sequence[str], include_in_output: bool) -> None:
        self._automaton = _Automaton(stop) if stop else None
        self._include_in_output = include_in_output
        self._held = ""
        self._state = 0

    def push(self, delta: str) -> tuple[str, str | None]:
        """Take the next part of the text.

        Returns:
            The text that is safe to show, and the stop string that it ended with, if any: the text is then cut before
            it (after it with ``include_in_output``), and the matcher must not be used again.
        """
        automaton = self._automaton
        if automaton is None:
            return delta, None
        state = self._state
        text = self._held + delta
        for end, char in enumerate(delta, start=len(self._held) + 1):
            state = automaton.step(state, char)
            found = automaton.found[state]
            if found is not None:
                self._held = ""
                return text[: end if self._include_in_output else end - len(found)], found
        self._state = state
        num_safe = len(text) - automaton.depth[state]
        self._held = text[num_safe:]
        return text[:num_safe], None

    def finish(self) -> str:
        """Return what was held back: the text is over."""
        held, self._held, self._state = self._held, "", 0
        return held


class _Automaton:
    """States are prefixes of stop strings; state 0 is the empty one.

    Attributes:
        depth: length of each state's prefix.
        found: the longest stop string that each state's prefix ends with.
    """

    __slots__ = ("_children", "_shorter", "depth", "found")

    def __init__(self, stop: Sequence[str]) -> None:
        num_chars = sum(map(len, stop))
        if num_chars > MAX_STOP_CHARS:
            raise RequestError(
                f"stop has {num_chars} characters in all; at most {MAX_STOP_CHARS} are allowed", param="stop"
            )
        self._children: list[dict[str, int]] = [{}]
        self._shorter = [0]  # the longest other state that is an end of this state's prefix
        self.depth = [0]
        self.found: list[str | None] = [None]
        for string in stop:
            if not string:
                raise RequestError("stop must not contain an empty string", param="stop")
            self._add(string)
        self._link()

    def step(self, state: int, char: str) -> int:
        """Return the state after one more character."""
        while state and char not in self._children[state]:
            state = self._shorter[state]
        return self._children[state].get(char, 0)

    def _add(self, string: str) -> None:
        state = 0
        for char in string:
            child = self._children[state].get(char)
            if child is None:
                child = len(self.depth)
                self._children[state][char] = child
                self._children.append({})
                self._shorter.append(0)
                self.depth.append(self.depth[state] + 1)
                self.found.append(None)
            state = child
        self.found[state] = string

    def _link(self) -> None:
        states = list(self._children[0].values())
        for (
            state
        ) in states:  # grows while it is walked: breadth first, so shorter prefixes are linked before longer ones
            for char, child in self._children[state].items():
                self._shorter[child] = self.step(self._shorter[state], char)
                states.append(child)
            self.found[state] = self.found[state] or self.found[self._shorter[state]]
