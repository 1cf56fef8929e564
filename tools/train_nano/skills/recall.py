"""Facts given early in a conversation and asked for later."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tools.train_nano.sample import Message, assistant, user
from tools.train_nano.skills.capitals import CAPITALS
from tools.train_nano.words import ANIMALS, COLOURS, FOODS, digits, person, pseudo_name, pseudo_word, with_chinese_marks


@dataclass(frozen=True)
class Fact:
    """Something to remember: how it is told, acknowledged, asked for and answered."""

    kind: str
    value: str
    told: str
    acknowledged: str
    asked: str
    answered: str

    @property
    def key(self) -> str:
        """What the held-out split is decided on."""
        return f"{self.kind}: {self.value}"


def _name(rng: Random) -> Fact:
    name = person(rng)
    return Fact(
        "name",
        name,
        rng.choice(
            (
                f"My name is {name}.",
                f"I am {name}.",
                f"Hi, I'm {name}.",
                f"Hello! My name is {name}.",
                f"Call me {name}.",
            )
        ),
        f"Nice to meet you, {name}!",
        rng.choice(
            ("What is my name?", "Who am I?", "Do you remember my name?", "What's my name?", "Tell me my name.")
        ),
        f"Your name is {name}.",
    )


def _name_zh(rng: Random) -> Fact:
    name = person(rng)
    asked = with_chinese_marks(rng, rng.choice(("我叫什么名字?", "我是谁?")))
    return Fact("name", name, f"我叫{name}。", f"你好，{name}！", asked, f"你叫{name}。")


def _number(rng: Random) -> Fact:
    label = rng.choice(("secret number", "code", "PIN", "ticket number", "room number", "lucky number"))
    number = digits(rng, 2, 6)
    return Fact(
        label,
        number,
        rng.choice((f"My {label} is {number}.", f"Remember: my {label} is {number}.", f"The {label} is {number}.")),
        "I will remember it.",
        rng.choice(
            (f"What is my {label}?", f"What is the {label}?", f"What was the {label}?", f"Tell me the {label}.")
        ),
        f"The {label} is {number}.",
    )


def _word(rng: Random) -> Fact:
    word = pseudo_word(rng)
    return Fact(
        "password",
        word,
        rng.choice((f"The password is {word}.", f"Remember the password {word}.", f"My password is {word}.")),
        "I will remember it.",
        rng.choice(("What is the password?", "What was the password?", "Tell me the password.")),
        f"The password is {word}.",
    )


def _town(rng: Random) -> Fact:
    town = rng.choice(list(CAPITALS.values())) if rng.random() < 0.4 else pseudo_name(rng)
    return Fact(
        "town",
        town,
        rng.choice((f"I live in {town}.", f"My home is in {town}.")),
        f"{town} sounds nice!",
        rng.choice(("Where do I live?", "In which town do I live?", "Which town is my home?")),
        f"You live in {town}.",
    )


def _pet(rng: Random) -> Fact:
    kind, name = rng.choice(ANIMALS), person(rng)
    return Fact(
        "pet",
        name,
        rng.choice((f"My {kind} is called {name}.", f"I have a {kind} named {name}.")),
        f"{name} is a nice name!",
        rng.choice((f"What is my {kind} called?", f"What is the name of my {kind}?")),
        f"Your {kind} is called {name}.",
    )


def _favourite(rng: Random) -> Fact:
    label, value = rng.choice((("color", rng.choice(COLOURS)), ("food", rng.choice(FOODS)), ("word", pseudo_word(rng))))
    return Fact(
        f"favourite {label}",
        value,
        rng.choice((f"My favorite {label} is {value}.", f"I like {value}, it is my favorite {label}.")),
        "Good choice!",
        rng.choice((f"What is my favorite {label}?", f"Which {label} do I like most?")),
        f"Your favorite {label} is {value}.",
    )


_KINDS: list[Callable[[Random], Fact]] = [
    _name,
    _name,
    _name,
    _name_zh,
    _number,
    _number,
    _word,
    _town,
    _pet,
    _favourite,
]


def make_fact(rng: Random) -> Fact:
    """One fact."""
    return rng.choice(_KINDS)(rng)


def make_facts(rng: Random, count: int) -> list[Fact]:
    """Up to `count` facts of different kinds."""
    facts: dict[str, Fact] = {}
    for _ in range(count):
        fact = make_fact(rng)
        facts.setdefault(fact.kind, fact)
    return list(facts.values())


def told(fact: Fact) -> list[Message]:
    """The turn in which the fact is given."""
    return [user(fact.told), assistant(fact.acknowledged)]


def asked(fact: Fact) -> list[Message]:
    """The turn in which it is asked for."""
    return [user(fact.asked), assistant(fact.answered)]
