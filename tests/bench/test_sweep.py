"""Sweeps: which loads are measured, where the knee is, and what the report shows of it."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec
import pytest

from octavo.bench.summary import Slo
from octavo.bench.sweep import (
    SweepResult,
    describe_knee,
    find_knee,
    run_auto_sweep,
    run_sweep,
    write_sweep,
)
from octavo.bench.sweep_report import render_sweep_report, saturation_chart, sweep_table, write_sweep_report
from octavo.errors import ConfigError
from tests.bench.made_up import made_up_records, made_up_result
from tests.bench.test_html_report import assert_self_contained


class Server:
    """A server whose throughput is a function of the load; remembers what it was asked."""

    def __init__(self, output_throughput, goodput=None, **fields):
        self.output_throughput, self.goodput, self.fields, self.loads = output_throughput, goodput, fields, []

    def __call__(self, load):
        self.loads.append(load)
        result = made_up_result(made_up_records(5, seed=int(load)), **self.fields)
        result.summary.output_throughput = float(self.output_throughput(load))
        if self.goodput is not None:
            result.summary.slo, result.summary.goodput = Slo(ttft_ms=200), float(self.goodput(load))
        return result


def saturating_at(knee):
    return Server(lambda load: 100 * min(load, knee))


def test_loads_are_measured_once_each_and_in_order():
    server = saturating_at(4)
    sweep = run_sweep("max_concurrency", [8, 2, 4, 2, 1], server)
    assert server.loads == [1, 2, 4, 8]
    assert [point.load for point in sweep.points] == [1, 2, 4, 8]


@pytest.mark.parametrize("knee", [1, 2, 3, 5, 11, 24, 37, 100])
def test_auto_finds_the_knee_of_a_concurrency(knee):
    server = saturating_at(knee)
    sweep = run_auto_sweep("max_concurrency", 1, server)
    assert sweep.knee.is_saturated
    assert sweep.knee.load == pytest.approx(knee, rel=0.13, abs=1)
    assert all(load == int(load) for load in server.loads)
    assert len(server.loads) <= 16
    assert len(set(server.loads)) == len(server.loads)


@pytest.mark.parametrize("knee", [0.3, 2.7, 9.5, 60])
def test_auto_finds_the_knee_of_a_rate(knee):
    sweep = run_auto_sweep("request_rate", 0.25, saturating_at(knee))
    assert sweep.knee.load == pytest.approx(knee, rel=0.15)


@pytest.mark.parametrize("limit", [5, 11, 13, 27])
def test_auto_finds_where_goodput_is_highest(limit):
    server = Server(lambda load: 100 * load, goodput=lambda load: load if load <= limit else 0)
    sweep = run_auto_sweep("request_rate", 1, server)
    assert sweep.knee.load <= limit
    assert sweep.knee.load == pytest.approx(limit, rel=0.17)
    assert sweep.knee.is_saturated


def test_auto_stops_doubling_when_throughput_grows_by_less_than_5_percent():
    server = Server(lambda load: 100 if load < 4 else 104)
    run_auto_sweep("max_concurrency", 1, server)
    assert max(server.loads) == 2


def test_auto_gives_up_after_as_many_points_as_allowed():
    server = Server(lambda load: load)
    sweep = run_auto_sweep("max_concurrency", 1, server, max_points=5)
    assert server.loads == [1, 2, 4, 8, 16]
    assert not sweep.knee.is_saturated


def test_the_knee_is_the_lowest_load_near_the_best():
    sweep = run_sweep("max_concurrency", [1, 2, 4, 8, 16], Server({1: 10, 2: 20, 4: 39, 8: 40, 16: 38}.get))
    assert (sweep.knee.load, sweep.knee.is_saturated) == (4, True)
    assert describe_knee(sweep).startswith("The knee is at concurrency 4: 39 output tokens/s, median TTFT")


def test_a_curve_that_still_grows_has_its_knee_above():
    sweep = run_sweep("request_rate", [1, 2, 4], Server(lambda load: load))
    assert (sweep.knee.load, sweep.knee.is_saturated) == (4, False)
    assert "No knee yet: throughput still grows at request rate 4" in describe_knee(sweep)


def test_one_point_shows_no_knee():
    assert describe_knee(run_sweep("request_rate", [1], Server(lambda load: load))).startswith("One point")


def test_without_success_there_is_no_knee():
    def measure(load):
        return made_up_result(made_up_records(3, failing=3))

    sweep = run_auto_sweep("request_rate", 1, measure)
    assert sweep.knee is None
    assert "No request succeeded" in describe_knee(sweep)
    assert_self_contained(render_sweep_report(sweep))


def test_objectives_that_nobody_meets_are_told():
    sweep = run_sweep("request_rate", [1, 2], Server(lambda load: 10, goodput=lambda load: 0))
    assert "No request met the objectives" in describe_knee(sweep)


def test_the_knee_of_no_points_is_none():
    assert find_knee([]) is None


@pytest.mark.parametrize(
    ("variable", "loads", "reason"),
    [
        ("request_rate", [], "at least one"),
        ("request_rate", [1, 0], "must be above 0, not 0"),
        ("request_rate", [float("inf")], "must be above 0, not inf"),
        ("max_concurrency", [1.5], "must be a whole number, not 1.5"),
    ],
)
def test_wrong_loads_are_refused_before_anything_is_measured(variable, loads, reason):
    server = saturating_at(1)
    with pytest.raises(ConfigError, match=reason):
        run_sweep(variable, loads, server)
    assert server.loads == []


def test_warnings_say_at_which_load():
    sweep = run_sweep("request_rate", [1, 2.5], Server(lambda load: load, warnings=["slow client"]))
    assert sweep.warnings == ["request rate 1: slow client", "request rate 2.5: slow client"]


def test_a_cache_that_served_some_loads_only_is_a_warning():
    def measure(load):
        result = made_up_result(made_up_records(5))
        result.summary.total_cached_tokens = result.summary.total_input_tokens if load > 1 else 0
        return result

    (warning,) = run_sweep("request_rate", [1, 2], measure).warnings
    assert "0% of the input tokens at one load and 100% at another" in warning


def test_a_sweep_file_has_every_result(tmp_path):
    sweep = run_sweep("max_concurrency", [1, 2], saturating_at(1))
    path = tmp_path / "sweep.json"
    write_sweep(sweep, path)
    assert msgspec.json.decode(path.read_bytes(), type=SweepResult) == sweep
    written = json.loads(path.read_text())
    assert written["kind"] == "sweep"
    assert [len(point["result"]["records"]) for point in written["points"]] == [5, 5]


def test_the_table_has_a_row_a_point():
    header, rows = sweep_table(
        run_sweep("request_rate", [1, 2.5], Server(lambda load: 10 * load, goodput=lambda load: load))
    )
    assert header[:3] == ["rate, req/s", "req/s", "output tok/s"]
    assert header[-2:] == ["goodput, req/s", "failed"]
    assert [row[0] for row in rows] == ["1", "2.5"]
    assert [row[2] for row in rows] == ["10.0", "25.0"]
    assert {len(row) for row in rows} == {len(header)}


def test_the_report_shows_the_curve_and_the_knee(tmp_path):
    sweep = run_sweep("max_concurrency", [1, 2, 4, 8], saturating_at(4))
    path = tmp_path / "sweep.html"
    write_sweep_report(sweep, path)
    page = assert_self_contained(path.read_text(encoding="utf-8"))
    assert "The knee is at concurrency 4" in page.text
    assert ("class", "marked") in page.attributes
    assert page.elements.count("svg") == 6
    assert {"p50 TTFT", "p99 TTFT", "p50 TPOT", "p99 TPOT"} <= set(page.texts)


def test_the_saturation_chart_tells_the_load_of_each_point():
    svg = saturation_chart(run_sweep("max_concurrency", [1, 2, 64], saturating_at(4)))
    told = {element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")}
    assert {"p50 TTFT: 1", "p99 TPOT: 64"} <= told
