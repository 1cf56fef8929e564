"""What is asked: conversations of one turn or more, drawn from a distribution, a file of prompts or a recorded trace.

A conversation is everything that must happen in order: a turn is sent after the answer to the one before it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from octavo.bench.openai_client import Message, Prompt
from octavo.bench.prompts import PromptMaker, WordIds
from octavo.bench.serve_settings import Workload
from octavo.bench.traces import HASH_BLOCK_TOKENS, TraceRequest, clip_trace, read_trace
from octavo.errors import ConfigError

Seed = tuple[int, ...]

_BLOCK_STREAM = 1
_CACHED_BLOCKS = 16384


@dataclass(frozen=True, slots=True)
class Turn:
    """One request.

    Attributes:
        prompt: what the turn adds to the conversation.
        input_tokens: of the whole request; None where they are known only by the answers before it, or not at all.
        output_tokens: most tokens of the answer; None leaves it to the server.
    """

    prompt: Prompt
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in their order.

    Attributes:
        arrival_s: when a trace says that it comes, in seconds after the start.
    """

    turns: tuple[Turn, ...]
    think_time_s: float = 0.0
    arrival_s: float | None = None


@dataclass(slots=True)
class Conversations:
    """The conversations of a workload, and what the reader of the result must know about them.

    Attributes:
        num_requests: how many there are; None for no end.
        sets_output_length: whether the length of an answer is part of the workload, and not up to the model.
        warnings: filled before the first conversation is taken.
    """

    items: Iterable[Conversation]
    num_requests: int | None
    sets_output_length: bool = True
    warnings: list[str] = field(default_factory=list)


def needs_text(workload: Workload) -> bool:
    """Whether prompts must be texts, since answers are put between them."""
    return workload.dataset_name == "multi-turn"


def make_conversations(
    workload: Workload, maker: PromptMaker, *, seed: Seed, max_requests: int | None
) -> Conversations:
    """Return the conversations of a workload; the same seed gives the same ones.

    Args:
        max_requests: the last conversation is cut short so that there are no more turns than this. Files with fewer
            prompts are read again from their beginning; a trace is not.

    Raises:
        ConfigError: the file of the workload cannot be read or fits neither the workload nor the endpoint.
    """
    if workload.dataset_name == "trace":
        return _replay(workload, maker, seed, max_requests)
    if workload.dataset_name == "jsonl":
        return _read_jsonl(workload, maker.is_chat, max_requests)
    drawn = _DRAW[workload.dataset_name](workload, maker, np.random.default_rng(seed))
    conversations = Conversations(_take(drawn, max_requests), max_requests)
    shortest = int(np.floor(workload.input_len * (1 - workload.range_ratio)))
    if maker.num_tokens(1) > max(shortest, 1) and workload.dataset_name != "shared-prefix":
        conversations.warnings.append(
            f"prompts of {shortest} tokens were asked for, but the shortest possible one has {maker.num_tokens(1)}: "
            f"the chat template adds {maker.overhead} tokens to each"
        )
    return conversations


