"""Held-out questions for every skill, put to a running server over HTTP, or to a checkpoint in this process.

A quantised or broken engine shows as lost skill:
`python -m tools.train_nano.evaluate --base-url http://127.0.0.1:8000/v1`
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tools.train_nano.conversations import SKILLS, question
from tools.train_nano.sample import Conversation
from tools.train_nano.scoring import Answer, parse, passes

_CONCURRENCY = 16
_STORY_TOKENS, _OTHER_TOKENS = 400, 160


@dataclass(frozen=True)
class Result:
    """One question put, and what came of it."""

    asked: Conversation
    answer: Answer
    passed: bool


def questions(skills: Sequence[str], samples: int, seed: int) -> list[Conversation]:
    """`samples` held-out questions of each skill, the same for the same seed whatever other skills are asked."""
    asked: list[Conversation] = []
    for skill in skills:
        rng = Random(f"evaluate {seed} {skill}")
        asked += [question(rng, skill) for _ in range(samples)]
    return asked


def max_tokens(asked: Conversation) -> int:
    """How long an answer may grow before it counts as not ending."""
    return _STORY_TOKENS if asked.skill == "story" else _OTHER_TOKENS


def judge(asked: Conversation, answer: Answer) -> Result:
    """Score `answer`."""
    if asked.check is None:
        raise ValueError("a conversation without a check is no question")
    return Result(asked, answer, passes(asked.check, answer))


async def ask_server(base_url: str, model: str | None, asked: list[Conversation]) -> list[Result]:
    """Put all questions to the OpenAI-compatible server at `base_url`, greedily, some at a time.

    Raises `httpx.HTTPStatusError` when the server refuses a question.
    """
    gate = asyncio.Semaphore(_CONCURRENCY)
    async with httpx.AsyncClient(base_url=base_url.rstrip("/") + "/", timeout=300) as client:
        if model is None:
            listed = await client.get("models")
            listed.raise_for_status()
            model = str(listed.json()["data"][0]["id"])

        async def one(conversation: Conversation) -> Result:
            async with gate:
                response = await client.post("chat/completions", json=_request(model, conversation))
            response.raise_for_status()
            return judge(conversation, _from_choice(response.json()["choices"][0]))

        return await asyncio.gather(*(one(conversation) for conversation in asked))


def _request(model: str | None, asked: Conversation) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": [_as_sent(message, index) for index, message in enumerate(asked.prompt)],
        "temperature": 0,
        "max_tokens": max_tokens(asked),
    }
    if asked.tools:
        body["tools"] = asked.tools
    return body


def _as_sent(message: dict[str, Any], index: int) -> dict[str, Any]:
    """A message as OpenAI clients send it: calls have an id and their arguments are a string."""
    if message["role"] == "tool":
        return {**message, "tool_call_id": f"call_{index - 1}_0"}
    if "tool_calls" not in message:
        return message
    calls = [
        {
            "id": f"call_{index}_{number}",
            "type": "function",
            "function": {
                **call["function"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for number, call in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": calls}


def _from_choice(choice: dict[str, Any]) -> Answer:
    message = choice["message"]
    finished = choice["finish_reason"] in ("stop", "tool_calls")
    answer = parse(message.get("content") or "", finished)
    calls = [
        {"name": call["function"]["name"], "arguments": _decoded(call["function"]["arguments"])}
        for call in message.get("tool_calls") or []
    ]
    return Answer(answer.text, answer.calls + calls, finished)


def _decoded(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return arguments


def scores(results: list[Result]) -> dict[str, float]:
    """The share of right answers of each skill."""
    by_skill: dict[str, list[bool]] = {}
    for result in results:
        by_skill.setdefault(result.asked.skill, []).append(result.passed)
    return {skill: sum(passed) / len(passed) for skill, passed in by_skill.items()}


def _minimum(text: str) -> tuple[str, float]:
    skill, _, score = text.partition("=")
    if skill not in (*SKILLS, "all"):
        raise argparse.ArgumentTypeError(f"unknown skill {skill!r}; there are {', '.join(SKILLS)}, and all")
    return skill, float(score)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.train_nano.evaluate", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--base-url", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1")
    where.add_argument("--checkpoint", type=Path, help="a model folder to run here with transformers")
    parser.add_argument("--model", help="the model to ask for; default: the first the server lists")
    parser.add_argument("--samples", type=int, default=100, help="questions of each skill")
    parser.add_argument("--skills", nargs="+", choices=SKILLS, default=list(SKILLS), metavar="SKILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="wrong answers of each skill to print")
    parser.add_argument("--json", type=Path, help="write the scores to this file")
    parser.add_argument(
        "--min-score", type=_minimum, nargs="+", default=[], metavar="SKILL=SCORE",
        help="fail when a skill (or each, for `all`) scores less",
    )  # fmt: skip
    return parser


def _show_wrong(results: list[Result], count: int) -> None:
    shown: dict[str, int] = {}
    for result in results:
        if result.passed or shown.get(result.asked.skill, 0) >= count:
            continue
        shown[result.asked.skill] = shown.get(result.asked.skill, 0) + 1
        last, got = result.asked.prompt[-1]["content"], result.answer.calls or result.answer.text
        print(f"[{result.asked.skill}] {last!r}\n   wanted {result.asked.check}\n   got    {got!r}")


def main() -> int:
    """Ask, print the table, and return 1 when a minimum was missed."""
    arguments = _parser().parse_args()
    asked = questions(arguments.skills, arguments.samples, arguments.seed)
    if arguments.checkpoint:
        from tools.train_nano.local_answers import ask_checkpoint  # transformers is not needed to ask a server

        results = [judge(one, answer) for one, answer in ask_checkpoint(arguments.checkpoint, asked, max_tokens)]
    else:
        results = asyncio.run(ask_server(arguments.base_url, arguments.model, asked))
    _show_wrong(results, arguments.show)
    found = scores(results)
    print(f"{'skill':<14} score   of {arguments.samples}")
    for skill, score in found.items():
        print(f"{skill:<14} {score:6.1%}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"samples": arguments.samples, "scores": found}, indent=2) + "\n")
    wanted = {skill: least for name, least in arguments.min_score for skill in (SKILLS if name == "all" else (name,))}
    missed = {skill: least for skill, least in wanted.items() if found.get(skill, 0.0) < least}
    for skill, least in missed.items():
        print(f"{skill}: {found.get(skill, 0.0):.1%} is less than {least:.1%}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
