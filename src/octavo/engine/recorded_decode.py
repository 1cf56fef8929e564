"""Decode steps on a CPU as recorded kernel calls: a record for each number of sequences and of tokens that comes again.

A step in which every sequence computes one token always makes the same calls for the same number of sequences, as long
as its inputs lie in the same place. So they are copied to buffers of their own, and the calls that the model made once
are made again. The same goes for steps with drafts, by their numbers of sequences and of tokens: how many tokens are
whose is an input, too. A model that computes something without a native kernel is not recorded, and runs as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from octavo.kernels.cpu.recording import Arena, RecordedCalls, record_checked

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.models.forward_context import ForwardContext
    from octavo.models.layers.decoder import CausalLM

_MAX_DRAFTED_TOKENS = 64  # of a step with drafts: in larger ones Python takes a small part of the time
_MAX_DRAFTED_SHAPES = 256  # drafts of many sequences have ever other lengths


class RecordedDecode:
    """Runs a model: decode steps as recorded calls if they can be, all others as they are.

    Args:
        max_num_seqs: the most sequences in a step.
        max_blocks: the most blocks of a sequence.
    """

    def __init__(self, model: CausalLM, *, max_num_seqs: int, max_blocks: int) -> None:
        self._model = model
        self._arena = Arena()
        self._recorded: dict[tuple[int, int], tuple[Tensor, RecordedCalls]] = {}
        self._seen: set[tuple[int, int]] = set()
        self._is_recordable = model.is_native
        num_seqs = max_num_seqs if self._is_recordable else 0
        num_tokens = max(num_seqs, _MAX_DRAFTED_TOKENS) if self._is_recordable else 0
        self._hidden = torch.empty(num_tokens, model.config.hidden_size)
        self._angles: list[Tensor] = []
        self._slots = torch.zeros(num_tokens, dtype=torch.int64)
        self._block_tables = torch.zeros(num_seqs, max_blocks, dtype=torch.int32)
        self._query_starts = torch.zeros(num_seqs + 1, dtype=torch.int32)
        self._seq_lens = torch.zeros(num_seqs, dtype=torch.int32)

    def __call__(self, input_ids: Tensor, context: ForwardContext, *, has_drafts: bool = False) -> Tensor:
        """As ``CausalLM.forward``. The result is valid until the next call.

        Args:
            has_drafts: some sequence computes its last token and a draft, and none a part of its prompt.
        """
        is_decode = has_drafts or len(input_ids) == len(context.query_lens_host)
        if not (self._is_recordable and is_decode):
            result: Tensor = self._model(input_ids, context)
            return result
        return self.compute_layers(*self._model.prepare(input_ids, context), context)

    def compute_layers(self, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        """As ``CausalLM.compute_layers``, of a decode step. The result is valid until the next call."""
        shape = num_seqs, num_tokens = len(context.query_lens_host), len(hidden)
        if not (self._is_recordable and (shape in self._recorded or self._is_to_be_recorded(shape))):
            return self._model.compute_layers(hidden, angles, context)
        if not self._angles:
            self._angles = [part.new_empty(len(self._slots), part.shape[1]) for part in angles]
        self._hidden[:num_tokens] = hidden
        for buffer, part in zip(self._angles, angles, strict=True):
            buffer[:num_tokens] = part
        self._slots[:num_tokens] = context.slots
        self._block_tables[:num_seqs, : context.block_tables.shape[1]] = context.block_tables
        self._query_starts[: num_seqs + 1] = context.query_starts
        self._seq_lens[:num_seqs] = context.seq_lens
        if shape not in self._recorded:
            return self._record(num_seqs, num_tokens, context)
        result, calls = self._recorded[shape]
        calls.run()
        return result

    def _is_to_be_recorded(self, shape: tuple[int, int]) -> bool:
        """Whether a step of this shape is worth a record, which takes as long as some steps: it comes again."""
        num_seqs, num_tokens = shape
        if shape not in self._seen:
            self._seen.add(shape)
            return False
        if num_seqs == num_tokens:
            return True
        return num_tokens <= _MAX_DRAFTED_TOKENS and len(self._recorded) < len(self._seq_lens) + _MAX_DRAFTED_SHAPES

    def _record(self, num_seqs: int, num_tokens: int, context: ForwardContext) -> Tensor:
        """Compute a step and write it down, or find that it cannot be."""
        inputs = (
            self._hidden[:num_tokens],
            tuple(buffer[:num_tokens] for buffer in self._angles),
            replace(
                context,
                slots=self._slots[:num_tokens],
                block_tables=self._block_tables[:num_seqs],
                query_starts=self._query_starts[: num_seqs + 1],
                seq_lens=self._seq_lens[:num_seqs],
            ),
        )
        recorded = record_checked(lambda: self._model.compute_layers(*inputs), self._arena, name="decode steps")
        if recorded is None:
            self._is_recordable = False
            return self._model.compute_layers(*inputs)
        self._recorded[num_seqs, num_tokens] = recorded
        return recorded[0]
