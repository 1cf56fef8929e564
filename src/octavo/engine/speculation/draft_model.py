"""Drafts by a smaller model that shares the block tables of the large one.

Each step of the large model is computed by the small one as well, into a KV cache of its own with the same blocks. So
whatever the large model has keys and values of, cached prefixes included, the small one has, too.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from octavo import kernels
from octavo.engine.recorded_decode import RecordedDecode
from octavo.engine.sampler import make_sampling_rows, sampling_numbers
from octavo.engine.structured.masks import MaskWorker
from octavo.engine.structured.state import GrammarRows
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


class DraftModel:
    """A proposer that runs a model.

    A draft is sampled with the temperature, the filters, the grammar and the random numbers of its request. As the
    large model's tokens are made of the same numbers, they agree more often than two independent samples would.
    Penalties, biases and the like are left out.

    Args:
        kv_caches: one entry a layer, with as many blocks as those of the large model.
    """

    computes = True

    def __init__(
        self,
        model: CausalLM,
        kv_caches: Sequence[LayerKVCache],
        *,
        block_size: int,
        max_num_seqs: int,
        max_model_len: int,
        device: torch.device,
    ) -> None:
        self._model = model
        self._kv_caches = kv_caches
        self._block_size = block_size
        self._device = device
        max_blocks = blocks_of_sequence(max_model_len, block_size)
        self._recorded_decode = RecordedDecode(model, max_num_seqs=max_num_seqs, max_blocks=max_blocks)
        self._masks = MaskWorker(model.config.vocab_size, device)

    def follow(self, input_ids: Tensor, context: ForwardContext) -> None:
        """Compute the tokens of a step of the large model: ``[num_tokens]`` int64."""
        self._recorded_decode(input_ids, replace(context, kv_caches=self._kv_caches))

    @torch.inference_mode()
    def propose(self, requests: Sequence[Request], max_lens: Sequence[int], starts: Sequence[int]) -> list[list[int]]:
        """Guess as many tokens as are asked for, one after the other; fewer only where a grammar cannot go on."""
        drafts: list[list[int]] = [[] for _ in requests]
        grammars = [None if request.grammar is None else request.grammar.fork() for request in requests]
        for place in range(max(max_lens)):
            active = [i for i, max_len in enumerate(max_lens) if max_len > place == len(drafts[i])]
            if not active:
                break
            going_on = [requests[i] for i in active]
            new_tokens = [drafts[i][-1:] if place else requests[i].token_ids[starts[i] :] for i in active]
            masks = self._masks.begin(
                [GrammarRows(row, state) for row, i in enumerate(active) if (state := grammars[i]) is not None]
            )
            logits = self._logits(going_on, new_tokens, place)
            if masks is not None:
                masks.result().apply(logits)
            token_ids = kernels.sample_tokens(logits, self._sampling_rows(going_on, place)).tolist()
            for i, token_id in zip(active, token_ids, strict=True):
                state = grammars[i]
                if state is None or state.accept(token_id):
                    drafts[i].append(token_id)
        return drafts

    def forget(self, request: Request) -> None:
        """Nothing is kept of a request but what stands in its blocks."""

    def _logits(self, requests: Sequence[Request], new_tokens: Sequence[Sequence[int]], place: int) -> Tensor:
        """Compute the last known tokens of each request, or the draft token ``place - 1``; return what may follow."""
        hidden = self._recorded_decode(
            self._tensor(list(chain.from_iterable(new_tokens)), np.int64),
            self._context(requests, list(map(len, new_tokens)), place),
        )
        if len(hidden) > len(requests):
            hidden = hidden[self._tensor(np.cumsum(list(map(len, new_tokens))) - 1, np.int64)]
        return self._model.compute_logits(hidden)

    def _context(self, requests: Sequence[Request], counts: Sequence[int], place: int) -> ForwardContext:
        """Return the context of a step whose last token of each request is ``place`` tokens behind its known ones."""
        num_seqs = len(requests)
        seq_lens = np.array([len(request.token_ids) + place for request in requests])
        query_starts = np.zeros(num_seqs + 1, dtype=np.int64)
        np.cumsum(counts, out=query_starts[1:])
        positions = np.arange(query_starts[-1]) + np.repeat(seq_lens - query_starts[1:], counts)
        block_tables = np.zeros((num_seqs, blocks_of_sequence(int(seq_lens.max()), self._block_size)), np.int32)
        for table, request in zip(block_tables, requests, strict=True):
            blocks = request.block_ids[: len(table)]
            table[: len(blocks)] = blocks
        tables_of_tokens = np.repeat(np.arange(num_seqs), counts)
        blocks_of_tokens = block_tables[tables_of_tokens, positions // self._block_size].astype(np.int64)
        prompt_lens = np.repeat([request.prompt_len for request in requests], counts)
        return ForwardContext(
            positions=self._tensor(positions, np.int64),
            slots=self._tensor(blocks_of_tokens * self._block_size + positions % self._block_size, np.int64),
            block_tables=self._tensor(block_tables, np.int32),
            query_starts=self._tensor(query_starts, np.int32),
            seq_lens=self._tensor(seq_lens, np.int32),
            prompt_lens=self._tensor(prompt_lens, np.int64),
            query_lens_host=list(counts),
            seq_lens_host=seq_lens.tolist(),
            kv_caches=self._kv_caches,
        )

    def _sampling_rows(self, requests: Sequence[Request], place: int) -> SamplingRows:
        params = [request.sampling_params for request in requests]
        numbers = [sampling_numbers(p, request.seed) for p, request in zip(params, requests, strict=True)]
        temperature, top_p, min_p, top_k, seeds = zip(*numbers, strict=True)
        return make_sampling_rows(
            [p for p in params if not p.is_greedy],
            temperature=self._tensor(temperature, np.float32),
            top_k=self._tensor(top_k, np.int64),
            top_p=self._tensor(top_p, np.float32),
            min_p=self._tensor(min_p, np.float32),
            seeds=self._tensor(seeds, np.int64),
            positions=self._tensor([request.num_output_tokens + place for request in requests], np.int64),
        )

    def _tensor(self, values: Sequence[float] | NDArray[Any], dtype: type[np.generic]) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=dtype)).to(self._device)
