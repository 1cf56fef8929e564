"""Whole drafts as recorded kernel calls: one record for each number of sequences and of tokens.

A draft model is so small that Python takes longer than its kernels, and it makes several steps where the large model
makes one. From the last known tokens to the last guessed ones all is native kernels, so it is one record.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from octavo.kernels.cpu.recording import Arena, NotRecordableError, RecordedCalls, record

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.engine.speculation.draft_steps import ComputeLayers, DraftSteps
    from octavo.models.layers.decoder import CausalLM

_NAN_BYTE = 0xFF  # four of them are a NaN
_MAX_NUM_SEQS = 8  # with more, Python takes a small part of the time, and there would be ever more records
logger = logging.getLogger(__name__)


class RecordedDraft:
    """Guesses tokens with a model: drafts of few sequences as recorded calls if they can be.

    Args:
        compute_layers: of the model, for drafts that are not recorded.
    """

    def __init__(self, model: CausalLM, compute_layers: ComputeLayers) -> None:
        self._model = model
        self._compute_layers = compute_layers
        self._arena = Arena()
        self._recorded: dict[tuple[int, int], tuple[DraftSteps, list[Tensor], RecordedCalls]] = {}
        self._is_recordable = model.is_native

    def __call__(self, steps: DraftSteps) -> list[Tensor]:
        """As ``DraftSteps.compute``. The result is valid until the next call."""
        num_steps, num_seqs = steps.positions.shape
        if not self._is_recordable or num_seqs > _MAX_NUM_SEQS:
            return steps.compute(self._model, self._compute_layers)
        if (num_steps, num_seqs) not in self._recorded:
            return self._record(steps)
        recorded, guessed, calls = self._recorded[num_steps, num_seqs]
        for buffer, new in zip(recorded.inputs, steps.inputs, strict=True):
            buffer.copy_(new)
        calls.run()
        return guessed

    def _record(self, steps: DraftSteps) -> list[Tensor]:
        """Compute a draft and write it down, or find that it cannot be."""
        try:
            guessed, calls = record(lambda: steps.compute(self._model, self._model.compute_layers), self._arena)
        except NotRecordableError as reason:
            logger.info("drafts are not recorded: %s", reason)
            self._is_recordable = False
            return steps.compute(self._model, self._compute_layers)
        # What was not written down would now compute with NaN.
        expected = torch.stack(guessed)
        self._arena.fill_free(_NAN_BYTE)
        calls.run()
        if not torch.equal(torch.stack(guessed), expected):
            logger.warning("drafts are not recorded: they gave other tokens")
            self._is_recordable = False
            return steps.compute(self._model, self._compute_layers)  # keys and values were overwritten, too
        num_steps, num_seqs = steps.positions.shape
        self._recorded[num_steps, num_seqs] = (steps, guessed, calls)
        return guessed
