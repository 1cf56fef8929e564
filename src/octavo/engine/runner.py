"""Executes step plans: gathers the batch on the device, runs the model, samples. Makes no decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from octavo.engine.batch_state import BatchState
from octavo.engine.prompt_scores import score_prompts
from octavo.engine.recorded_layers import RecordedLayers
from octavo.engine.sampler import sample
from octavo.engine.speculation.draft_model import DraftModel
from octavo.engine.step import StepPlan, StepResult
from octavo.engine.step_inputs import StepArrays, make_step_inputs
from octavo.engine.structured.masks import MaskWorker
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.engine.lora.adapters import Adapters
    from octavo.models.layers.decoder import CausalLM
    from octavo.models.layers.lora import AdapterRows


class Runner:
    """Holds the model, its KV cache and the state of the running sequences on one device.

    Args:
        num_blocks: blocks that the scheduler hands out; one more is allocated for padding.
        dtype: of the KV cache.
        adapters: LoRA adapters of the model, if it takes any.
        draft_model: a smaller model that makes drafts.

    Attributes:
        drafts: the smaller model with its KV cache; None if there is none.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        num_blocks: int,
        block_size: int,
        max_num_tokens: int,
        max_num_seqs: int,
        max_model_len: int,
        device: torch.device,
        dtype: torch.dtype,
        adapters: Adapters | None = None,
        draft_model: CausalLM | None = None,
    ) -> None:
        self.model = model
        self.adapters = adapters
        self.device = device
        self.block_size = block_size
        self.kv_caches = allocate_kv_caches(model, num_blocks, block_size, device=device, dtype=dtype)
        self.state = BatchState(
            max_num_seqs=max_num_seqs, max_model_len=max_model_len, block_size=block_size, device=device
        )
        self._recorded_layers = RecordedLayers(
            model,
            max_num_tokens=max_num_tokens,
            max_num_seqs=max_num_seqs,
            max_blocks=blocks_of_sequence(max_model_len, block_size),
        )
        self.drafts: DraftModel | None = None
        if draft_model is not None:
            self.drafts = DraftModel(
                draft_model,
                allocate_kv_caches(draft_model, num_blocks, block_size, device=device, dtype=dtype),
                block_size=block_size,
                max_num_seqs=max_num_seqs,
                max_model_len=max_model_len,
                device=device,
            )
        self._masks = MaskWorker(model.config.vocab_size, device)

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> StepResult:
        """Compute one step and return its sampled tokens."""
        self.state.apply(plan)
        masks = self._masks.begin(plan.grammar_rows)
        step = StepArrays.of(plan)
        input_ids, context = make_step_inputs(step, self.state, self.block_size, self.kv_caches)
        groups = self.adapters.groups(plan) if self.adapters is not None else ()
        hidden = self._forward(input_ids, context, groups)
        prompt_logprobs = score_prompts(plan, hidden, self.model, self.state)
        if not plan.samples:
            return StepResult([], prompt_logprobs=prompt_logprobs)
        if len(plan.samples) + sum(map(len, plan.drafts.values())) < len(hidden):
            (places,) = self.state.to_device(step.sampled_places)
            hidden = hidden[places]
        logits = self.model.compute_logits(hidden)
        batch = self.state.sampling_batch(step)
        if masks is not None:
            batch = replace(batch, grammar_mask=masks.result())
        token_ids, logprobs = sample(logits, batch)
        self.state.append(step, token_ids)
        return StepResult(token_ids.tolist(), logprobs, prompt_logprobs)

    def _forward(self, input_ids: Tensor, context: ForwardContext, groups: Sequence[AdapterRows]) -> Tensor:
        if self.adapters is None or not groups:
            return self._recorded_layers(input_ids, context)
        with self.adapters.adaptable.batch.of_step(groups):
            hidden: Tensor = self.model(input_ids, context)
        return hidden


def allocate_kv_caches(
    model: CausalLM, num_blocks: int, block_size: int, *, device: torch.device, dtype: torch.dtype
) -> list[LayerKVCache]:
    """Allocate the KV cache of every layer, with the padding block 0 on top of ``num_blocks``."""
    shape = (num_blocks + 1, block_size, model.num_kv_heads, model.head_dim)
    config = model.config
    return LayerKVCache.allocate(config.num_hidden_layers, shape, dtype, device, num_parts=config.cached_parts)
