"""A model's layers as recorded kernel calls: one record for steps of all sizes.

The layers always make the same calls for a step, whatever is in it, as long as its inputs lie in the same place; only
their numbers of rows are others. So the inputs are copied to buffers of their own, and the calls that the model would
make for the largest step, written down once, are made with the numbers of the step at hand. How many tokens are whose
is an input, too. A model that computes something without a native kernel is not recorded, and runs as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from octavo.kernels.cpu.recording import Arena, Batch, RecordedCalls, record_checked

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.models.forward_context import ForwardContext
    from octavo.models.layers.decoder import CausalLM

_FEW_TOKENS = 64  # of a step that is soon computed a second time, to try the record


class RecordedLayers:
    """Runs a model: its layers as recorded calls if they can be.

    Args:
        max_num_tokens: the most tokens in a step; larger ones run as they are.
        max_num_seqs: the most sequences in a step.
        max_blocks: the most blocks of a sequence.
    """

    def __init__(self, model: CausalLM, *, max_num_tokens: int, max_num_seqs: int, max_blocks: int) -> None:
        self._model = model
        self._arena = Arena()
        self._largest = Batch(max_num_tokens, max_num_seqs)
        self._recorded: tuple[Tensor, RecordedCalls] | None = None
        self._is_recordable = model.is_native
        self._is_first = True
        num_seqs, num_tokens = (max_num_seqs, max_num_tokens) if self._is_recordable else (0, 0)
        self._hidden = torch.empty(num_tokens, model.config.hidden_size)
        self._angles: tuple[Tensor, ...] = ()
        self._slots = torch.zeros(num_tokens, dtype=torch.int64)
        self._block_tables = torch.zeros(num_seqs, max_blocks, dtype=torch.int32)
        self._query_starts = torch.zeros(num_seqs + 1, dtype=torch.int32)
        self._seq_lens = torch.zeros(num_seqs, dtype=torch.int32)

    def __call__(self, input_ids: Tensor, context: ForwardContext) -> Tensor:
        """As ``CausalLM.forward``. The result is valid until the next call."""
        return self.compute_layers(*self._model.prepare(input_ids, context), context)

    def compute_layers(self, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        """As ``CausalLM.compute_layers``. The result is valid until the next call."""
        batch = Batch(len(hidden), len(context.query_lens_host))
        if self._recorded is None and not self._is_to_be_recorded(batch):
            return self._model.compute_layers(hidden, angles, context)
        if batch.num_tokens > self._largest.num_tokens or batch.num_seqs > self._largest.num_seqs:
            return self._model.compute_layers(hidden, angles, context)
        if not self._angles:
            self._angles = tuple(part.new_empty(len(self._slots), part.shape[1]) for part in angles)
        self._hidden[: batch.num_tokens] = hidden
        for buffer, part in zip(self._angles, angles, strict=True):
            buffer[: batch.num_tokens] = part
        self._slots[: batch.num_tokens] = context.slots
        self._block_tables[: batch.num_seqs, : context.block_tables.shape[1]] = context.block_tables
        self._query_starts[: batch.num_seqs + 1] = context.query_starts
        self._seq_lens[: batch.num_seqs] = context.seq_lens
        if self._recorded is None:
            return self._record(batch, hidden, angles, context)
        result, calls = self._recorded
        calls.run(batch)
        return result[: batch.num_tokens]

    def _is_to_be_recorded(self, batch: Batch) -> bool:
        """Whether it is time for the record: not in a first step that takes long."""
        is_late_enough = batch.num_tokens <= _FEW_TOKENS or not self._is_first
        self._is_first = False
        return self._is_recordable and is_late_enough

    def _record(self, batch: Batch, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        """Compute a step whose inputs have been copied; write the calls down, or find that they cannot be."""
        expected = self._model.compute_layers(hidden, angles, context)
        no_lengths = range(self._largest.num_seqs)  # the native kernels read them from tensors
        largest = replace(
            context,
            slots=self._slots,
            block_tables=self._block_tables,
            query_starts=self._query_starts,
            seq_lens=self._seq_lens,
            query_lens_host=no_lengths,
            seq_lens_host=no_lengths,
        )
        self._recorded = record_checked(
            lambda: self._model.compute_layers(self._hidden, self._angles, largest),
            expected,
            self._arena,
            name="layers",
            largest=self._largest,
            batch=batch,
        )
        if self._recorded is not None:
            return expected
        self._is_recordable = False
        return self._model.compute_layers(hidden, angles, context)
