from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import torch

from octavo.config import EngineConfig
from octavo.engine.profiling import run_largest_steps
from octavo.engine.runner import Runner
from octavo.engine.step import StepPlan, StepResult
from octavo.models.config import ModelConfig
from octavo.models.loading import LoadOptions, load_model


def test_the_largest_steps_fill_the_budget_with_sequences_and_with_context(checkpoint: Path) -> None:
    model = load_model(
        checkpoint, ModelConfig.from_directory(checkpoint), LoadOptions(dtype=torch.float32, device=torch.device("cpu"))
    )
    config = EngineConfig(max_num_seqs=8, max_num_batched_tokens=64)
    plans: list[StepPlan] = []
    results: list[StepResult] = []
    execute = Runner.execute

    def recording(runner: Runner, plan: StepPlan) -> StepResult:
        plans.append(plan)
        results.append(execute(runner, plan))
        return results[-1]

    with patch.object(Runner, "execute", recording):
        run_largest_steps(config, model, 200, torch.device("cpu"), torch.float32)
    assert [plan.counts for plan in plans] == [[8] * 8, [64]]
    assert plans[1].starts == [136]
    assert [len(result.token_ids) for result in results] == [8, 1]
