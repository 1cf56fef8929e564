"""Drives a load: sends each turn when it is due and a slot is free, and writes down what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

from octavo.bench.answers import Answer
from octavo.bench.http_client import Exchange
from octavo.bench.openai_client import Message, OpenAIClient, Prompt
from octavo.bench.records import RequestRecord
from octavo.bench.workloads import Conversation, Turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request that is over: what was planned, what was measured, and the answer."""

    turn: Turn
    record: RequestRecord
    answer: Answer


@dataclass(slots=True)
class Load:
    """One run of a load.

    Attributes:
        model: name that requests carry.
        ignore_eos: answers have exactly the length that the turn says.
        max_concurrency: most requests under way; None is no limit.
        duration_s: nothing is sent later than this.
        on_outcome: told of each request that is over.
        records: in the order in which requests ended.
        send_lags_s: for each request, how much later than intended the client sent it, connecting left out.
        num_under_way: requests that are not over; after an interrupt those that were left out.
        num_unsent: turns that were due but not sent: after the end, or after a failure in their conversation.
    """

    client: OpenAIClient
    model: str
    ignore_eos: bool
    max_concurrency: int | None = None
    duration_s: float | None = None
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    records: list[RequestRecord] = field(default_factory=list)
    send_lags_s: list[float] = field(default_factory=list)
    num_under_way: int = 0
    num_unsent: int = 0
    started_at: float = field(default_factory=perf_counter)
    _next_index: int = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self.started_at

    async def run_closed(self, conversations: Iterable[Conversation]) -> None:
        """Keep ``max_concurrency`` conversations under way until there are none left or the time is over."""
        waiting = iter(conversations)
        self.started_at = perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.max_concurrency or 1):
                tasks.create_task(self._work(waiting))

    async def run_open(self, conversations: Iterable[Conversation], times_s: Iterator[float]) -> None:
        """Begin each conversation at its time, in seconds after the start, and let none wait for another.

        With a ``max_concurrency``, requests that would exceed it wait for their turn.
        """
        slots = asyncio.Semaphore(self.max_concurrency) if self.max_concurrency is not None else None
        self.started_at = perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for conversation in conversations:
                due_s = next(times_s)
                if self._is_over(due_s):
                    break
                await asyncio.sleep(max(due_s - self.elapsed_s, 0))
                tasks.create_task(self._converse(conversation, due_s, slots))

    async def _work(self, waiting: Iterator[Conversation]) -> None:
        for conversation in waiting:
            free_at_s = self.elapsed_s
            if self._is_over(free_at_s):
                return
            await self._converse(conversation, free_at_s, None)

    async def _converse(self, conversation: Conversation, due_s: float, slots: asyncio.Semaphore | None) -> None:
        history: list[Prompt] = []
        for number, turn in enumerate(conversation.turns):
            if number:
                due_s = self.elapsed_s + conversation.think_time_s
                await asyncio.sleep(conversation.think_time_s)
            must_wait = slots is not None and slots.locked()
            async with slots or nullcontext():
                released_s = self.elapsed_s if must_wait else due_s
                if self._is_over(self.elapsed_s):
                    self.num_unsent += len(conversation.turns) - number
                    return
                history.append(turn.prompt)
                answer = await self._send(turn, _join(history), due_s, released_s)
            if answer.error is not None:
                self.num_unsent += len(conversation.turns) - number - 1
                return
            history.append(_as_history(turn.prompt, answer.text))

    async def _send(self, turn: Turn, prompt: Prompt, due_s: float, released_s: float) -> Answer:
        index = self._next_index
        self._next_index += 1
        self.num_under_way += 1
        exchange, answer = Exchange(), Answer()
        begun_at = perf_counter()
        body = self.client.encode(self.model, prompt, turn.output_tokens, ignore_eos=self.ignore_eos)
        await self.client.ask(body, exchange, answer)
        sent_at = exchange.sent_at or begun_at
        record = RequestRecord(
            index=index,
            scheduled_at=due_s,
            sent_at=sent_at - self.started_at,
            finished_at=(exchange.finished_at or perf_counter()) - self.started_at,
            connect_s=exchange.connect_s,
            chunk_times=[at - self.started_at for at in answer.chunk_times],
            input_tokens=answer.input_tokens if answer.input_tokens is not None else turn.input_tokens or 0,
            output_tokens=answer.output_tokens if answer.output_tokens is not None else len(answer.chunk_times),
            cached_tokens=answer.cached_tokens,
            error=answer.error,
            error_message=answer.error_message,
        )
        self.num_under_way -= 1
        self.records.append(record)
        self.send_lags_s.append(max(record.sent_at - exchange.connect_s - released_s, 0.0))
        self.on_outcome(Outcome(turn, record, answer))
        return answer

    def _is_over(self, at_s: float) -> bool:
        return self.duration_s is not None and at_s >= self.duration_s


def _join(history: list[Prompt]) -> Prompt:
    """Return the prompt of the next request: all messages, or all text, so far."""
    if len(history) == 1:
        return history[0]
    if isinstance(history[0], str):
        return " ".join(str(part) for part in history)
    return [message for part in history for message in cast(list[Message], part)]


def _as_history(prompt: Prompt, text: str) -> Prompt:
    """Return an answer in the form of the prompt before it."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
