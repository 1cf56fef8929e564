"""Repeating, reversing and upper-casing: what a model can only do by looking at the prompt."""

import zlib
from random import Random

from tools.train_nano.sample import HELD_OUT_SHARE, Check, Exchange
from tools.train_nano.words import (
    ANIMALS,
    COLOURS,
    COMMON_WORDS,
    OBJECTS,
    PLACES,
    any_word,
    digits,
    person,
    pseudo_word,
)

_REPEAT = [
    "Repeat: {0}", "Repeat after me: {0}", "Say: {0}", "Copy this: {0}", "Please repeat: {0}", 'Repeat "{0}"',
    'Say "{0}"',
    "Echo: {0}", "Repeat the following: {0}", "Write this again: {0}", "请重复:{0}", "重复:{0}",
]  # fmt: skip
_REVERSE = [
    "Reverse the word {0}.", 'Reverse "{0}".', "Reverse: {0}", "Spell {0} backwards.", "Write {0} backwards.",
    "What is {0} spelled backwards?", 'Reverse the letters of "{0}".', "reverse {0}",
]  # fmt: skip
_UPPER = [
    "Write {0} in capital letters.", "Upper-case: {0}", 'Write "{0}" in upper case.', "Put {0} in capitals.",
    "Make {0} upper case.", "Uppercase the word {0}.", 'Uppercase "{0}".', "uppercase {0}",
]  # fmt: skip
_CHINESE = "天地人你我他山水火木金土日月星云风雨大小上下左右中国学生老师朋友早晚春夏秋冬红黄蓝白黑"


def _payload(rng: Random) -> str:
    """Something to repeat: words, made-up words, digits, a short sentence, or Chinese characters."""
    roll = rng.random()
    if roll < 0.25:
        return " ".join(pseudo_word(rng) for _ in range(rng.randint(1, 5)))
    if roll < 0.5:
        return " ".join(any_word(rng) for _ in range(rng.randint(2, 9)))
    if roll < 0.6:
        return " ".join(digits(rng, 1, 6) for _ in range(rng.randint(1, 3)))
    if roll < 0.7:
        return "".join(rng.choice(_CHINESE) for _ in range(rng.randint(2, 7)))
    if roll < 0.78:
        return f"{pseudo_word(rng)}-{digits(rng, 1, 4)}"
    name, thing = person(rng), rng.choice(OBJECTS)
    return rng.choice(
        (
            f"{name} has a {rng.choice(COLOURS)} {thing}.",
            f"The {rng.choice(ANIMALS)} of {name} sleeps in the {rng.choice(PLACES)}.",
            f"{name} and {person(rng)} went to the {rng.choice(PLACES)} with {rng.randint(2, 99)} {thing}s.",
            f"I saw {rng.randint(2, 99)} {rng.choice(ANIMALS)}s near the {rng.choice(PLACES)}!",
            f"My {thing} is {rng.choice(COLOURS)}, but the {thing} of {name} is {rng.choice(COLOURS)}.",
        )
    )


def make_copy(rng: Random) -> Exchange:
    """Repeat a text exactly; held out by text."""
    text = _payload(rng)
    return Exchange(text, rng.choice(_REPEAT).format(text), text, Check("exact", text))


def _short_word(rng: Random) -> str:
    while True:
        word = rng.choice(COMMON_WORDS) if rng.random() < 0.5 else pseudo_word(rng, rng.choice((1, 2, 2, 3)))
        if 3 <= len(word) <= 6:
            return word


def make_reverse(rng: Random) -> Exchange:
    """Reverse the letters of a short word; held out by word."""
    word = _short_word(rng)
    check = Check("exact", word[::-1])
    return Exchange(word, rng.choice(_REVERSE).format(word), word[::-1], check, _spelled_in_training(word, "reverse"))


def make_upper(rng: Random) -> Exchange:
    """Write a short word in capitals; held out by word."""
    word = _short_word(rng)
    check = Check("exact", word.upper())
    return Exchange(word, rng.choice(_UPPER).format(word), word.upper(), check, _spelled_in_training(word, "upper"))


def _spelled_in_training(word: str, task: str) -> bool:
    """Whether `word`, though of the held-out words, is for training in `task`: each is held out of one task only, since
    a model can learn how a token is spelled from nothing but seeing it spelled."""
    return (zlib.crc32(word.encode()) // HELD_OUT_SHARE % 2 == 0) != (task == "reverse")
