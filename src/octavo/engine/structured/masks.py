"""Which tokens a step may sample: computed beside the forward pass, applied to its logits."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from octavo.engine.structured.state import GrammarRows


@dataclass(frozen=True, slots=True)
class ForbiddenTokens:
    """What some rows of a step's logits must not sample.

    Attributes:
        rows: rows of the logits.
        tokens: ``[len(rows), vocab_size]`` bool, true for tokens that are forbidden.
    """

    rows: list[int]
    tokens: Tensor

    def apply(self, logits: Tensor, *, revive: bool = False) -> None:
        """Set forbidden logits to minus infinity, in place.

        Args:
            logits: ``[num_samples, vocab_size]``.
            revive: something else may have forbidden tokens too (``min_tokens`` does); where nothing is left, what the
                grammar allows counts.
        """
        for row, forbidden in zip(self.rows, self.tokens, strict=True):
            logits[row].masked_fill_(forbidden, -torch.inf)
            if revive and logits[row].amax() == -torch.inf:
                logits[row].masked_fill_(~forbidden, 0.0)


class MaskWorker:
    """One thread that computes masks while the caller computes the model."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")

    def begin(self, grammars: list[GrammarRows]) -> Future[ForbiddenTokens] | None:
        """Start computing the masks of a step; None if it needs none."""
        return self._thread.submit(self._compute, grammars) if grammars else None

    def _compute(self, grammars: list[GrammarRows]) -> ForbiddenTokens:
        rows = [row for first, _, draft in grammars for row in range(first, first + len(draft) + 1)]
        masks = np.empty((len(rows), (self._vocab_size + 31) // 32), dtype=np.uint32)
        next_masks = iter(masks)
        for _, state, draft in grammars:
            state.fill_mask(next(next_masks))
            ahead = state.fork() if draft else state
            for token_id in draft:
                ahead.accept(token_id)
                ahead.fill_mask(next(next_masks))
        return ForbiddenTokens(rows, self._forbidden(masks))

    def _forbidden(self, masks: NDArray[np.uint32]) -> Tensor:
        np.invert(masks, out=masks)
        if self._device.type == "cpu":
            bits = np.unpackbits(masks.view(np.uint8), axis=1, count=self._vocab_size, bitorder="little")
            return torch.from_numpy(bits.view(np.bool_))
        # One bit a token crosses to the device, and is spread out there.
        words = torch.from_numpy(masks.view(np.int32)).to(self._device)
        bits_of_word = torch.arange(32, dtype=torch.int32, device=self._device)
        return (words[:, :, None] >> bits_of_word & 1).bool().flatten(1)[:, : self._vocab_size]
