"""Drafts by a smaller model that shares the block tables of the large one.

Each step of the large model is computed by the small one as well, into a KV cache of its own with the same blocks: what
it has guessed while it guesses, all else beside the large model. So whatever the large model has keys and values of,
cached prefixes included, the small one has, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from octavo.engine.recorded_decode import RecordedDecode
from octavo.engine.speculation.draft_grammars import DraftGrammars
from octavo.engine.speculation.draft_steps import DraftSteps, inputs_of_known_tokens
from octavo.engine.speculation.recorded_draft import RecordedDraft
from octavo.engine.structured.masks import MaskWorker
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.engine.request import Request
    from octavo.models.forward_context import ForwardContext, LayerKVCache
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
        self._max_model_len = max_model_len
        self._device = device
        max_blocks = blocks_of_sequence(max_model_len, block_size)
        self._recorded_decode = RecordedDecode(model, max_num_seqs=max_num_seqs, max_blocks=max_blocks)
        self._recorded_draft = RecordedDraft(model, self._recorded_decode.compute_layers)
        self._masks = MaskWorker(model.config.vocab_size, device)

    def follow(self, input_ids: Tensor, context: ForwardContext, *, has_drafts: bool) -> None:
        """Compute the tokens of a step of the large model: ``[num_tokens]`` int64."""
        self._recorded_decode(input_ids, replace(context, kv_caches=self._kv_caches), has_drafts=has_drafts)

    @torch.inference_mode()
    def propose(self, requests: Sequence[Request], max_lens: Sequence[int], starts: Sequence[int]) -> list[list[int]]:
        """Guess exactly as many tokens as are asked for, one after the other.

        Computes the known tokens of each request from ``starts`` on and all guessed ones, which ``follow`` need not do
        again.
        """
        if any(start < len(request.token_ids) - 1 for request, start in zip(requests, starts, strict=True)):
            self._recorded_decode(
                *inputs_of_known_tokens(
                    requests, starts, self._kv_caches, block_size=self._block_size, device=self._device
                )
            )
        steps = DraftSteps.plan(
            requests,
            max(max_lens),
            self._model,
            self._kv_caches,
            block_size=self._block_size,
            max_model_len=self._max_model_len,
            device=self._device,
        )
        if any(request.grammar is not None for request in requests):
            grammars = DraftGrammars(requests, self._masks)
            tokens = steps.compute(self._model, self._recorded_decode.compute_layers, grammars)
        else:
            tokens = self._recorded_draft(steps)
        guessed = [token_ids.tolist() for token_ids in tokens]
        return [list(draft[:max_len]) for draft, max_len in zip(zip(*guessed, strict=True), max_lens, strict=True)]

    def forget(self, request: Request) -> None:
        """Nothing is kept of a request but what stands in its blocks."""
