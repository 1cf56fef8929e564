"""Word lists and makers of words that exist nowhere, so that a model must copy them instead of knowing them."""

import re
from random import Random


def listed(text: str) -> list[str]:
    """The words of `text`."""
    return text.split()


FIRST_NAMES = listed(
    """
    Ada Alan Alice Amir Anna Ben Bruno Carla Chen Clara Daniel Dina Elena Emma Eric Fatima Felix Grace Hana Hugo
    Ines Ivan Jack Jane Jonas Julia Karim Kate Leo Lena Lily Lucas Maria Marta Max Mei Mia Milo Nadia Nina Noah
    Olga Omar Oscar Paul Petra Priya Rosa Ruth Sam Sara Sofia Tariq Theo Tom Uma Vera Victor Wei Yara Yusuf Zoe
    """
)

COLOURS = listed("red blue green yellow purple orange pink brown black white grey silver")
ANIMALS = listed("cat dog fox owl bear rabbit mouse horse duck frog goat wolf turtle hedgehog squirrel parrot")
OBJECTS = listed(
    """lamp book clock kite key map bell drum boat hat cup stone lantern flute basket mirror ring shell feather
coat chair table bottle pencil"""
)
FOODS = listed("pizza soup bread rice pasta salad cake noodles curry apples cheese tea coffee pancakes")
PLACES = listed("forest village garden mountain river island harbour castle desert valley library market")
COMMON_WORDS = listed(
    """
    sun moon star rain snow wind tree leaf rose bird fish lion frog sand rock lake ship road gate wall door roof
    room desk pen ink song game ball coin gold iron wood salt milk corn bean lamp kite bell drum boat cup key
    map hat book fire water stone light cloud storm river ocean beach field grass plant fruit apple lemon grape
    peach bread honey sugar chair table clock phone piano train plane truck house tower queen king knight sword
    magic dream night today green black white brown small large quick slow happy quiet loud warm cold sweet
    fresh open close jump walk read write sing dance cook play learn think speak listen carry bring build paint
    """
)

_ONSETS = ["b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"]
_VOWELS = ["a", "e", "i", "o", "u"]
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "x"]


def pseudo_word(rng: Random, syllables: int | None = None) -> str:
    """A lower-case word of one to three made-up syllables, such as `zorlu`."""
    count = syllables or rng.choice((2, 2, 3))
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)]
    return "".join(parts) + rng.choice(_CODAS)


def pseudo_name(rng: Random) -> str:
    """A capitalised made-up word, for people and towns nobody knows."""
    return pseudo_word(rng).capitalize()


def person(rng: Random) -> str:
    """A name: made up more often than not."""
    return pseudo_name(rng) if rng.random() < 0.6 else rng.choice(FIRST_NAMES)


def any_word(rng: Random) -> str:
    """A common word or a made-up one."""
    return rng.choice(COMMON_WORDS) if rng.random() < 0.5 else pseudo_word(rng)


def digits(rng: Random, low: int, high: int) -> str:
    """A string of `low` to `high` digits, the first not zero."""
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in range(rng.randint(low, high) - 1))


_MARKS = {"?": "？", "!": "！", ":": "：", ",": "，"}


def with_chinese_marks(rng: Random, text: str) -> str:
    """`text` with full-width punctuation after Chinese characters, as most people type it; sometimes left as it is."""
    if rng.random() < 0.3:
        return text
    return re.sub(r"(?<=[\u4e00-\u9fff])[?!:,]", lambda mark: _MARKS[mark.group()], text)
