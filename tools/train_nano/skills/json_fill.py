"""Filling a small JSON object from a sentence."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from tools.train_nano.sample import Check, Exchange
from tools.train_nano.skills.capitals import CAPITALS
from tools.train_nano.words import ANIMALS, COLOURS, FOODS, OBJECTS, listed, person, pseudo_name

Fields = dict[str, Any]
_DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_JOBS = listed("teacher doctor baker pilot farmer nurse painter driver writer cook")


def _city(rng: Random) -> str:
    return rng.choice(list(CAPITALS.values())) if rng.random() < 0.5 else pseudo_name(rng)


def _profile(rng: Random) -> tuple[str, Fields]:
    name, age, city = person(rng), rng.randint(5, 99), _city(rng)
    fields: Fields = {"name": name, "age": age, "city": city}
    if rng.random() < 0.4:
        job = fields["job"] = rng.choice(_JOBS)
        return f"{name} is a {age} year old {job} from {city}.", fields
    sentence = rng.choice(
        (
            f"{name} is {age} years old and lives in {city}.",
            f"{name}, {age}, lives in {city}.",
            f"My name is {name}, I am {age} and I live in {city}.",
            f"In {city} lives {name}, who is {age} years old.",
        )
    )
    return sentence, fields


def _purchase(rng: Random) -> tuple[str, Fields]:
    name, item, count, price = person(rng), rng.choice(OBJECTS), rng.randint(2, 60), rng.randint(1, 500)
    colour = rng.choice(COLOURS)
    if rng.random() < 0.5:
        fields = {"product": item, "color": colour, "price": price}
        return f"The {colour} {item} costs {price} dollars.", fields
    return f"{name} ordered {count} {item}s.", {"customer": name, "item": item, "quantity": count}


def _event(rng: Random) -> tuple[str, Fields]:
    name, day, hour, city = person(rng), rng.choice(_DAYS), rng.randint(1, 12), _city(rng)
    kind = rng.choice(("meeting", "party", "concert", "lesson", "dinner"))
    return f"The {kind} with {name} is on {day} at {hour} in {city}.", {
        "event": kind, "person": name, "day": day, "hour": hour, "city": city,
    }  # fmt: skip


def _trip(rng: Random) -> tuple[str, Fields]:
    start, end, day = _city(rng), _city(rng), rng.choice(_DAYS)
    return f"I want to fly from {start} to {end} on {day}.", {"from": start, "to": end, "day": day}


def _pet(rng: Random) -> tuple[str, Fields]:
    owner, pet, kind, colour = person(rng), person(rng), rng.choice(ANIMALS), rng.choice(COLOURS)
    return f"{owner} has a {colour} {kind} called {pet}.", {
        "owner": owner,
        "animal": kind,
        "name": pet,
        "color": colour,
    }


def _book(rng: Random) -> tuple[str, Fields]:
    title, author, year = pseudo_name(rng), person(rng), rng.randint(1800, 2030)
    return f"{author} wrote the book {title} in {year}.", {"title": title, "author": author, "year": year}


def _meal(rng: Random) -> tuple[str, Fields]:
    guest, food, table = person(rng), rng.choice(FOODS), rng.randint(1, 40)
    return f"{guest} at table {table} would like {food}.", {"guest": guest, "food": food, "table": table}


_SCENES: list[Callable[[Random], tuple[str, Fields]]] = [
    _profile,
    _profile,
    _purchase,
    _event,
    _trip,
    _pet,
    _book,
    _meal,
]
_ASK = [
    "Extract {keys} as JSON: {text}",
    "Extract {keys} as JSON.\n{text}",
    "Return JSON with the keys {keys}. {text}",
    "{text} Give me {keys} as JSON.",
    "Fill a JSON object with {keys} from this sentence: {text}",
    "{text}\nAnswer only with JSON. Keys: {keys}.",
    "Turn this into JSON with keys {keys}: {text}",
]


def _listed(rng: Random, keys: list[str]) -> str:
    if len(keys) > 1 and rng.random() < 0.6:
        return ", ".join(keys[:-1]) + " and " + keys[-1]
    return ", ".join(keys)


def make(rng: Random) -> Exchange:
    """Keys and a sentence in, one JSON object out; held out by sentence."""
    text, fields = rng.choice(_SCENES)(rng)
    keys = list(fields)
    if rng.random() < 0.3:
        rng.shuffle(keys)
    keys = keys[: rng.randint(1, len(keys))] if rng.random() < 0.4 else keys
    wanted = {key: fields[key] for key in keys}
    question = rng.choice(_ASK).format(keys=_listed(rng, keys), text=text)
    return Exchange(text, question, json.dumps(wanted, ensure_ascii=False), Check("json", wanted))
