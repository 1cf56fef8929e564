"""Timed greedy generation with this engine, in this process, from token ids to token ids."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.generation import Generation
from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.engine.messages import EngineRequest
from octavo.engine.runner import Runner
from octavo.engine.sampling_params import SamplingParams
from octavo.models.config import ModelConfig

if TYPE_CHECKING:
    pass


class OctavoGenerator:
    """An engine core that is stepped by hand; the settings that are not given are the engine's defaults.

    Args:
        directory: holds ``config.json``, and the weights unless ``load_format`` is ``dummy``.
        config: further settings of ``octavo.config.EngineConfig``.
    """

    name = "octavo"

    def __init__(self, directory: Path, *, max_model_len: int, **config: object) -> None:
        engine_config = EngineConfig.model_validate({"model": str(directory), "max_model_len": max_model_len, **config})
        model_config = ModelConfig.from_directory(directory)
        built = build_engine(engine_config, directory, model_config, max_model_len)
        self.core = built.core
        if not isinstance(self.core.runner, Runner):
            raise TypeError("the engine's runner has no model")
        self.ready = built.ready
        while built.use_idle_time():  # as the engine's process does until the first request
            pass
        self._num_requests = 0

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        num_tokens: int,
        sampling_params: SamplingParams | None = None,
    ) -> Generation:
        """Generate ``num_tokens`` tokens for each prompt, all in one batch; greedy unless parameters are given."""
        params = sampling_params or SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=num_tokens)
        outputs: dict[str, list[int]] = {}
        started = time.perf_counter()
        for seed, prompt in enumerate(prompts):
            self._num_requests += 1
            request_id = str(self._num_requests)
            outputs[request_id] = []
            self.core.add(
                EngineRequest(
                    request_id=request_id,
                    prompt_token_ids=list(prompt),
                    sampling_params=params,
                    max_tokens=num_tokens,
                    eos_token_ids=[],
                    seed=seed,
                )
            )
        first_tokens_at = None
        while self.core.has_work:
            for update in self.core.step().updates:
                outputs[update.request_id] += update.token_ids
            if first_tokens_at is None and all(outputs.values()):
                first_tokens_at = time.perf_counter()
        ended = time.perf_counter()
        if first_tokens_at is None:
            raise RuntimeError("the engine ended without a token for each prompt")
        return Generation(first_tokens_at - started, ended - first_tokens_at, list(outputs.values()))
