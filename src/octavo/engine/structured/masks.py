"""Which tokens a step may sample: computed beside the forward pass, applied to its logits."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from octavo import kernels

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.engine.structured.state import GrammarRows


@dataclass(frozen=True, slots=True)
class AllowedTokens:
    """What grammars let some rows of a step's logits sample.

    Attributes:
        rows: ``[num_rows]`` int64, rows of the logits.
        bitmask: ``[num_rows, ceil(vocab_size / 32)]`` int32; token ``32 i + j`` is bit ``j`` of word ``i``.
    """

    rows: Tensor
    bitmask: Tensor

    def apply(self, logits: Tensor, *, revive: bool = False) -> None:
        """Set all other logits of these rows to minus infinity, in place.

        Args:
            logits: ``[num_samples, vocab_size]``.
            revive: something else may have forbidden tokens too (``min_tokens`` does); where nothing is left, what the
                grammar allows counts.
        """
        kernels.apply_token_bitmask(logits, self.rows, self.bitmask)
        if revive:
            is_dead = logits[self.rows].amax(dim=-1) == -torch.inf
            if is_dead.any():
                logits[self.rows[is_dead]] = 0.0
                kernels.apply_token_bitmask(logits, self.rows[is_dead], self.bitmask[is_dead])


class MaskWorker:
    """One thread that computes masks while the caller computes the model."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")

    def begin(self, grammars: list[GrammarRows]) -> Future[AllowedTokens] | None:
        """Start computing the masks of a step; None if it needs none."""
        return self._thread.submit(self._compute, grammars) if grammars else None

    def _compute(self, grammars: list[GrammarRows]) -> AllowedTokens:
        rows = [row for first, _, draft in grammars for row in range(first, first + len(draft) + 1)]
        masks = np.empty((len(rows), (self._vocab_size + 31) // 32), dtype=np.uint32)
        next_masks = iter(masks)
        for _, state, draft in grammars:
            state.fill_mask(next(next_masks))
            ahead = state.fork() if draft else state
            for token_id in draft:
                ahead.accept(token_id)
                ahead.fill_mask(next(next_masks))
        return AllowedTokens(
            torch.tensor(rows, device=self._device), torch.from_numpy(masks.view(np.int32)).to(self._device)
        )
