"""What a generated example is, and which examples belong to training and which are held out."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Split = Literal["train", "heldout"]
Message = dict[str, Any]
Tool = dict[str, Any]
CheckKind = Literal["exact", "contains", "json", "tool_calls", "story"]

HELD_OUT_SHARE = 10
"""One key in this many is held out."""


@dataclass(frozen=True)
class Check:
    """How an answer is judged: see `scoring.passes` for what each kind means."""

    kind: CheckKind
    expected: Any


@dataclass(frozen=True)
class Exchange:
    """One question and its answer, outside any conversation.

    The held-out split is decided on `key`, unless `only_trained` keeps the exchange out of the held-out part.
    """

    key: str
    question: str
    answer: str
    check: Check
    only_trained: bool = False

    def belongs_to(self, split: Split) -> bool:
        """Whether this exchange is of `split`."""
        return split == "train" if self.only_trained else in_split(self.key, split)


@dataclass(frozen=True)
class Conversation:
    """A conversation; the last message is the answer, which `check` judges if the conversation is a question."""

    skill: str
    messages: list[Message]
    check: Check | None = None
    tools: list[Tool] = field(default_factory=list)

    @property
    def prompt(self) -> list[Message]:
        """The messages a model is given: all but the last."""
        return self.messages[:-1]


def user(content: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """A message of the assistant, plain text."""
    return {"role": "assistant", "content": content}


def is_held_out(key: str) -> bool:
    """Whether `key` is held out of training: a stable property of the text, the same in every run."""
    return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def in_split(key: str, split: Split) -> bool:
    """Whether `key` belongs to `split`."""
    return is_held_out(key) == (split == "heldout")


def draw(rng: Random, make: Callable[[Random], T], accepted: Callable[[T], bool]) -> T:
    """Draw from `make` until something `accepted` comes out."""
    while True:
        drawn = make(rng)
        if accepted(drawn):
            return drawn
