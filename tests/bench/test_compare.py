"""Comparing two results: figures, verdicts, differing settings, and the report."""

from __future__ import annotations

import pytest

from octavo.bench.compare import Comparison, compare, different_settings, regressions
from octavo.bench.compare_report import table_row, verdict_text, write_compare_report
from octavo.bench.records import RequestRecord
from octavo.bench.summary import Slo
from tests.bench.made_up import made_up_records, made_up_result
from tests.bench.test_html_report import assert_self_contained


def compared(before, after):
    return {comparison.name: comparison for comparison in compare(before, after)}


def test_every_figure_is_compared_by_its_ratio():
    before, after = made_up_result(slo=Slo(ttft_ms=150)), made_up_result(made_up_records(seed=1), slo=Slo(ttft_ms=150))
    figures = compared(before, after)
    assert set(figures) == {
        *("request_throughput", "output_throughput", "total_throughput", "goodput"),
        *(
            f"{statistic}_{latency}_ms"
            for statistic in ("mean", "p50", "p90", "p95", "p99")
            for latency in ("ttft", "tpot", "itl", "e2e")
        ),
    }
    median = figures["p50_ttft_ms"]
    assert median.before == pytest.approx(before.summary.ttft_ms.p50)
    assert median.after == pytest.approx(after.summary.ttft_ms.p50)
    assert median.ratio == pytest.approx(after.summary.ttft_ms.p50 / before.summary.ttft_ms.p50)


def test_two_runs_of_the_same_thing_show_no_clear_difference():
    figures = compared(made_up_result(made_up_records(300, seed=1)), made_up_result(made_up_records(300, seed=2)))
    assert {figures[name].verdict for name in ("p50_ttft_ms", "p50_tpot_ms", "request_throughput")} == {
        "no clear difference"
    }


def test_a_slower_run_is_found_in_the_latency_that_changed_and_not_in_another():
    figures = compared(
        made_up_result(made_up_records(300, seed=1)), made_up_result(made_up_records(300, seed=2, tpot_s=0.023))
    )
    assert verdict_text(figures["p50_tpot_ms"]) == "slower"
    assert verdict_text(figures["p50_ttft_ms"]) == "no clear difference"
    low, high = figures["p50_tpot_ms"].interval
    assert low < 3 < high


def test_swapping_the_results_turns_the_verdict():
    slow, fast = made_up_result(made_up_records(tpot_s=0.04)), made_up_result(made_up_records(seed=1))
    assert verdict_text(compared(slow, fast)["p50_tpot_ms"]) == "faster"
    assert verdict_text(compared(fast, slow)["p50_tpot_ms"]) == "slower"


def test_more_throughput_is_faster_and_more_latency_is_slower():
    slow = made_up_result(made_up_records(interval_s=0.1))
    figures = compared(made_up_result(), slow)
    assert figures["request_throughput"].verdict == "worse"
    assert compared(slow, made_up_result())["request_throughput"].verdict == "better"
    assert figures["request_throughput"].worsening == pytest.approx(1 - figures["request_throughput"].ratio)


@pytest.mark.parametrize(
    ("after", "interval", "verdict"),
    [
        (104, None, "no clear difference"),
        (106, None, "worse"),
        (90, None, "better"),
        (106, (-1, 13), "no clear difference"),
        (106, (1, 11), "worse"),
        (90, (-15, -5), "better"),
        (100.5, (0.1, 0.9), "no clear difference"),
    ],
)
def test_a_verdict_needs_an_interval_without_0_or_a_large_change(after, interval, verdict):
    assert Comparison("x", "X", 100, after, True, interval).verdict == verdict


def test_new_failures_are_worse_and_have_no_ratio():
    figures = compared(made_up_result(), made_up_result(made_up_records(failing=2)))
    assert figures["failed"].after == pytest.approx(1.0)
    assert verdict_text(figures["failed"]) == "more"
    assert table_row(figures["failed"])[3:6] == ["–", "–", "–"]
    assert figures["failed"] in regressions(list(figures.values()), 0.5)


def test_regressions_are_those_above_the_limit():
    comparisons = compare(made_up_result(), made_up_result(made_up_records(seed=1, tpot_s=0.022)))
    names = {comparison.name for comparison in regressions(comparisons, 0.05)}
    assert "p50_tpot_ms" in names
    assert "request_throughput" not in names
    assert regressions(comparisons, 0.5) == []


def test_a_batch_is_one_measurement():
    records = [
        RequestRecord(index=i, scheduled_at=i // 8, sent_at=i // 8, finished_at=i // 8 + 0.5 + 0.01 * (i // 8 % 3))
        for i in range(80)
    ]
    batches, requests = (made_up_result(records, kind=kind) for kind in ("latency", "serve"))
    narrow, wide = (compared(each, each)["p50_e2e_ms"].interval for each in (requests, batches))
    assert wide[1] - wide[0] >= narrow[1] - narrow[0]
    assert compared(made_up_result(records[:8], kind="throughput"), batches)["p50_e2e_ms"].interval is None


def test_the_same_seed_gives_the_same_intervals():
    before, after = made_up_result(), made_up_result(made_up_records(seed=3))
    assert compare(before, after) == compare(before, after)


def test_differing_settings_are_listed():
    before = made_up_result(settings={"rate": 4, "same": 1, "workload": {"len": 8}}, environment={"load_average": 1})
    after = made_up_result(
        settings={"rate": 8, "same": 1, "workload": {"len": 9}, "new": True},
        environment={"load_average": 2, "cpu": "another"},
        model="other",
    )
    assert different_settings(before, after) == [
        "model: tiny-llama and other",
        "settings.rate: 4 and 8",
        "settings.workload.len: 8 and 9",
        "settings.new: not set and True",
        "environment.cpu: not set and another",
    ]
    assert different_settings(before, before) == []


def test_the_report_shows_both_and_is_self_contained(tmp_path):
    before = made_up_result(model="<b>before</b>")
    after = made_up_result(made_up_records(seed=1, tpot_s=0.03))
    path = tmp_path / "compare.html"
    write_compare_report(before, after, compare(before, after), path, names=("<i>a", "b"))
    page = assert_self_contained(path.read_text(encoding="utf-8"))
    assert {"before: <i>a", "after: b", "slower"} <= set(page.texts)
    assert page.elements.count("svg") == 4
