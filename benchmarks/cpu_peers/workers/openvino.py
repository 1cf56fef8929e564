"""OpenVINO GenAI's pipeline of continuous batching, on directories that Optimum exports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import metadata

import numpy as np
import openvino
import openvino_genai

from benchmarks.cpu_peers.workers.loop import Prompts, run

_CACHE_GB = 2


class OpenVino:
    """One model.

    Args:
        model: a directory with the exported model; a tokenizer is not needed.
    """

    def __init__(self, model: str, threads: int) -> None:
        self.version = metadata.version("openvino-genai")
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GB
        scheduler.max_num_batched_tokens = 2048
        scheduler.enable_prefix_caching = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self._num_requests = 0

    def generate(self, prompts: Prompts, num_tokens: int) -> tuple[float, float]:
        times = self.serve(prompts, num_tokens)
        prefill_s = max(one[0] for one in times)
        return prefill_s, max(one[-1] for one in times) - prefill_s

    def serve(self, prompts: Prompts, num_tokens: int) -> list[list[float]]:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=num_tokens, ignore_eos=True, eos_token_id=0, stop_token_ids={0}, do_sample=False
        )
        started = time.perf_counter()
        handles = []
        for prompt in prompts:
            tokens = openvino.Tensor(np.array([prompt], dtype=np.int64))
            handles.append(self._pipeline.add_request(self._num_requests, tokens, config))
            self._num_requests += 1
        times: list[list[float]] = [[] for _ in prompts]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            now = time.perf_counter() - started
            for handle, came in zip(handles, times, strict=True):
                while handle.can_read():
                    came += [now for output in handle.read().values() for _ in output.generated_ids]
        if any(len(one) != num_tokens for one in times):
            raise RuntimeError("OpenVINO ended a request early")
        return times

    def turns(self, first: Sequence[int], more: Sequence[int]) -> tuple[float, float]:
        return self.generate([first], 1)[0], self.generate([[*first, *more]], 1)[0]


if __name__ == "__main__":
    run(OpenVino)
