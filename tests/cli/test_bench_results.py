"""``octavo bench`` sweep, throughput, latency and compare on the command line."""

from __future__ import annotations

import re

import msgspec
import pytest

from octavo.bench.records import BenchResult, read_result, write_result
from octavo.bench.sweep import SweepResult
from tests.bench.made_up import made_up_records, made_up_result

ENGINE = ["--kv-cache-memory-bytes", "1MiB", "--max-model-len", "64"]


def test_throughput_prints_tokens_a_second_and_writes_the_result(octavo, checkpoint, tmp_path):
    output, html = tmp_path / "result.json", tmp_path / "result.html"
    ran = octavo(
        *("bench", "throughput", "--model", str(checkpoint), *ENGINE),
        *("--input-len", "8", "--output-len", "4", "--num-prompts", "5", "--output", str(output), "--html", str(html)),
    )
    assert ran.exit_code == 0, ran.errors
    assert re.search(r"^5 requests in [\d.]+ s$", ran.out, re.MULTILINE)
    assert re.search(r"[\d.]+ requests/s", ran.out)
    assert re.search(r"[\d.,]+ total tokens/s, [\d.,]+ output tokens/s", ran.out)
    assert read_result(output).summary.total_output_tokens == 20
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_latency_prints_percentiles_and_the_distance_to_the_limit(octavo, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("octavo.bench.decode_traffic._BUFFER_BYTES", 2**24)
    output = tmp_path / "result.json"
    ran = octavo(
        *("bench", "latency", "--model", str(checkpoint), *ENGINE, "--input-len", "8", "--output-len", "8"),
        *("--batch-size", "2", "--num-iters", "5", "--num-iters-warmup", "1", "--output", str(output)),
    )
    assert ran.exit_code == 0, ran.errors
    for name in ("mean", "min", "p50", "p90", "p95", "p99", "max", "prefill"):
        assert re.search(rf"^ *{name}: [\d.]+ ms", ran.out, re.MULTILINE), name
    assert "% of the" in ran.out
    assert read_result(output).kind == "latency"


@pytest.mark.parametrize("command", ["throughput", "latency"])
def test_lengths_that_do_not_fit_are_refused(octavo, checkpoint, command):
    ran = octavo("bench", command, "--model", str(checkpoint), *ENGINE, "--input-len", "60", "--output-len", "60")
    assert ran.exit_code == 2
    assert ran.errors == ["--input-len 60 and --output-len 60 together exceed the model's greatest length of 64 tokens"]


def write(path, **options):
    write_result(made_up_result(made_up_records(**options)), path)
    return str(path)


def test_compare_prints_a_verdict_for_each_figure(octavo, tmp_path):
    before, after = write(tmp_path / "a.json"), write(tmp_path / "b.json", seed=1, tpot_s=0.03)
    ran = octavo("bench", "compare", before, after)
    assert ran.exit_code == 0
    assert re.search(r"^Time per output token, p50, ms .* slower *$", ran.out, re.MULTILINE)
    assert re.search(r"^Requests/s .* no clear difference *$", ran.out, re.MULTILINE)
    assert ran.errors == []


def test_compare_fails_on_a_regression_above_the_limit(octavo, tmp_path):
    before, after = write(tmp_path / "a.json"), write(tmp_path / "b.json", seed=1, tpot_s=0.03)
    ran = octavo("bench", "compare", before, after, "--fail-above", "5%")
    assert ran.exit_code == 1
    assert any(
        re.search(r"Time per output token, p50, ms: .* worse by .*, allowed are 5%", line) for line in ran.errors
    )
    assert octavo("bench", "compare", after, before, "--fail-above", "5").exit_code == 0
    assert octavo("bench", "compare", before, after, "--fail-above", "200%").exit_code == 0


def test_compare_warns_about_other_settings_and_writes_a_report(octavo, tmp_path):
    before, html = write(tmp_path / "a.json"), tmp_path / "compare.html"
    after = tmp_path / "b.json"
    write_result(made_up_result(settings={"dataset_name": "random", "request_rate": 40.0, "num_prompts": 200}), after)
    ran = octavo("bench", "compare", before, str(after), "--html", str(html))
    assert ran.errors == [
        "octavo: warning: the tests differ in settings.request_rate: 20.0 and 40.0",
        f"wrote {html}",
    ]
    assert "settings.request_rate" in html.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["/no/a.json", "/no/b.json"], "/no/a.json: No such file or directory"),
        (["a", "b", "--fail-above", "x"], "--fail-above must be a percentage such as 5%, not 'x'"),
        (["a", "b", "--fail-above", "-1"], "--fail-above must be a percentage such as 5%, not '-1'"),
        ([__file__, __file__], "is not a result of octavo bench"),
    ],
)
def test_compare_says_what_is_wrong(octavo, arguments, reason):
    ran = octavo("bench", "compare", *arguments)
    assert ran.exit_code == 2
    assert reason in ran.errors[0]


