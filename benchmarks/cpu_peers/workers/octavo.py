"""This engine's core, stepped by hand in the worker's process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cpu_peers.workers.loop import Prompts, run
from benchmarks.octavo_generation import OctavoGenerator
from octavo.version import __version__

_MAX_MODEL_LEN = 4096
_KV_CACHE = "2GiB"


class Octavo:
    """One model; what is not given is the engine's default.

    Args:
        model: a checkpoint's directory or a GGUF file.
        options: further settings of ``octavo.config.EngineConfig``.
    """

    def __init__(self, model: str, threads: int, **options: object) -> None:
        self.version = __version__
        self._generator = OctavoGenerator(
            Path(model), max_model_len=_MAX_MODEL_LEN, cpu_threads=threads, kv_cache_memory_bytes=_KV_CACHE, **options
        )

    def generate(self, prompts: Prompts, num_tokens: int) -> tuple[float, float]:
        generation = self._generator.generate(prompts, num_tokens)
        return generation.prefill_s, generation.decode_s

    def turns(self, first: Sequence[int], more: Sequence[int]) -> tuple[float, float]:
        seconds = []
        for prompt in ([*first], [*first, *more]):
            started = time.perf_counter()
            self._generator.generate([prompt], 1)
            seconds.append(time.perf_counter() - started)
        return seconds[0], seconds[1]


if __name__ == "__main__":
    run(Octavo)