def _draw_random(workload: Workload, maker: PromptMaker, rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        yield Conversation((_random_turn(workload, maker, rng),))


def _draw_shared_prefix(workload: Workload, maker: PromptMaker, rng: np.random.Generator) -> Iterator[Conversation]:
    seeds = rng.integers(2**31, size=workload.num_prefixes).tolist()
    num_words = round(workload.prefix_len / maker.tokens_per_word)
    prefixes = [maker.random_text(num_words, np.random.default_rng(seed)) for seed in seeds]
    while True:
        prefix = prefixes[int(rng.integers(workload.num_prefixes))]
        num_tokens = workload.prefix_len + _length(workload.input_len, workload, rng)
        own = maker.random_text(max(maker.num_words(num_tokens) - len(prefix), 1), rng)
        text = np.concatenate([prefix, own])
        output_tokens = _length(workload.output_len, workload, rng)
        yield Conversation((Turn(maker.write(text), maker.num_tokens(len(text)), output_tokens),))


def _draw_multi_turn(workload: Workload, maker: PromptMaker, rng: np.random.Generator) -> Iterator[Conversation]:
    while True:
        first = _random_turn(workload, maker, rng)
        later = [replace(_random_turn(workload, maker, rng), input_tokens=None) for _ in range(workload.num_turns - 1)]
        yield Conversation((first, *later), workload.think_time_s)


_DRAW = {"random": _draw_random, "shared-prefix": _draw_shared_prefix, "multi-turn": _draw_multi_turn}


def _random_turn(workload: Workload, maker: PromptMaker, rng: np.random.Generator) -> Turn:
    text = maker.random_text(maker.num_words(_length(workload.input_len, workload, rng)), rng)
    return Turn(maker.write(text), maker.num_tokens(len(text)), _length(workload.output_len, workload, rng))


def _length(length: int, workload: Workload, rng: np.random.Generator) -> int:
    low = max(int(np.floor(length * (1 - workload.range_ratio))), 1)
    high = max(int(np.ceil(length * (1 + workload.range_ratio))), low)
    return int(rng.integers(low, high, endpoint=True))


def _take(conversations: Iterator[Conversation], max_requests: int | None) -> Iterable[Conversation]:
    """Cut to a number of turns; what has an end is made at once, so that it costs nothing during the test."""
    return conversations if max_requests is None else list(_cut(conversations, max_requests))


def _cut(conversations: Iterable[Conversation], max_requests: int) -> Iterator[Conversation]:
    left = max_requests
    for conversation in conversations:
        yield replace(conversation, turns=conversation.turns[:left])
        left -= len(conversation.turns)
        if left <= 0:
            return


def _replay(workload: Workload, maker: PromptMaker, seed: Seed, max_requests: int | None) -> Conversations:
    requests = read_trace(
        _path(workload), start_s=workload.trace_start_s, max_requests=max_requests, speed=workload.trace_speed
    )
    warnings = []
    if workload.max_model_len is not None:
        requests, num_clipped = clip_trace(requests, workload.max_model_len)
        if num_clipped:
            warnings.append(
                f"{num_clipped} of {len(requests)} requests of the trace were shortened to {workload.max_model_len} "
                "tokens in all"
            )
    rng = np.random.default_rng(seed)

    @lru_cache(_CACHED_BLOCKS)
    def block(hash_id: int) -> WordIds:
        num_words = -(-HASH_BLOCK_TOKENS // max(maker.tokens_per_word, 1e-3))
        return maker.random_text(int(num_words), np.random.default_rng([*seed, _BLOCK_STREAM, hash_id]))

    def conversation(request: TraceRequest) -> Conversation:
        num_words = maker.num_words(request.input_tokens)
        if request.hash_ids is None:
            text = maker.random_text(num_words, rng)
        else:
            text = np.concatenate([block(hash_id) for hash_id in request.hash_ids])[:num_words]
        turn = Turn(maker.write(text), maker.num_tokens(len(text)), request.output_tokens)
        return Conversation((turn,), arrival_s=request.arrival_s)

    return Conversations([conversation(request) for request in requests], len(requests), warnings=warnings)


class _Line(msgspec.Struct):
    """``output_tokens`` is vLLM's name, ``max_tokens`` that of the API."""

    prompt: str | list[int] | None = None
    messages: list[Message] | None = None
    output_tokens: int | None = None
    max_tokens: int | None = None


def _read_jsonl(workload: Workload, is_chat: bool, max_requests: int | None) -> Conversations:
    path = _path(workload)
    decoder = msgspec.json.Decoder(_Line)
    turns = []
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if line.strip():
                turns.append(_turn_of_line(decoder.decode(line), workload, is_chat, f"{path}, line {number}"))
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    if not turns:
        raise ConfigError(f"{path} has no prompts")
    num_requests = len(turns) if max_requests is None else max_requests
    return Conversations(
        [Conversation((turn,)) for turn in itertools.islice(itertools.cycle(turns), num_requests)],
        num_requests,
        sets_output_length=False,
    )


def _turn_of_line(line: _Line, workload: Workload, is_chat: bool, place: str) -> Turn:
    if (line.prompt is None) == (line.messages is None):
        raise ConfigError(f"{place}: the line must have either 'prompt' or 'messages'")
    output_tokens = line.output_tokens or line.max_tokens or workload.output_len
    if line.messages is not None:
        if not is_chat:
            raise ConfigError(f"{place}: 'messages' need --endpoint /v1/chat/completions")
        return Turn(line.messages, None, output_tokens)
    if not is_chat:
        return Turn(line.prompt or "", None, output_tokens)
    if not isinstance(line.prompt, str):
        raise ConfigError(f"{place}: token ids need --endpoint /v1/completions")
    return Turn([{"role": "user", "content": line.prompt}], None, output_tokens)


def _path(workload: Workload) -> Path:
    assert workload.dataset_path is not None  # Workload checks it
    return workload.dataset_path