@pytest.fixture
def asked(monkeypatch) -> list:
    """The settings of every load test of a server whose throughput ends at 4 requests at a time."""
    seen = []

    def fake(settings, on_progress) -> BenchResult:
        seen.append(settings)
        result = made_up_result(made_up_records(5))
        result.summary.output_throughput = 100.0 * min(settings.arrivals.max_concurrency or 0, 4)
        return result

    monkeypatch.setattr("octavo.bench.serve_sweep.run_serve_benchmark", fake)
    return seen


def test_sweep_prints_a_table_and_the_knee_and_writes_both_files(octavo, asked, tmp_path):
    output, html = tmp_path / "sweep.json", tmp_path / "sweep.html"
    files = ["--output", str(output), "--html", str(html)]
    ran = octavo("bench", "sweep", "--concurrencies", "1,2,4,8", "--num-prompts", "5", "--slo", "ttft:1s", *files)
    assert ran.exit_code == 0, ran.errors
    assert [settings.arrivals.max_concurrency for settings in asked] == [1, 2, 4, 8]
    assert {(settings.num_prompts, settings.slo.ttft_ms) for settings in asked} == {(5, 1000.0)}
    assert "The knee is at concurrency 4: 400 output tokens/s" in ran.out
    assert ran.errors[0].startswith("at 1: ")
    assert len(msgspec.json.decode(output.read_bytes(), type=SweepResult).points) == 4
    assert "The knee is at concurrency 4" in html.read_text(encoding="utf-8")


def test_auto_doubles_the_concurrency_and_refines(octavo, asked):
    ran = octavo("bench", "sweep", "--auto", "--duration", "1")
    assert [settings.arrivals.max_concurrency for settings in asked] == [1, 2, 4, 8, 6, 3, 5]
    assert "The knee is at concurrency 4" in ran.out


def test_a_sweep_over_rates_asks_at_those_rates(octavo, asked):
    octavo("bench", "sweep", "--request-rates", "0.5,2", "--max-concurrency", "4")
    assert [(settings.arrivals.request_rate, settings.duration_s) for settings in asked] == [(0.5, 30.0), (2.0, 30.0)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give --request-rates, --concurrencies or --auto"),
        (["--request-rates", "1", "--concurrencies", "1"], "give either --request-rates or --concurrencies, not both"),
        (["--concurrencies", "1,x"], "--concurrencies must be numbers with commas between them"),
        (["--concurrencies", "1.5"], "a concurrency must be a whole number, not 1.5"),
        (["--concurrencies", "2,0"], "a concurrency must be above 0, not 0"),
        (["--request-rates", "nan"], "a request rate must be above 0, not nan"),
        (["--auto", "--request-rates", "1,2"], "with --auto, --request-rates is the one load to begin with"),
        (["--auto", "--max-points", "1"], "--max-points must be at least 2, not 1"),
        (["--concurrencies", "1", "--max-concurrency", "2"], "sets --max-concurrency itself"),
        (["--request-rates", "1", "--dataset-name", "jsonl"], "dataset jsonl needs a file"),
        (["--auto", "--output", "/no/such/sweep.json"], "there is no directory /no/such"),
        (["--request-rate", "1"], "there is no --request-rate; did you mean --request-rates?"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_is_sent(octavo, asked, arguments, reason):
    ran = octavo("bench", "sweep", *arguments)
    assert ran.exit_code == 2
    assert reason in ran.errors[0]
    assert asked == []
