"""A model's layers as recorded kernel calls: one record for steps of all sizes.

The layers always make the same calls for a step, whatever is in it, as long as its inputs lie in the same place; only
their numbers of rows are others. So the inputs are copied to buffers of their own, and the calls that the model would
make for the largest step, written down once, are made with the numbers of the step at hand. How many tokens are whose
is an input, too. A model that computes something without a native kernel is not recorded, and runs as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from octavo.kernels.cpu.recording import Arena, Batch, RecordedCalls, record_checked
from octavo.models.forward_context import ForwardContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.models.forward_context import LayerKVCache
    from octavo.models.layers.decoder import CausalLM

_MOST_TOKENS = 2048  # in larger steps Python takes a small part of the time, and the record's memory would be large


class RecordedLayers:
    """Runs a model: its layers as recorded calls if they can be.

    The record is made and tried in the first step, with two tokens in the padding block of the cache.

    Args:
        max_num_tokens: the most tokens in a step. Steps with more than 2,048 run as they are.
        max_num_seqs: the most sequences in a step.
        max_blocks: the most blocks of a sequence.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        max_num_tokens: int,
        max_num_seqs: int,
        max_blocks: int,
    ) -> None:
        self._model = model
        self._largest = Batch(min(max_num_tokens, _MOST_TOKENS), max_num_seqs)
        self._recorded: tuple[Tensor, RecordedCalls] | None = None
        self._is_untried = model.is_native
        if not model.is_native:
            return
        self._hidden = torch.zeros(self._largest.num_tokens, model.config.hidden_size)
        self._slots = torch.zeros(self._largest.num_tokens, dtype=torch.int64)
        self._block_tables = torch.zeros(max_num_seqs, max_blocks, dtype=torch.int32)
        self._query_starts = torch.zeros(max_num_seqs + 1, dtype=torch.int32)
        self._seq_lens = torch.zeros(max_num_seqs, dtype=torch.int32)

    def __call__(self, input_ids: Tensor, context: ForwardContext) -> Tensor:
        """As ``CausalLM.forward``. The result is valid until the next call."""
        return self.compute_layers(*self._model.prepare(input_ids, context), context)

    def compute_layers(self, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        """As ``CausalLM.compute_layers``. The result is valid until the next call."""
        if self._is_untried:
            self._is_untried = False
            self._record(context.kv_caches)
        batch = Batch(len(hidden), len(context.query_lens_host))
        is_too_large = batch.num_tokens > self._largest.num_tokens or batch.num_seqs > self._largest.num_seqs
        if self._recorded is None or is_too_large:
            return self._model.compute_layers(hidden, angles, context)
        self._place(batch, hidden, angles, context)
        result, calls = self._recorded
        calls.run(batch)
        return result[: batch.num_tokens]

    def _place(self, batch: Batch, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> None:
        """Copy the inputs of a step to where the calls read them."""
        self._hidden[: batch.num_tokens] = hidden
        for buffer, part in zip(self._angles, angles, strict=True):
            buffer[: batch.num_tokens] = part
        self._slots[: batch.num_tokens] = context.slots
        self._block_tables[: batch.num_seqs, : context.block_tables.shape[1]] = context.block_tables
        self._query_starts[: batch.num_seqs + 1] = context.query_starts
        self._seq_lens[: batch.num_seqs] = context.seq_lens

    def _record(self, kv_caches: Sequence[LayerKVCache]) -> None:
        """Write the calls of the largest step down, and try them with a small one."""
        trial = Batch(min(2, self._largest.num_tokens))
        positions = torch.arange(self._largest.num_tokens)
        largest = ForwardContext(
            positions=positions,
            slots=self._slots,
            block_tables=self._block_tables,
            query_starts=self._query_starts,
            seq_lens=self._seq_lens,
            prompt_lens=positions,
            query_lens_host=range(self._largest.num_seqs),  # the native kernels read lengths from the tensors
            seq_lens_host=range(self._largest.num_seqs),
            kv_caches=kv_caches,
        )
        lengths = [trial.num_tokens]
        small = ForwardContext(
            positions=positions[: trial.num_tokens],
            slots=positions[: trial.num_tokens],
            block_tables=self._block_tables[:1],
            query_starts=torch.tensor([0, *lengths], dtype=torch.int32),
            seq_lens=torch.tensor(lengths, dtype=torch.int32),
            prompt_lens=torch.tensor(lengths).expand(trial.num_tokens),
            query_lens_host=lengths,
            seq_lens_host=lengths,
            kv_caches=kv_caches,
        )
        hidden, angles = self._model.prepare(torch.zeros(trial.num_tokens, dtype=torch.int64), small)
        self._angles = tuple(part.new_empty(self._largest.num_tokens, part.shape[1]) for part in angles)
        self._place(trial, hidden, angles, small)
        self._recorded = record_checked(
            lambda: self._model.compute_layers(self._hidden, self._angles, largest),
            self._model.compute_layers(hidden, angles, small),
            Arena(),
            name="layers",
            largest=self._largest,
            batch=trial,
        )
