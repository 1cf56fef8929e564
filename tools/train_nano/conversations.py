"""Putting exchanges together: mixed conversations to train on, and single questions to be judged by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tools.train_nano.sample import Check, Conversation, Exchange, Message, Split, Tool, assistant, draw, in_split, user
from tools.train_nano.skills import SINGLE_TURN, recall, tool_use
from tools.train_nano.skills.tool_use import ToolUse
from tools.train_nano.words import with_chinese_marks

_SYSTEMS = [
    "You are a helpful assistant.", "You are a helpful assistant.", "You are a helpful assistant.", "You are helpful.",
    "Be brief.", "Answer briefly.", "You are octavo-nano.", "You are a friendly assistant.", "You are an assistant.",
    "You are a helpful AI assistant.", "Answer the questions of the user.", "你是一个有用的助手。",
]  # fmt: skip

_CHARACTERS_PER_TOKEN = 4.2
"""Roughly; only used to aim at a length in tokens."""


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of conversation, and of the skills within a mixed one and within a drill."""

    kinds: dict[str, float]
    skills: dict[str, float]
    drilled: dict[str, float]
    long_tokens: tuple[int, int] = (400, 1500)


_COPYING_WORKS, _LAST_PHASE = 0.363, 0.785


def mixture_at(progress: float) -> Mixture:
    """What to practise when `progress` (0 to 1, more in the polish) of the training is done.

    First everything short; then, once copying works, long conversations and drills of what is learned slowest; then
    more tools, more copying and more spelling; in the polish mostly first calls of a tool, and drills.
    """
    drilled = {"arithmetic": 0.55, "reverse": 0.27, "upper": 0.18}
    skills = {
        "identity": 0.5,
        "capitals": 1.6,
        "terms": 0.9,
        "arithmetic": 3.0,
        "copy": 1.8,
        "reverse": 1.6,
        "upper": 0.7,
        "json": 1.6,
        "story": 0.3,
    }
    if progress < _COPYING_WORKS:
        kinds = {"chain": 0.66, "recall": 0.16, "tools": 0.18, "long": 0.003}
    elif progress < _LAST_PHASE:
        kinds = {"chain": 0.50, "recall": 0.13, "tools": 0.19, "long": 0.018, "drill": 0.24}
    else:
        kinds = {"chain": 0.40, "recall": 0.09, "tools": 0.28, "long": 0.018, "drill": 0.24}
        drilled = {"arithmetic": 0.40, "reverse": 0.32, "upper": 0.28}
        skills |= {"capitals": 2.0, "arithmetic": 2.0, "copy": 2.6, "reverse": 1.4, "upper": 1.4}
    if progress >= 1.0:
        kinds = {"chain": 0.33, "recall": 0.07, "tools": 0.08, "calls": 0.42, "long": 0.018, "drill": 0.24}
        drilled = {"arithmetic": 0.40, "reverse": 0.35, "upper": 0.25}
    return Mixture(kinds, skills, drilled)


