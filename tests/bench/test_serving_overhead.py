"""What a server adds to its engine: found from latencies that were made with known costs."""

from __future__ import annotations

import pytest

from octavo.bench.serving_overhead import Seen, fit_overhead
from octavo.plan.step_time import StepShape


class TenMilliseconds:
    def step_seconds(self, step: StepShape) -> float:
        return 0.01


def seen(prompt_len: int, batch: int, *, request_s: float, token_s: float, step_s: float, seq_s: float) -> Seen:
    around = step_s + seq_s * batch
    ttft_s = 0.01 + around + request_s + token_s * prompt_len
    return Seen(prompt_len=prompt_len, batch=batch, ttft_s=ttft_s, tpot_s=0.01 + around)


def test_costs_are_found_again() -> None:
    costs = {"request_s": 0.005, "token_s": 2e-5, "step_s": 0.001, "seq_s": 5e-5}
    cases = [(16, 1), (512, 1), (16, 8), (16, 32)]
    overhead = fit_overhead(TenMilliseconds(), [seen(*case, **costs) for case in cases])
    assert overhead.request_s == pytest.approx(0.005)
    assert overhead.input_token_s == pytest.approx(2e-5)
    assert overhead.step_s == pytest.approx(0.001)
    assert overhead.step_seq_s == pytest.approx(5e-5)


def test_a_server_that_seems_faster_than_its_engine_has_no_overhead() -> None:
    costs = {"request_s": -0.002, "token_s": 0.0, "step_s": -0.001, "seq_s": 0.0}
    overhead = fit_overhead(TenMilliseconds(), [seen(*case, **costs) for case in [(16, 1), (512, 1), (16, 8)]])
    assert overhead.step_s == overhead.step_seq_s == 0
    assert overhead.request_s == overhead.input_token_s == 0
