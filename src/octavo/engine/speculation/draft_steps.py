"""The steps of a draft model, as far as they are known before its tokens are: where each token stands, how it is drawn.

Each step computes one token for each sequence that still wants one. A small model takes less time for a step than
tensors take to be made, so they are made once for all steps of a draft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from octavo.engine.sampler import make_sampling_rows, sampling_numbers
from octavo.models.forward_context import ForwardContext
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from octavo.engine.request import Request
    from octavo.kernels.sampling_rows import SamplingRows
    from octavo.models.forward_context import LayerKVCache
    from octavo.models.layers.decoder import CausalLM


@dataclass(frozen=True, slots=True)
class DraftSteps:
    """``num_steps`` steps of ``num_seqs`` sequences, those that want most tokens first.

    Attributes:
        counts: how many sequences each step still computes.
        positions, slots: ``[num_steps, num_seqs]`` int64, as in ``ForwardContext``.
        seq_lens: ``[num_steps, num_seqs]`` int32.
        seq_lens_host: the same as Python ints.
        block_tables: ``[num_seqs, max_blocks]`` int32.
        query_starts: ``[num_seqs + 1]`` int32.
        prompt_lens: ``[num_steps, num_seqs]`` int64.
        angles: of the positions, ``[num_steps, num_seqs, rotary_dim]`` each.
        sampling_rows: of the first step, ``[num_seqs]``.
        output_positions: ``[num_steps, num_seqs]`` int64, as ``SamplingRows.positions``.
    """

    counts: list[int]
    positions: Tensor
    slots: Tensor
    seq_lens: Tensor
    seq_lens_host: list[list[int]]
    block_tables: Tensor
    query_starts: Tensor
    prompt_lens: Tensor
    angles: tuple[Tensor, ...]
    sampling_rows: SamplingRows
    output_positions: Tensor
    kv_caches: Sequence[LayerKVCache]

    @classmethod
    def plan(
        cls,
        requests: Sequence[Request],
        lens: Sequence[int],
        model: CausalLM,
        kv_caches: Sequence[LayerKVCache],
        *,
        block_size: int,
        device: torch.device,
    ) -> DraftSteps:
        """Return the steps of drafts of ``lens`` tokens, which descend."""

        def there(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        # On the host, where a small operation costs a tenth of what it costs on tensors.
        num_seqs, num_steps = len(requests), lens[0]
        places = np.arange(num_steps)[:, None]
        positions = np.array([len(request.token_ids) - 1 for request in requests]) + places
        block_tables = np.zeros((num_seqs, blocks_of_sequence(int(positions.max()) + 1, block_size)), dtype=np.int32)
        for table, request in zip(block_tables, requests, strict=True):
            blocks = request.block_ids[: len(table)]
            table[: len(blocks)] = blocks
        blocks_of_tokens = block_tables[np.arange(num_seqs), positions // block_size].astype(np.int64)
        seq_lens = positions + 1
        prompt_lens = np.tile([request.prompt_len for request in requests], (num_steps, 1))
        output_positions = there(np.array([request.num_output_tokens for request in requests]) + places)
        positions_there, prompt_lens_there = there(positions), there(prompt_lens)
        angles = model.angles(positions_there.flatten(), prompt_lens_there.flatten())
        return cls(
            counts=[sum(length > place for length in lens) for place in range(num_steps)],
            positions=positions_there,
            slots=there(blocks_of_tokens * block_size + positions % block_size),
            seq_lens=there(seq_lens.astype(np.int32)),
            seq_lens_host=seq_lens.tolist(),
            block_tables=there(block_tables),
            query_starts=there(np.arange(num_seqs + 1, dtype=np.int32)),
            prompt_lens=prompt_lens_there,
            angles=tuple(part.unflatten(0, positions.shape) for part in angles),
            sampling_rows=_sampling_rows(requests, output_positions[0], device),
            output_positions=output_positions,
            kv_caches=kv_caches,
        )

    def context(self, step: int) -> ForwardContext:
        """Return the context of a step: each sequence computes the last token that it has."""
        count = self.counts[step]
        return ForwardContext(
            positions=self.positions[step, :count],
            slots=self.slots[step, :count],
            block_tables=self.block_tables[:count],
            query_starts=self.query_starts[: count + 1],
            seq_lens=self.seq_lens[step, :count],
            prompt_lens=self.prompt_lens[step, :count],
            query_lens_host=[1] * count,
            seq_lens_host=self.seq_lens_host[step][:count],
            kv_caches=self.kv_caches,
        )

    def angles_of(self, step: int) -> tuple[Tensor, ...]:
        """Return the angles of a step, as ``CausalLM.angles``."""
        return tuple(part[step, : self.counts[step]] for part in self.angles)

    def sampling_rows_of(self, step: int) -> SamplingRows:
        """Return how the tokens behind a step are drawn."""
        count, rows = self.counts[step], self.sampling_rows
        return replace(
            rows,
            temperature=rows.temperature[:count],
            top_k=rows.top_k[:count],
            top_p=rows.top_p[:count],
            min_p=rows.min_p[:count],
            seeds=rows.seeds[:count],
            positions=self.output_positions[step, :count],
        )


def _sampling_rows(requests: Sequence[Request], positions: Tensor, device: torch.device) -> SamplingRows:
    params = [request.sampling_params for request in requests]
    numbers = [sampling_numbers(p, request.seed) for p, request in zip(params, requests, strict=True)]
    temperature, top_p, min_p, top_k, seeds = zip(*numbers, strict=True)
    floats = torch.tensor([temperature, top_p, min_p], dtype=torch.float32, device=device)
    ints = torch.tensor([top_k, seeds], dtype=torch.int64, device=device)
    return make_sampling_rows(
        [p for p in params if not p.is_greedy],
        temperature=floats[0],
        top_p=floats[1],
        min_p=floats[2],
        top_k=ints[0],
        seeds=ints[1],
        positions=positions,
    )
