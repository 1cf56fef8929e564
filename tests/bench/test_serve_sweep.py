"""Sweeps of a server: the settings at each load, and one small sweep of a real server."""

from __future__ import annotations

import math

import pytest

from octavo.bench.serve_settings import Arrivals, ServeSettings, Target, Workload
from octavo.bench.serve_sweep import DEFAULT_DURATION_S, make_measure, settings_at
from octavo.bench.slo import parse_slo
from octavo.bench.sweep import run_sweep
from tests.bench.made_up import made_up_result
from tests.server_process import ServerProcess

TARGET = Target(base_url="http://127.0.0.1:1")


def test_a_rate_replaces_the_rate_and_leaves_the_rest():
    settings = ServeSettings(
        target=TARGET,
        workload=Workload(input_len=8),
        arrivals=Arrivals(max_concurrency=64, burstiness=0.5),
        num_prompts=9,
    )
    found = settings_at(settings, "request_rate", 2.5)
    assert found.arrivals == Arrivals(max_concurrency=64, burstiness=0.5, request_rate=2.5)
    assert (found.workload, found.num_prompts, found.duration_s) == (settings.workload, 9, None)


def test_a_concurrency_replaces_the_concurrency():
    arrivals = settings_at(ServeSettings(target=TARGET), "max_concurrency", 4.0).arrivals
    assert (arrivals.max_concurrency, arrivals.request_rate) == (4, math.inf)
    assert isinstance(arrivals.max_concurrency, int)


@pytest.mark.parametrize(
    ("ends", "duration_s"), [({}, DEFAULT_DURATION_S), ({"duration_s": 5.0}, 5.0), ({"num_prompts": 7}, None)]
)
def test_a_test_without_an_end_gets_one(ends, duration_s):
    settings = ServeSettings(target=TARGET, arrivals=Arrivals(max_concurrency=1), **ends)
    assert settings_at(settings, "max_concurrency", 1).duration_s == duration_s


def test_each_load_has_its_own_prompts(monkeypatch):
    seeds = []

    def fake(settings, on_progress):
        seeds.append((settings.seed, settings.arrivals.max_concurrency))
        return made_up_result()

    monkeypatch.setattr("octavo.bench.serve_sweep.run_serve_benchmark", fake)
    seen = []
    settings = ServeSettings(target=TARGET, seed=10)
    measure = make_measure(settings, "max_concurrency", on_result=lambda load, _: seen.append(load))
    run_sweep("max_concurrency", [1, 4, 2], measure)
    assert seeds == [(10, 1), (11, 2), (12, 4)]
    assert seen == [1, 2, 4]


def test_an_interrupted_test_ends_the_sweep_and_keeps_what_was_complete(monkeypatch):
    warnings = iter([[], ["the test was interrupted: 2 requests that were under way are left out"]])
    monkeypatch.setattr(
        "octavo.bench.serve_sweep.run_serve_benchmark", lambda *_: made_up_result(warnings=next(warnings))
    )
    sweep = run_sweep("request_rate", [1, 2, 4], make_measure(ServeSettings(target=TARGET), "request_rate"))
    assert [point.load for point in sweep.points] == [1]
    assert sweep.warnings[0].startswith("The sweep was interrupted")


def test_an_interrupt_before_the_first_point_is_passed_on(monkeypatch):
    result = made_up_result(warnings=["the test was interrupted: all are left out"])
    monkeypatch.setattr("octavo.bench.serve_sweep.run_serve_benchmark", lambda *_: result)
    with pytest.raises(KeyboardInterrupt):
        run_sweep("request_rate", [1], make_measure(ServeSettings(target=TARGET), "request_rate"))


def test_a_real_server_is_swept():
    with ServerProcess(kv_cache_memory_bytes="64MiB") as server:
        settings = ServeSettings(
            target=Target(base_url=server.url),
            workload=Workload(input_len=16, output_len=4),
            num_prompts=6,
            slo=parse_slo("e2e:100s"),
        )
        sweep = run_sweep("max_concurrency", [1, 3], make_measure(settings, "max_concurrency"))
    summaries = [point.result.summary for point in sweep.points]
    assert [summary.max_concurrency for summary in summaries] == [1, 3]
    assert [summary.num_successful for summary in summaries] == [6, 6]
    assert [summary.total_output_tokens for summary in summaries] == [24, 24]
    assert [summary.goodput for summary in summaries] == [summary.request_throughput for summary in summaries]
    assert sweep.model == "octavo-nano"
    assert sweep.knee is not None
