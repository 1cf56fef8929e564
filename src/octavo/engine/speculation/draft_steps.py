"""The steps of a draft model, as far as they are known before its tokens are: where each token stands, how it is drawn.

Each step computes one token for each sequence. A small model takes less time for a step than
tensors take to be made, so they are made once for all steps of a draft.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from octavo import kernels
from octavo.engine.sampler import make_sampling_rows, sampling_numbers
from octavo.models.forward_context import ForwardContext
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from numpy.typing import NDArray
    from torch import Tensor

    from octavo.engine.request import Request
    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.speculation.draft_grammars import DraftGrammars
    from octavo.kernels.sampling_rows import SamplingRows
    from octavo.models.forward_context import LayerKVCache
    from octavo.models.layers.decoder import CausalLM

    ComputeLayers: TypeAlias = Callable[[Tensor, tuple[Tensor, ...], ForwardContext], Tensor]


@dataclass(frozen=True, slots=True)
class DraftSteps:
    """The steps in which ``num_seqs`` sequences guess ``num_tokens`` tokens each, and compute the last one, too.

    So there are ``num_steps = num_tokens + 1`` of them. Sequences that want fewer tokens go along: what they compute
    beyond their blocks goes to the padding block.

    Attributes:
        token_ids: ``[num_seqs]`` int64, the last known token of each.
        positions, prompt_lens, slots: ``[num_steps, num_seqs]`` int64, as in ``ForwardContext``.
        seq_lens: ``[num_steps, num_seqs]`` int32.
        seq_lens_host: the same as Python ints.
        block_tables: ``[num_seqs, max_blocks]`` int32.
        query_starts: ``[num_seqs + 1]`` int32.
        angles: of the positions, ``[num_steps, num_seqs, rotary_dim]`` each.
        sampling_floats: ``[3, num_seqs]`` float32, temperature, top-p and min-p.
        sampling_ints: ``[2, num_seqs]`` int64, top-k and seeds.
        output_positions: ``[num_steps, num_seqs]`` int64, as ``SamplingRows.positions``.
        random: parameters of the sequences that are not greedy.
    """

    token_ids: Tensor
    positions: Tensor
    prompt_lens: Tensor
    slots: Tensor
    seq_lens: Tensor
    seq_lens_host: list[list[int]]
    block_tables: Tensor
    query_starts: Tensor
    angles: tuple[Tensor, ...]
    sampling_floats: Tensor
    sampling_ints: Tensor
    output_positions: Tensor
    random: list[SamplingParams]
    kv_caches: Sequence[LayerKVCache]

    @classmethod
    def plan(
        cls,
        requests: Sequence[Request],
        num_tokens: int,
        model: CausalLM,
        kv_caches: Sequence[LayerKVCache],
        *,
        block_size: int,
        max_model_len: int,
        device: torch.device,
    ) -> DraftSteps:
        """Return the steps that follow the known tokens of some requests."""

        def there(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        # On the host, where a small operation costs a tenth of what it costs on tensors.
        num_seqs, places = len(requests), np.arange(num_tokens + 1)[:, None]
        positions = np.array([len(request.token_ids) - 1 for request in requests]) + places
        positions = np.minimum(positions, max_model_len - 1)
        block_tables = np.zeros((num_seqs, blocks_of_sequence(max_model_len, block_size)), dtype=np.int32)
        for table, request in zip(block_tables, requests, strict=True):
            table[: len(request.block_ids)] = request.block_ids
        blocks_of_tokens = block_tables[np.arange(num_seqs), positions // block_size].astype(np.int64)
        seq_lens = positions + 1
        positions_there = there(positions)
        prompt_lens = there(np.tile([request.prompt_len for request in requests], (num_tokens + 1, 1)))
        angles = model.angles(positions_there.flatten(), prompt_lens.flatten())
        params = [request.sampling_params for request in requests]
        numbers = [sampling_numbers(p, request.seed) for p, request in zip(params, requests, strict=True)]
        temperature, top_p, min_p, top_k, seeds = zip(*numbers, strict=True)
        return cls(
            token_ids=there(np.array([request.token_ids[-1] for request in requests])),
            positions=positions_there,
            prompt_lens=prompt_lens,
            slots=there(blocks_of_tokens * block_size + positions % block_size),
            seq_lens=there(seq_lens.astype(np.int32)),
            seq_lens_host=seq_lens.tolist(),
            block_tables=there(block_tables),
            query_starts=there(np.arange(num_seqs + 1, dtype=np.int32)),
            angles=tuple(part.view(*positions.shape, -1) for part in angles),
            sampling_floats=there(np.array([temperature, top_p, min_p], dtype=np.float32)),
            sampling_ints=there(np.array([top_k, seeds])),
            output_positions=there(np.array([request.num_output_tokens for request in requests]) + places),
            random=[p for p in params if not p.is_greedy],
            kv_caches=kv_caches,
        )

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Everything in which two drafts of the same numbers of sequences and tokens differ for native kernels."""
        return (
            self.token_ids,
            self.slots,
            self.seq_lens,
            self.block_tables,
            *self.angles,
            self.sampling_floats,
            self.sampling_ints,
            self.output_positions,
        )

    def compute(
        self, model: CausalLM, compute_layers: ComputeLayers, grammars: DraftGrammars | None = None
    ) -> list[Tensor]:
        """Return the tokens that a model guesses, ``[num_seqs]`` int64 a step.

        Args:
            compute_layers: of the model.
            grammars: of the sequences, if they have any.
        """
        token_ids, guessed = self.token_ids, []
        last = len(self.positions) - 1
        for step in range(last):
            if grammars is not None:
                grammars.begin_step()
            hidden = compute_layers(model.embed(token_ids), self._angles(step), self._context(step))
            logits = model.compute_logits(hidden)
            if grammars is not None:
                grammars.restrict(logits)
            token_ids = kernels.sample_tokens(logits, self._sampling_rows(step))
            if grammars is not None:
                grammars.follow(token_ids.tolist())
            guessed.append(token_ids)
        compute_layers(model.embed(token_ids), self._angles(last), self._context(last))
        return guessed

    def _context(self, step: int) -> ForwardContext:
        return ForwardContext(
            positions=self.positions[step],
            slots=self.slots[step],
            block_tables=self.block_tables,
            query_starts=self.query_starts,
            seq_lens=self.seq_lens[step],
            prompt_lens=self.prompt_lens[step],
            query_lens_host=[1] * len(self.token_ids),
            seq_lens_host=self.seq_lens_host[step],
            kv_caches=self.kv_caches,
        )

    def _angles(self, step: int) -> tuple[Tensor, ...]:
        return tuple(part[step] for part in self.angles)

    def _sampling_rows(self, step: int) -> SamplingRows:
        temperature, top_p, min_p = self.sampling_floats
        top_k, seeds = self.sampling_ints
        return make_sampling_rows(
            self.random,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seeds=seeds,
            positions=self.output_positions[step],
        )


