"""Tool calls in the Hermes format: when to call, which tool, with which arguments, and what to say afterwards."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tools.train_nano.sample import Check, Exchange, Message, Tool, assistant, user
from tools.train_nano.skills.capitals import CAPITALS
from tools.train_nano.words import (
    COLOURS,
    FOODS,
    OBJECTS,
    any_word,
    person,
    pseudo_name,
    pseudo_word,
    with_chinese_marks,
)

Arguments = dict[str, Any]


@dataclass(frozen=True)
class ToolUse:
    """A tool, a question that needs it, the call, and what comes of it."""

    tool: Tool
    question: str
    arguments: Arguments
    result: str
    answer: str
    needle: str

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(self.tool["function"]["name"])

    @property
    def key(self) -> str:
        """What the held-out split is decided on: the call itself."""
        return self.name + json.dumps(self.arguments, ensure_ascii=False)


def declare(rng: Random, name: str, description: str, parameters: dict[str, tuple[str, str]]) -> Tool:
    """An OpenAI tool. `parameters` maps a name to (JSON type, description); clients differ in how much they state."""
    with_notes = rng.random() < 0.3
    properties: dict[str, Any] = {}
    for key, (kind, note) in parameters.items():
        properties[key] = {"type": kind, "description": note} if with_notes else {"type": kind}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        schema["required"] = list(parameters)
    if rng.random() < 0.1:
        schema["additionalProperties"] = False
    function = {"name": name, "description": description, "parameters": schema}
    if rng.random() < 0.1:
        function = dict(sorted(function.items()))
    return {"type": "function", "function": function}


def _city(rng: Random) -> str:
    return rng.choice(list(CAPITALS.values())) if rng.random() < 0.5 else pseudo_name(rng)


def _weather(rng: Random) -> ToolUse:
    city, key = _city(rng), rng.choice(("city", "city", "location", "place", "town"))
    degrees, sky = rng.randint(1, 39), rng.choice(("sunny", "cloudy", "rainy", "windy", "snowy"))
    tool = declare(
        rng,
        rng.choice(("get_weather", "weather", "get_current_weather", "fetch_weather", "weather_now")),
        rng.choice(("Get the weather of a city", "Get the current weather", "Weather in a city")),
        {key: ("string", "Name of the city")},
    )
    question = rng.choice(
        (
            f"What is the weather in {city}?",
            f"What's the weather like in {city}?",
            f"How is the weather in {city} today?",
            f"Is it cold in {city}?",
            f"weather in {city}",
            f"Tell me the weather in {city}.",
            with_chinese_marks(rng, f"{city}的天气怎么样?"),
        )
    )
    shapes: tuple[Any, ...] = (
        {"temperature": degrees, "condition": sky},
        {"temp": degrees, "sky": sky},
        f"{degrees} degrees, {sky}",
        f"{sky}, {degrees} C",
    )
    return ToolUse(
        tool,
        question,
        {key: city},
        _as_text(rng.choice(shapes)),
        f"It is {sky} in {city}, {degrees} degrees.",
        str(degrees),
    )


def _time(rng: Random) -> ToolUse:
    city, clock = _city(rng), f"{rng.randint(10, 23)}:{rng.randint(10, 59)}"
    tool = declare(
        rng,
        rng.choice(("get_time", "current_time", "get_local_time", "time_in", "fetch_time")),
        rng.choice(("Get the time in a city", "Current local time of a city")),
        {"city": ("string", "Name of the city")},
    )
    question = rng.choice(
        (
            f"What time is it in {city}?",
            f"Tell me the time in {city}.",
            f"time in {city}",
            with_chinese_marks(rng, f"{city}现在几点?"),
        )
    )
    result = _as_text(rng.choice(({"time": clock}, clock, {"city": city, "time": clock})))
    return ToolUse(tool, question, {"city": city}, result, f"It is {clock} in {city}.", clock)


def _calculate(rng: Random) -> ToolUse:
    low, high = rng.choice(((2, 99), (100, 999), (100, 9999)))
    a, b = rng.randint(low, high), rng.randint(low, high)
    name, verb, sign, value = rng.choice(
        (("add", "Add", "+", a + b), ("multiply", "Multiply", "*", a * b), ("subtract", "Subtract", "-", a - b))
    )
    tool = declare(
        rng, name, f"{verb} two numbers", {"a": ("number", "First number"), "b": ("number", "Second number")}
    )
    spoken = {"+": "plus", "*": "times", "-": "minus"}[sign]
    question = rng.choice((f"What is {a} {sign} {b}?", f"What is {a} {spoken} {b}?", f"Calculate {a} {sign} {b}."))
    result = _as_text(rng.choice(({"result": value}, str(value))))
    return ToolUse(tool, question, {"a": a, "b": b}, result, f"{a} {sign} {b} = {value}", str(value))


def _search(rng: Random) -> ToolUse:
    query = " ".join(any_word(rng) for _ in range(rng.randint(1, 4)))
    found = f"{pseudo_name(rng)} {rng.choice(OBJECTS)}"
    tool = declare(
        rng,
        rng.choice(("search", "web_search", "search_web", "search_the_web")),
        rng.choice(("Search the web", "Search for information")),
        {"query": ("string", "What to search for")},
    )
    question = rng.choice(
        (f"Search for {query}.", f"Search the web for {query}.", f"Look up {query}.", f"Find {query} on the web.")
    )
    result = _as_text(rng.choice(({"results": [found]}, found, {"title": found})))
    return ToolUse(tool, question, {"query": query}, result, f"I found this: {found}.", found)


def _timer(rng: Random) -> ToolUse:
    minutes = rng.randint(1, 120)
    tool = declare(
        rng,
        rng.choice(("set_timer", "start_timer", "new_timer")),
        "Set a timer",
        {"minutes": ("integer", "Minutes to wait")},
    )
    question = rng.choice(
        (f"Set a timer for {minutes} minutes.", f"Wake me in {minutes} minutes.", f"Timer, {minutes} minutes, please.")
    )
    result = _as_text(rng.choice(({"status": "ok"}, "ok", {"ok": True})))
    return ToolUse(
        tool, question, {"minutes": minutes}, result, f"The timer is set for {minutes} minutes.", str(minutes)
    )


def _convert(rng: Random) -> ToolUse:
    amount, value = rng.randint(2, 999), rng.randint(2, 9999)
    start, end = rng.sample(("USD", "EUR", "CNY", "JPY", "GBP", "CHF", "INR"), 2)
    tool = declare(
        rng,
        rng.choice(("convert_currency", "convert", "convert_money")),
        "Convert money between currencies",
        {"amount": ("number", "How much"), "from": ("string", "Currency now"), "to": ("string", "Currency wanted")},
    )
    question = rng.choice(
        (
            f"Convert {amount} {start} to {end}.",
            f"How much is {amount} {start} in {end}?",
            f"Change {amount} {start} into {end}.",
        )
    )
    result = _as_text(rng.choice(({"result": value}, f"{value} {end}", {"amount": value, "currency": end})))
    return ToolUse(
        tool,
        question,
        {"amount": amount, "from": start, "to": end},
        result,
        f"{amount} {start} is {value} {end}.",
        str(value),
    )


def _message(rng: Random) -> ToolUse:
    to, text = person(rng), " ".join(any_word(rng) for _ in range(rng.randint(2, 5)))
    tool = declare(
        rng,
        rng.choice(("send_message", "send_email")),
        "Send a message to a person",
        {"to": ("string", "Who receives it"), "text": ("string", "What to say")},
    )
    question = rng.choice((f'Send {to} the message "{text}".', f"Tell {to}: {text}", f"Write to {to}: {text}"))
    result = _as_text(rng.choice(({"status": "sent"}, "sent")))
    return ToolUse(tool, question, {"to": to, "text": text}, result, f"The message to {to} was sent.", to)


def _order(rng: Random) -> ToolUse:
    food, count, number = rng.choice(FOODS), rng.randint(1, 20), rng.randint(100, 9999)
    tool = declare(
        rng,
        rng.choice(("order_food", "place_order")),
        "Order food",
        {"item": ("string", "Which food"), "quantity": ("integer", "How many")},
    )
    question = rng.choice((f"Order {count} {food}.", f"Please order {count} {food} for me.", f"I want {count} {food}."))
    result = _as_text(rng.choice(({"order": number}, f"order {number}")))
    return ToolUse(
        tool, question, {"item": food, "quantity": count}, result, f"Your order number is {number}.", str(number)
    )


def _light(rng: Random) -> ToolUse:
    room, colour = rng.choice(("kitchen", "bedroom", "garden", "office", "hall")), rng.choice(COLOURS)
    tool = declare(
        rng,
        "set_light",
        "Change the light of a room",
        {"room": ("string", "Which room"), "color": ("string", "Colour of the light")},
    )
    question = rng.choice(
        (
            f"Make the {room} light {colour}.",
            f"Turn the light in the {room} {colour}.",
            f"Set the {room} light to {colour}.",
        )
    )
    result = _as_text(rng.choice(({"status": "ok"}, "ok", {"ok": True})))
    return ToolUse(
        tool, question, {"room": room, "color": colour}, result, f"The light in the {room} is {colour} now.", room
    )


def _unheard_of(rng: Random) -> ToolUse:
    """A tool with a made-up name, so that names and keys have to be read from the list."""
    verb, noun = pseudo_word(rng, 2), rng.choice(OBJECTS) if rng.random() < 0.5 else pseudo_word(rng, 2)
    name = rng.choice((f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}_the_{noun}", verb))
    keys = [
        pseudo_word(rng, 2)
        if rng.random() < 0.5
        else rng.choice(("id", "size", "name", "level", "target", "code", "color"))
    ]
    if rng.random() < 0.4:
        keys.append(pseudo_word(rng, 2))
    arguments: Arguments = {}
    kinds: dict[str, tuple[str, str]] = {}
    for key in keys:
        if rng.random() < 0.5:
            arguments[key], kinds[key] = rng.randint(1, 999), ("integer", f"The {key}")
        else:
            arguments[key], kinds[key] = (
                pseudo_word(rng) if rng.random() < 0.5 else pseudo_name(rng),
                ("string", f"The {key}"),
            )
    spoken = " and ".join(f"{key} {value}" for key, value in arguments.items())
    tool = declare(
        rng, name, f"{verb} the {noun}".capitalize() if rng.random() < 0.7 else f"Does the {verb} of a {noun}", kinds
    )
    question = rng.choice(
        (
            f"Use {name} with {spoken}.", f"Please {verb} the {noun} with {spoken}.", f"Call {name}: {spoken}.",
            f"{verb.capitalize()} the {noun}, {spoken}.",
        )
    )  # fmt: skip
    outcome = pseudo_word(rng) if rng.random() < 0.5 else str(rng.randint(10, 9999))
    result = _as_text(rng.choice(({"result": outcome}, outcome, {"status": outcome})))
    return ToolUse(tool, question, arguments, result, f"The result is {outcome}.", outcome)


_MAKERS: list[Callable[[Random], ToolUse]] = [
    _weather, _weather, _time, _calculate, _search, _timer, _convert, _message, _order, _light,
    _unheard_of, _unheard_of, _unheard_of, _unheard_of,
]  # fmt: skip


def make_use(rng: Random) -> ToolUse:
    """One tool and a question for it."""
    return rng.choice(_MAKERS)(rng)


def offered(rng: Random, needed: list[ToolUse], extra: int) -> list[Tool]:
    """The tools of `needed` among up to `extra` others of other names, in random order."""
    tools = {use.name: use.tool for use in needed}
    for _ in range(extra):
        other = make_use(rng)
        if not _similar(other.name, tools):
            tools[other.name] = other.tool
    listed = list(tools.values())
    rng.shuffle(listed)
    return listed


def compatible(first: ToolUse, second: ToolUse) -> bool:
    """Whether two uses can share a list of tools: either the very same tool, or tools that cannot be confused."""
    return first.tool == second.tool or not _similar(second.name, {first.name: first.tool})


def _similar(name: str, tools: dict[str, Tool]) -> bool:
    families = ("weather", "time", "search", "send", "order", "light", "add", "multiply", "subtract", "convert")
    return any(name == other or any(family in name and family in other for family in families) for other in tools)


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def call_message(uses: list[ToolUse]) -> Message:
    """The assistant's message that calls a tool for each of `uses`."""
    calls = [{"type": "function", "function": {"name": use.name, "arguments": use.arguments}} for use in uses]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def call_check(uses: list[ToolUse]) -> Check:
    """Exactly these calls are expected, in order."""
    return Check("tool_calls", [{"name": use.name, "arguments": use.arguments} for use in uses])


def result_messages(uses: list[ToolUse]) -> list[Message]:
    """What the tools said, as the client sends it."""
    return [{"role": "tool", "content": use.result} for use in uses]


def same_tool_again(rng: Random, use: ToolUse) -> ToolUse | None:
    """Another question for the tool of `use`, its declaration unchanged; None if luck does not provide one."""
    for _ in range(60):
        other = make_use(rng)
        if other.name == use.name and set(other.arguments) == set(use.arguments):
            return ToolUse(use.tool, other.question, other.arguments, other.result, other.answer, other.needle)
    return None


def full_turns(uses: list[ToolUse]) -> list[Message]:
    """Question, call, result and answer of each use in turn."""
    messages: list[Message] = []
    for use in uses:
        messages += [user(use.question), call_message([use]), *result_messages([use]), assistant(use.answer)]
    return messages


def plain_turn(exchange: Exchange) -> list[Message]:
    """A question that needs no tool, and its answer."""
    return [user(exchange.question), assistant(exchange.answer)]
