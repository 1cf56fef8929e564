"""Judging an answer against what was expected."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tools.train_nano.sample import Check

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
STORY_WORDS = 70
"""A story of 100 tokens or more has at least so many words."""


@dataclass(frozen=True)
class Answer:
    """What came back: text, calls as `{"name", "arguments"}` with arguments decoded, and whether it ended by itself."""

    text: str
    calls: list[dict[str, Any]]
    finished: bool


def parse(text: str, finished: bool) -> Answer:
    """Read raw model text, with Hermes tool calls in it or not. A call that is no valid JSON stays in the text."""
    calls: list[dict[str, Any]] = []
    rest = text
    for match in _CALL.finditer(text):
        try:
            call = json.loads(match.group(1))
        except json.JSONDecodeError:
            continue
        calls.append({"name": call.get("name"), "arguments": call.get("arguments")})
        rest = rest.replace(match.group(0), "")
    return Answer(rest.strip(), calls, finished)


def passes(check: Check, answer: Answer) -> bool:
    """Whether `answer` is right. It must have ended by itself, with calls only where calls are expected.

    `exact`: the text is the expected one. `contains`: all expected strings are in it. `json`: it is one JSON object
    equal to the expected one, and nothing else. `tool_calls`: exactly these calls, in order. `story`: long enough,
    without a sentence told twice, and naming what was asked for.
    """
    if not answer.finished:
        return False
    if check.kind == "tool_calls":
        return bool(answer.calls == check.expected)
    if answer.calls or "<tool_call>" in answer.text:
        return False
    text = answer.text.strip()
    match check.kind:
        case "exact":
            return bool(text == check.expected)
        case "contains":
            return all(_appears(needle, text) for needle in check.expected)
        case "json":
            return _is_json(text, check.expected)
        case "story":
            sentences = re.split(r"(?<=[.!?])\s+", text)
            whole = len(text.split()) >= STORY_WORDS and len(set(sentences)) == len(sentences) and text.endswith(".")
            return whole and all(_appears(needle, text) for needle in check.expected)


def _appears(needle: str, text: str) -> bool:
    """Whether `needle` stands in `text` and not as part of a longer number or word."""
    pattern = re.escape(needle)
    if needle[0].isascii() and needle[0].isalnum():
        pattern = r"(?<![A-Za-z0-9])" + pattern
    if needle[-1].isascii() and needle[-1].isalnum():
        pattern += r"(?![A-Za-z0-9])"
    return re.search(pattern, text) is not None


def _is_json(text: str, expected: Any) -> bool:
    try:
        return bool(json.loads(text) == expected)
    except json.JSONDecodeError:
        return False
