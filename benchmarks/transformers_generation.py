"""Timed greedy generation with transformers' ``generate``, on the very weights of another model in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from benchmarks.generation import Generation


class TransformersGenerator:
    """A transformers model as ``from_config`` makes it, with its default attention and cache.

    Args:
        directory: holds ``config.json``.
        weights: tensors under their checkpoint names; they are used in place, not copied.
    """

    name = "transformers"

    def __init__(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        some_weight = next(iter(weights.values()))
        config = AutoConfig.from_pretrained(directory)
        self.device = some_weight.device
        self.model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=some_weight.dtype)
        unset = self.model.load_state_dict(dict(weights), strict=False, assign=True)
        self.model.tie_weights()
        self.model.to(self.device).eval()
        if unset.unexpected_keys or set(unset.missing_keys) - {"lm_head.weight"}:
            raise RuntimeError(f"the weights do not fit: {unset}")

    def generate(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> Generation:
        """Generate ``num_tokens`` tokens for each prompt, greedily and in one batch; prompts are of equal length."""
        first_token = _FirstToken(self.device)
        settings = GenerationConfig(max_new_tokens=num_tokens, do_sample=False, eos_token_id=None, pad_token_id=0)
        started = time.perf_counter()
        input_ids = torch.tensor(prompts, device=self.device)
        output: Any = self.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([first_token]),
        )
        token_ids: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
        ended = time.perf_counter()
        if first_token.seen_at is None:
            raise RuntimeError("transformers generated nothing")
        return Generation(first_token.seen_at - started, ended - first_token.seen_at, token_ids)


class _FirstToken(StoppingCriteria):
    """Notes when the first tokens are there; never stops anything."""

    def __init__(self, device: torch.device) -> None:
        self.seen_at: float | None = None
        self._device = device

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        if self.seen_at is None:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self.seen_at = time.perf_counter()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]
