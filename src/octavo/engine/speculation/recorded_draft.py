"""Whole drafts as recorded kernel calls: one record for each number of sequences and of tokens.

A draft model is so small that Python takes longer than its kernels, and it makes several steps where the large model
makes one. From the last known tokens to the last guessed ones all is native kernels, so it is one record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.kernels.cpu.recording import Arena, RecordedCalls, record_checked

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.engine.speculation.draft_steps import ComputeLayers, DraftSteps
    from octavo.models.layers.decoder import CausalLM

_MAX_NUM_SEQS = 8  # with more, Python takes a small part of the time, and there would be ever more records


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
        expected = steps.compute(self._model, self._compute_layers)
        recorded = record_checked(
            lambda: steps.compute(self._model, self._model.compute_layers), expected, self._arena, name="drafts"
        )
        if recorded is None:
            self._is_recordable = False
            return steps.compute(self._model, self._compute_layers)
        num_steps, num_seqs = steps.positions.shape
        self._recorded[num_steps, num_seqs] = (steps, *recorded)
        return expected
