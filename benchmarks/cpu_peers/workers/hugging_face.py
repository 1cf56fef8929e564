"""transformers' models with their default attention and cache, stepped by hand: less work than in ``generate``."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.cpu_peers.workers.loop import Prompts, run


class Transformers:
    """One model.

    Args:
        model: a checkpoint's directory.
        dtype: of weights and activations.
    """

    def __init__(self, model: str, threads: int, dtype: str) -> None:
        self.version = transformers.__version__
        torch.set_num_threads(threads)
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()

    def generate(self, prompts: Prompts, num_tokens: int) -> tuple[float, float]:
        with torch.inference_mode():
            started = time.perf_counter()
            output = self._model(input_ids=torch.tensor(prompts), use_cache=True, logits_to_keep=1)
            tokens = output.logits[:, -1].argmax(dim=-1, keepdim=True)
            prefilled = time.perf_counter()
            for _ in range(num_tokens - 1):
                output = self._model(
                    input_ids=tokens, past_key_values=output.past_key_values, use_cache=True, logits_to_keep=1
                )
                tokens = output.logits[:, -1].argmax(dim=-1, keepdim=True)
            return prefilled - started, time.perf_counter() - prefilled

    def turns(self, first: Sequence[int], more: Sequence[int]) -> tuple[float, float]:
        cache, seconds = None, []
        with torch.inference_mode():
            for tokens in (first, more):
                started = time.perf_counter()
                output = self._model(
                    input_ids=torch.tensor([tokens]), past_key_values=cache, use_cache=True, logits_to_keep=1
                )
                output.logits[:, -1].argmax(dim=-1).item()
                cache = output.past_key_values
                seconds.append(time.perf_counter() - started)
        return seconds[0], seconds[1]


if __name__ == "__main__":
    run(Transformers)
