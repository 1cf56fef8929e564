"""vLLM's build for CPUs, its engine stepped in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from benchmarks.cpu_peers.workers.loop import Prompts, run

_KV_CACHE_GB = 2
_MAX_MODEL_LEN = 2048


class Vllm:
    """One model, compiled by torch as vLLM does it by default.

    Args:
        model: a checkpoint's directory; a tokenizer is not needed.
    """

    def __init__(self, model: str, threads: int, dtype: str) -> None:
        os.environ |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": str(_KV_CACHE_GB),
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}",
            "VLLM_NO_USAGE_STATS": "1",
        }
        import vllm  # reads its environment when it is imported

        self.version = vllm.__version__
        self._params = vllm.SamplingParams
        arguments = vllm.EngineArgs(
            model=model, dtype=dtype, max_model_len=_MAX_MODEL_LEN, skip_tokenizer_init=True, disable_log_stats=True
        )
        self._engine = vllm.LLMEngine.from_engine_args(arguments)
        self._num_requests = 0

    def generate(self, prompts: Prompts, num_tokens: int) -> tuple[float, float]:
        times = self.serve(prompts, num_tokens)
        prefill_s = max(one[0] for one in times)
        return prefill_s, max(one[-1] for one in times) - prefill_s

    def serve(self, prompts: Prompts, num_tokens: int) -> list[list[float]]:
        params = self._params(temperature=0.0, max_tokens=num_tokens, ignore_eos=True, detokenize=False)
        started = time.perf_counter()
        times: dict[str, list[float]] = {}
        for prompt in prompts:
            self._num_requests += 1
            times[str(self._num_requests)] = []
            self._engine.add_request(str(self._num_requests), {"prompt_token_ids": list(prompt)}, params)
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            now = time.perf_counter() - started
            for output in outputs:
                came = times[output.request_id]
                came += [now] * (len(output.outputs[0].token_ids) - len(came))
        if any(len(one) != num_tokens for one in times.values()):
            raise RuntimeError("vLLM ended a request early")
        return list(times.values())

    def turns(self, first: Sequence[int], more: Sequence[int]) -> tuple[float, float]:
        return self.generate([first], 1)[0], self.generate([[*first, *more]], 1)[0]


if __name__ == "__main__":
    run(Vllm)
