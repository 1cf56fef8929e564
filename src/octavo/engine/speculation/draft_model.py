"""Drafts by a smaller model that shares the block tables of the large one.

It has a KV cache of its own with the same blocks. A sequence costs it nothing before it is first asked to guess what
follows; then it computes what is known of the sequence up to there, in steps of a limited size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from octavo.engine.recorded_layers import RecordedLayers
from octavo.engine.speculation.draft_grammars import DraftGrammars
from octavo.engine.speculation.draft_progress import DraftProgress
from octavo.engine.speculation.draft_steps import DraftSteps, inputs_of_known_tokens
from octavo.engine.speculation.recorded_draft import RecordedDraft
from octavo.engine.structured.masks import MaskWorker
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from octavo.engine.request import Request
    from octavo.models.forward_context import LayerKVCache
    from octavo.models.layers.decoder import CausalLM

_MAX_CATCH_UP_TOKENS = 512  # in a step, so that a long prompt delays nobody for long


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
        self._max_model_len = max_model_len
        self._device = device
        max_blocks = blocks_of_sequence(max_model_len, block_size)
        self._recorded_layers = RecordedLayers(
            model,
            max_num_tokens=max(_MAX_CATCH_UP_TOKENS, max_num_seqs),
            max_num_seqs=max_num_seqs,
            max_blocks=max_blocks,
        )
        self._recorded_draft = RecordedDraft(model, self._recorded_layers.compute_layers)
        self._masks = MaskWorker(model.config.vocab_size, device)
        self._progress = DraftProgress(block_size)

    def num_behind(self, request: Request) -> int:
        """Return how many known tokens of a request must be computed before the first guess."""
        return max(len(request.token_ids) - 1 - self._progress.num_computed(request), 0)

    @torch.inference_mode()
    def propose(self, requests: Sequence[Request], max_lens: Sequence[int]) -> list[list[int]]:
        """Guess exactly as many tokens as are asked for, one after the other.

        Sequences of which more is to be computed than one step may compute get no draft yet.
        """
        self._catch_up(requests)
        ready = [index for index, request in enumerate(requests) if self.num_behind(request) == 0]
        drafts: list[list[int]] = [[] for _ in requests]
        if ready:
            guessed = self._guess([requests[index] for index in ready], max(max_lens[index] for index in ready))
            for index, guesses in zip(ready, zip(*guessed, strict=True), strict=True):
                drafts[index] = list(guesses[: max_lens[index]])
                self._progress.computed(requests[index], len(requests[index].token_ids), drafts[index])
        return drafts

    def forget(self, request: Request) -> None:
        """A request has ended."""
        self._progress.forget(request)

    def _catch_up(self, requests: Sequence[Request]) -> None:
        """Compute known tokens up to the last one, which it leaves out; as many as a step may compute."""
        budget = _MAX_CATCH_UP_TOKENS
        behind: list[tuple[Request, int, int]] = []
        for request in requests:
            start, count = self._progress.num_computed(request), min(self.num_behind(request), budget)
            if count > 0:
                behind.append((request, start, start + count))
                budget -= count
        if not behind:
            return
        self._recorded_layers(
            *inputs_of_known_tokens(behind, self._kv_caches, block_size=self._block_size, device=self._device)
        )
        for request, _, end in behind:
            self._progress.computed(request, end)

    def _guess(self, requests: Sequence[Request], num_tokens: int) -> list[list[int]]:
        """Return the guesses of all requests, one list a step."""
        steps = DraftSteps.plan(
            requests,
            num_tokens,
            self._model,
            self._kv_caches,
            block_size=self._block_size,
            max_model_len=self._max_model_len,
            device=self._device,
        )
        if any(request.grammar is not None for request in requests):
            grammars = DraftGrammars(requests, self._masks)
            tokens = steps.compute(self._model, self._recorded_layers.compute_layers, grammars)
        else:
            tokens = self._recorded_draft(steps)
        return [token_ids.tolist() for token_ids in tokens]
