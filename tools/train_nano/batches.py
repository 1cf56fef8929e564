"""Conversations as token batches: what is read, and which tokens are to be learned.

Each step's data depends only on the seed and the step's number, so that a run can stop and resume anywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tools.train_nano.conversations import mixture_at, training_conversation
from tools.train_nano.template import render
from tools.train_nano.tokenizer import END_OF_TEXT, TURN_END, TURN_START, token_id

Ids = NDArray[np.int64]
BLOCK = 16
"""Steps whose data is drawn together."""


@dataclass(frozen=True)
class MicroBatch:
    """Rows padded at the right, `[rows, length]`; `targets` is the next token, or -1 where nothing is learned."""

    tokens: Ids
    targets: Ids


@dataclass(frozen=True)
class StepData:
    """All micro-batches of one optimiser step, and how many tokens they teach."""

    step: int
    micro_batches: list[MicroBatch]
    learned: int
    read: int


@dataclass(frozen=True)
class Shape:
    """How much data a run takes: its steps without and with the polish, and the tokens of a step, of a micro-batch, and
    of a conversation at most."""

    steps: int
    total_steps: int
    step_tokens: int
    micro_tokens: int
    max_length: int


class Encoder:
    """Turns conversations into token ids and marks the assistant's tokens."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad = token_id(tokenizer, END_OF_TEXT)
        self._end = token_id(tokenizer, TURN_END)
        self._opening = tokenizer.encode(f"{TURN_START}assistant\n").ids

    def encode(self, text: str) -> tuple[Ids, Ids]:
        """Ids of a rendered conversation, and its targets: the assistant's tokens with each end of turn, else -1."""
        ids = self.tokenizer.encode(text).ids[: self.max_length]
        targets = [-1] * len(ids)
        opening, inside = self._opening, False
        for position in range(len(ids) - 1):
            if inside:
                targets[position] = ids[position + 1]
                inside = ids[position + 1] != self._end
            elif ids[max(0, position - len(opening) + 1) : position + 1] == opening:
                targets[position] = ids[position + 1]
                inside = True
        return np.array(ids), np.array(targets)


def block_data(encoder: Encoder, seed: int, first: int, shape: Shape) -> list[StepData]:
    """The data of the steps `first` to `first + BLOCK - 1`, drawn together so that rows of like length can be paired.

    Micro-batches hold at most `micro_tokens` tokens (or one row) and are dealt to the steps at random.
    """
    rng = Random(f"data {seed} {first}")
    mixture = mixture_at(first / shape.steps)
    rows: list[tuple[Ids, Ids]] = []
    read = 0
    while read < shape.step_tokens * BLOCK:
        drawn = training_conversation(rng, mixture)
        rows.append(encoder.encode(render(drawn.messages, drawn.tools)))
        read += len(rows[-1][0])
    rows.sort(key=lambda row: len(row[0]))
    groups: list[list[tuple[Ids, Ids]]] = [[]]
    for row in rows:
        if groups[-1] and (len(groups[-1]) + 1) * _rounded(len(row[0])) > shape.micro_tokens:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    return [_step(first + index, groups[index::BLOCK], encoder.pad) for index in range(BLOCK)]


def _step(step: int, groups: list[list[tuple[Ids, Ids]]], pad: int) -> StepData:
    rows = [row for group in groups for row in group]
    learned = sum(int((targets >= 0).sum()) for _, targets in rows)
    return StepData(step, [_pad(group, pad) for group in groups], learned, sum(len(ids) for ids, _ in rows))


def _rounded(length: int) -> int:
    return -(-length // 16) * 16


def _pad(rows: list[tuple[Ids, Ids]], pad: int) -> MicroBatch:
    length = _rounded(max(len(ids) for ids, _ in rows))
    tokens = np.full((len(rows), length), pad)
    targets = np.full((len(rows), length), -1)
    for row, (ids, wanted) in enumerate(rows):
        tokens[row, : len(ids)] = ids
        targets[row, : len(ids)] = wanted
    return MicroBatch(tokens, targets)


def stream(tokenizer_json: str, seed: int, first: int, shape: Shape) -> Iterator[StepData]:
    """Steps `first` to `shape.total_steps`, a block at a time; making them costs little beside training."""
    encoder = Encoder(Tokenizer.from_str(tokenizer_json), shape.max_length)
    for block in range(first - first % BLOCK, shape.total_steps, BLOCK):
        for data in block_data(encoder, seed, block, shape):
            if first <= data.step < shape.total_steps:
                yield data