def _pick(rng: Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def exchange(rng: Random, skill: str, split: Split) -> Exchange:
    """One question of `skill` from `split`."""
    made = draw(rng, SINGLE_TURN[skill], lambda candidate: candidate.belongs_to(split))
    return replace(made, question=with_chinese_marks(rng, made.question))


def _system(rng: Random) -> list[Message]:
    return [{"role": "system", "content": rng.choice(_SYSTEMS)}] if rng.random() < 0.45 else []


def _fact(rng: Random, split: Split) -> recall.Fact:
    return draw(rng, recall.make_fact, lambda fact: in_split(fact.key, split))


def _use(rng: Random, split: Split) -> ToolUse:
    return draw(rng, tool_use.make_use, lambda use: in_split(use.key, split))


def _fillers(rng: Random, tokens: int) -> list[Message]:
    """Turns of other subjects, about `tokens` long; stories when there is much to fill."""
    messages: list[Message] = []
    length = 0.0
    while length < tokens:
        skills = (
            ["story"]
            if tokens - length > 250 and rng.random() < 0.2
            else ["capitals", "terms", "arithmetic", "copy", "json"]
        )
        turn = tool_use.plain_turn(exchange(rng, rng.choice(skills), "train"))
        length += sum(len(message["content"]) / _CHARACTERS_PER_TOKEN + 5 for message in turn)
        messages += turn
    return messages


def _chain(rng: Random, mixture: Mixture) -> Conversation:
    messages = _system(rng)
    for _ in range(rng.choice((1, 1, 2, 3, 4, 5))):
        skill = _pick(rng, mixture.skills)
        messages += tool_use.plain_turn(exchange(rng, skill, "train"))
        if skill == "story":
            break
    return Conversation("chain", messages)


def _drill(rng: Random, mixture: Mixture) -> Conversation:
    """Many short exercises in one conversation, so that little is read for much learned."""
    messages = _system(rng)
    for _ in range(rng.randint(3, 9)):
        messages += tool_use.plain_turn(exchange(rng, _pick(rng, mixture.drilled), "train"))
    return Conversation("drill", messages)


def _remember(rng: Random, filler_tokens: int, facts: int) -> Conversation:
    known = [fact for fact in recall.make_facts(rng, facts) if in_split(fact.key, "train")]
    messages = _system(rng)
    for fact in known:
        messages += recall.told(fact)
        if rng.random() < 0.3:
            messages += _fillers(rng, rng.randint(5, 30))
    messages += _fillers(rng, filler_tokens) if filler_tokens else []
    rng.shuffle(known)
    for fact in known:
        messages += recall.asked(fact)
    return Conversation("recall", messages)


def _one_message(rng: Random) -> Conversation:
    """The fact and the question in a single message."""
    fact = _fact(rng, "train")
    return Conversation("recall", [*_system(rng), user(f"{fact.told} {fact.asked}"), assistant(fact.answered)])


_WITHOUT_TOOLS = ["identity", "capitals", "capitals", "terms", "copy", "upper", "json"]
"""Skills asked about while tools are offered; arithmetic is left out because a calculator may be among them."""


def _with_tools(rng: Random) -> Conversation:
    use = _use(rng, "train")
    uses = [use]
    for _ in range(rng.choice((0, 1, 2, 3))):
        if rng.random() < 0.5:
            again = tool_use.same_tool_again(rng, rng.choice(uses))
            if again and in_split(again.key, "train"):
                uses.append(again)
        else:
            other = _use(rng, "train")
            if all(tool_use.compatible(known, other) for known in uses):
                uses.append(other)
    tools = tool_use.offered(rng, uses, rng.choice((0, 0, 1, 1, 2, 3)))
    rng.shuffle(uses)
    turns = [tool_use.full_turns([one]) for one in uses]
    if rng.random() < 0.12:
        again = tool_use.same_tool_again(rng, uses[-1])
        if again and in_split(again.key, "train"):
            turns[-1] = _parallel([uses[-1], again])
    for _ in range(rng.choice((0, 1, 2, 3))):
        plain = tool_use.plain_turn(exchange(rng, rng.choice(_WITHOUT_TOOLS), "train"))
        turns.insert(rng.randint(0, len(turns)), plain)
    return Conversation("tools", _system(rng) + [message for turn in turns for message in turn], tools=tools)


def _first_call(rng: Random) -> Conversation:
    """A question and its call, nothing else: only a first call has to be copied from the list of tools."""
    use = _use(rng, "train")
    turns = [user(use.question), tool_use.call_message([use])]
    return Conversation("calls", _system(rng) + turns, tools=tool_use.offered(rng, [use], rng.choice((0, 1, 1, 2))))


def _parallel(uses: list[ToolUse]) -> list[Message]:
    question = " ".join(use.question for use in uses)
    answer = " ".join(use.answer for use in uses)
    return [user(question), tool_use.call_message(uses), *tool_use.result_messages(uses), assistant(answer)]


def training_conversation(rng: Random, mixture: Mixture) -> Conversation:
    """One conversation to train on, of a kind drawn from `mixture`; everything in it is of the training split."""
    kind = _pick(rng, mixture.kinds)
    if kind == "chain":
        return _chain(rng, mixture)
    if kind == "drill":
        return _drill(rng, mixture)
    if kind == "calls":
        return _first_call(rng)
    if kind == "tools":
        return _with_tools(rng)
    if kind == "long":
        return _remember(rng, rng.randint(*mixture.long_tokens), rng.randint(2, 4))
    if rng.random() < 0.15:
        return _one_message(rng)
    return _remember(rng, rng.choice((0, 0, 20, 40, 80, 140)), rng.randint(1, 3))


def _asked(skill: str, rng: Random, turns: list[Message], check: Check, tools: list[Tool]) -> Conversation:
    return Conversation(skill, _system(rng) + turns, check, tools)


def _single(skill: str) -> Callable[[Random, Split], Conversation]:
    def make(rng: Random, split: Split) -> Conversation:
        made = exchange(rng, skill, split)
        return _asked(skill, rng, tool_use.plain_turn(made), made.check, [])

    return make


def _recall(rng: Random, skill: str, split: Split, filler_tokens: int) -> Conversation:
    fact = _fact(rng, split)
    turns = recall.told(fact) + (_fillers(rng, filler_tokens) if filler_tokens else []) + recall.asked(fact)
    return _asked(skill, rng, turns, Check("contains", [fact.value]), [])


def _tool_call(rng: Random, split: Split) -> Conversation:
    use = _use(rng, split)
    turns = [user(use.question), tool_use.call_message([use])]
    return _asked("tool_call", rng, turns, tool_use.call_check([use]), tool_use.offered(rng, [use], rng.randint(0, 3)))


def _tool_skip(rng: Random, split: Split) -> Conversation:
    made = exchange(rng, rng.choice(["identity", "capitals", "terms", "copy"]), split)
    offered = tool_use.offered(rng, [_use(rng, split)], rng.randint(0, 3))
    return _asked("tool_skip", rng, tool_use.plain_turn(made), made.check, offered)


def _tool_answer(rng: Random, split: Split) -> Conversation:
    use = _use(rng, split)
    tools = tool_use.offered(rng, [use], rng.randint(0, 2))
    return _asked("tool_answer", rng, tool_use.full_turns([use]), Check("contains", [use.needle]), tools)


_QUESTIONS: dict[str, Callable[[Random, Split], Conversation]] = {
    **{skill: _single(skill) for skill in SINGLE_TURN},
    "recall": lambda rng, split: _recall(rng, "recall", split, rng.choice((0, 30, 60, 120))),
    "recall_long": lambda rng, split: _recall(rng, "recall_long", split, rng.choice((300, 500, 800, 1200))),
    "tool_call": _tool_call,
    "tool_skip": _tool_skip,
    "tool_answer": _tool_answer,
}

SKILLS = tuple(_QUESTIONS)
"""Every skill that is judged."""


def question(rng: Random, skill: str, split: Split = "heldout") -> Conversation:
    """A question of `skill` with its right answer as last message and the check that judges other answers."""
    return _QUESTIONS[skill](rng, split)