def inputs_of_known_tokens(
    parts: Sequence[tuple[Request, int, int]],
    kv_caches: Sequence[LayerKVCache],
    *,
    block_size: int,
    device: torch.device,
) -> tuple[Tensor, ForwardContext]:
    """Return the token ids and the context of a step that computes known tokens.

    Args:
        parts: sequences, each with its first token to compute and the one behind the last.
    """
    counts = np.array([end - start for _, start, end in parts])
    seq_lens = np.array([end for _, _, end in parts])
    query_starts = np.concatenate([[0], counts.cumsum()])
    positions = np.arange(query_starts[-1]) + np.repeat(seq_lens - query_starts[1:], counts)
    block_tables = np.zeros((len(parts), blocks_of_sequence(int(seq_lens.max()), block_size)), dtype=np.int32)
    for table, (request, _, _) in zip(block_tables, parts, strict=True):
        blocks = request.block_ids[: len(table)]
        table[: len(blocks)] = blocks
    blocks_of_tokens = block_tables[np.repeat(np.arange(len(parts)), counts), positions // block_size]
    prompt_lens = np.repeat([request.prompt_len for request, _, _ in parts], counts)

    def there(values: NDArray[Any], dtype: type[np.generic]) -> Tensor:
        return torch.from_numpy(values.astype(dtype)).to(device)

    context = ForwardContext(
        positions=there(positions, np.int64),
        slots=there(blocks_of_tokens.astype(np.int64) * block_size + positions % block_size, np.int64),
        block_tables=there(block_tables, np.int32),
        query_starts=there(query_starts, np.int32),
        seq_lens=there(seq_lens, np.int32),
        prompt_lens=there(prompt_lens, np.int64),
        query_lens_host=counts.tolist(),
        seq_lens_host=seq_lens.tolist(),
        kv_caches=kv_caches,
    )
    tokens = [token_id for request, start, end in parts for token_id in request.token_ids[start:end]]
    return there(np.array(tokens), np.int64), context
