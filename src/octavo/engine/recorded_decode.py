"""Decode steps on a CPU as recorded kernel calls: one record for each number of sequences.

A step in which every sequence computes one token always makes the same calls for the same number of sequences, as long
as its inputs lie in the same place. So they are copied to buffers of their own, and the calls that the model made the
first time are made again. A model that computes something without a native kernel is not recorded, and runs as it is.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from octavo.kernels.cpu.recording import Arena, NotRecordableError, RecordedCalls, record

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.models.forward_context import ForwardContext
    from octavo.models.layers.decoder import CausalLM

_NAN_BYTE = 0xFF  # four of them are a NaN
logger = logging.getLogger(__name__)


class RecordedDecode:
    """Runs a model: steps of one token a sequence as recorded calls if they can be, all others as they are.

    Args:
        max_num_seqs: the most sequences in a step.
        max_blocks: the most blocks of a sequence.
    """

    def __init__(self, model: CausalLM, *, max_num_seqs: int, max_blocks: int) -> None:
        self._model = model
        self._arena = Arena()
        self._recorded: dict[int, tuple[Tensor, RecordedCalls]] = {}
        self._is_recordable = model.is_native
        num_rows = max_num_seqs if self._is_recordable else 0
        self._hidden = torch.empty(num_rows, model.config.hidden_size)
        self._angles: list[Tensor] = []
        self._slots = torch.zeros(num_rows, dtype=torch.int64)
        self._block_tables = torch.zeros(num_rows, max_blocks, dtype=torch.int32)
        self._query_starts = torch.arange(num_rows + 1, dtype=torch.int32)
        self._seq_lens = torch.zeros(num_rows, dtype=torch.int32)

    def __call__(self, input_ids: Tensor, context: ForwardContext) -> Tensor:
        """As ``CausalLM.forward``. The result is valid until the next call."""
        num_seqs = len(context.query_lens_host)
        if not self._is_recordable or len(input_ids) != num_seqs:
            result: Tensor = self._model(input_ids, context)
            return result
        hidden, angles = self._model.prepare(input_ids, context)
        if not self._angles:
            self._angles = [part.new_empty(len(self._slots), part.shape[1]) for part in angles]
        self._hidden[:num_seqs] = hidden
        for buffer, part in zip(self._angles, angles, strict=True):
            buffer[:num_seqs] = part
        self._slots[:num_seqs] = context.slots
        self._block_tables[:num_seqs, : context.block_tables.shape[1]] = context.block_tables
        self._seq_lens[:num_seqs] = context.seq_lens
        if num_seqs not in self._recorded:
            return self._record(num_seqs, context)
        result, calls = self._recorded[num_seqs]
        calls.run()
        return result

    def _record(self, num_seqs: int, context: ForwardContext) -> Tensor:
        """Compute a step and write it down, or find that it cannot be."""
        inputs = (
            self._hidden[:num_seqs],
            tuple(buffer[:num_seqs] for buffer in self._angles),
            replace(
                context,
                slots=self._slots[:num_seqs],
                block_tables=self._block_tables[:num_seqs],
                query_starts=self._query_starts[: num_seqs + 1],
                seq_lens=self._seq_lens[:num_seqs],
            ),
        )
        try:
            result, calls = record(lambda: self._model.compute_layers(*inputs), self._arena)
        except NotRecordableError as reason:
            logger.info("decode steps are not recorded: %s", reason)
            self._is_recordable = False
            return self._model.compute_layers(*inputs)
        # What was not written down would now compute with NaN.
        expected = result.clone()
        self._arena.fill_free(_NAN_BYTE)
        calls.run()
        if not torch.equal(result, expected):
            logger.warning("decode steps are not recorded: they gave other numbers")
            self._is_recordable = False
            return self._model.compute_layers(*inputs)  # keys and values were overwritten, too
        self._recorded[num_seqs] = (result, calls)
        return result
