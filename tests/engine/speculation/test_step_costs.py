"""Steps are timed with a clock that the test moves."""

from __future__ import annotations

import pytest

from octavo.engine.request import Request
from octavo.engine.speculation.step_costs import measure_step_costs
from octavo.engine.step import StepPlan, StepResult


class TimedRunner:
    """Takes the same time for each token."""

    def __init__(self, seconds_per_token: float) -> None:
        self.now = 0.0
        self._seconds_per_token = seconds_per_token

    def execute(self, plan: StepPlan) -> StepResult:
        assert plan.counts == [1 + len(plan.drafts.get(0, []))]
        self.now += self._seconds_per_token * plan.counts[0]
        return StepResult([0] * plan.counts[0])


@pytest.mark.parametrize(("seconds", "largest"), [(0.0001, 64), (10.0, 2)])
def test_sizes_are_measured_until_patience_ends(seconds: float, largest: int):
    runner = TimedRunner(seconds)
    costs = measure_step_costs(runner, block_size=16, max_num_tokens=100, clock=lambda: runner.now)
    assert costs.num_tokens[-1] == largest
    assert costs.of_step(5) == pytest.approx(5 * seconds)


def test_drafts_cost_something_at_all_and_something_a_token():
    runner = TimedRunner(0.001)

    class TimedDrafts:
        def propose(self, requests: list[Request], max_lens: list[int]) -> list[list[int]]:
            num_behind = len(requests[0].token_ids) - 1
            runner.now += 0.5 + 0.25 * max_lens[0] + (0.125 + 0.01 * num_behind if num_behind else 0.0)
            return [[0] * max_lens[0]]

        def forget(self, request: Request) -> None:
            """What is behind is computed again the next time."""

    costs = measure_step_costs(runner, TimedDrafts(), block_size=16, max_num_tokens=100, clock=lambda: runner.now)
    assert costs.seconds_to_draft == pytest.approx(0.5)
    assert costs.seconds_per_draft_token == pytest.approx(0.25)
    assert costs.seconds_to_catch_up == pytest.approx(0.125)
    assert costs.seconds_per_known_token == pytest.approx(0.01)


def test_no_step_is_larger_than_steps_may_be():
    runner = TimedRunner(0.001)
    assert measure_step_costs(runner, block_size=4, max_num_tokens=5, clock=lambda: runner.now).num_tokens == [
        1,
        2,
        3,
        4,
    ]
