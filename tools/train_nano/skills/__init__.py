"""One module per skill. Each makes questions with known answers; none knows how conversations are put together."""

from collections.abc import Callable
from random import Random

from tools.train_nano.sample import Exchange
from tools.train_nano.skills import arithmetic, capitals, copying, identity, json_fill, stories, terms

SINGLE_TURN: dict[str, Callable[[Random], Exchange]] = {
    "identity": identity.make,
    "capitals": capitals.make,
    "terms": terms.make,
    "arithmetic": arithmetic.make,
    "copy": copying.make_copy,
    "reverse": copying.make_reverse,
    "upper": copying.make_upper,
    "json": json_fill.make,
    "story": stories.make,
}
"""The skills that need one question and one answer, by name."""
