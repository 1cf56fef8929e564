"""Runs a model on a hand-made paged cache: block tables that are not contiguous, garbage wherever nobody wrote."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from octavo.models.config import ModelConfig
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.models.layers.decoder import CausalLM
from octavo.models.loading import LoadOptions, load_model


def load_float32(directory: Path) -> CausalLM:
    config = ModelConfig.from_directory(directory)
    return load_model(directory, config, LoadOptions(dtype=torch.float32, device=torch.device("cpu")))


class PagedRun:
    """A few sequences with a shared cache; each step computes the next tokens of some of them.

    The cache starts as NaN, so that any read of a slot that was never written shows.
    """

    def __init__(self, model: CausalLM, sequences: Sequence[Sequence[int]], prompt_lens: Sequence[int], seed: int = 0):
        self.model = model
        self.sequences = sequences
        self.prompt_lens = prompt_lens
        self.block_size = 4
        self.num_computed = [0] * len(sequences)
        needs = [-(-len(sequence) // self.block_size) for sequence in sequences]
        blocks = list(range(1, sum(needs) + 3))
        random.Random(seed).shuffle(blocks)
        self.tables = [[blocks.pop() for _ in range(need)] for need in needs]
        shape = (sum(needs) + 3, self.block_size, model.num_kv_heads, model.head_dim)
        self.kv_caches = [
            LayerKVCache(torch.full(shape, torch.nan), torch.full(shape, torch.nan)) for _ in model.layers
        ]

    def step(self, counts: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Compute ``(sequence, number of tokens)`` pairs in one batch; return the logits of each."""
        positions = [range(self.num_computed[i], self.num_computed[i] + count) for i, count in counts]
        width = max(len(table) for table in self.tables) + 1
        tables = [self.tables[i] + [0] * (width - len(self.tables[i])) for i, _ in counts]
        slots = [
            table[position // self.block_size] * self.block_size + position % self.block_size
            for table, span in zip(tables, positions, strict=True)
            for position in span
        ]
        lengths = [span.stop for span in positions]
        query_lens = [count for _, count in counts]
        context = ForwardContext(
            positions=torch.tensor([position for span in positions for position in span]),
            slots=torch.tensor(slots),
            block_tables=torch.tensor(tables, dtype=torch.int32),
            query_starts=torch.tensor([0, *query_lens], dtype=torch.int32).cumsum(0, dtype=torch.int32),
            seq_lens=torch.tensor(lengths, dtype=torch.int32),
            prompt_lens=torch.tensor([self.prompt_lens[i] for i, count in counts for _ in range(count)]),
            query_lens_host=query_lens,
            seq_lens_host=lengths,
            kv_caches=self.kv_caches,
        )
        input_ids = torch.tensor(
            [self.sequences[i][position] for (i, _), span in zip(counts, positions, strict=True) for position in span]
        )
        logits = self.model.compute_logits(self.model(input_ids, context))
        for i, count in counts:
            self.num_computed[i] += count
        return list(logits.split(query_lens))
