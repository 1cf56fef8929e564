"""What a load test reports is what the server did, by the server's own clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from octavo.bench.records import BenchResult
from octavo.bench.serve import Arrivals, Progress, ServeSettings, Target, Workload, run_serve_benchmark
from octavo.bench.serve_settings import COMPLETIONS_ENDPOINT
from octavo.bench.summary import Slo
from octavo.errors import ConfigError, OctavoError
from tests.bench.known_delays import CHAT_OVERHEAD, KnownDelays, Schedule, Seen

_ATTEMPTS = 4
_SHORT = Workload(input_len=12, output_len=4)


@pytest.fixture(scope="module")
def running_server() -> Iterator[KnownDelays]:
    with KnownDelays() as server:
        yield server


@pytest.fixture
def server(running_server: KnownDelays) -> KnownDelays:
    """A server that answers at once, until the test says otherwise."""
    running_server.play(Schedule())
    return running_server


def settings(server: KnownDelays, **changes: Any) -> ServeSettings:
    target = Target(base_url=server.url, **changes.pop("target", {}))
    given: dict[str, Any] = {"workload": _SHORT, "arrivals": Arrivals(max_concurrency=2), "num_prompts": 6, **changes}
    return ServeSettings(target=target, **given)


def expected_figures(seen: list[Seen]) -> dict[str, float]:
    """Compute from the server's notes what the client should report."""
    answered = [request for request in seen if request.chunk_times]
    ttft = np.array([request.chunk_times[0] - request.received_at for request in answered]) * 1e3
    itl = np.concatenate([np.diff(request.chunk_times) for request in answered]) * 1e3
    tpot = np.array([np.mean(np.diff(request.chunk_times)) for request in answered]) * 1e3
    e2e = np.array([request.finished_at - request.received_at for request in answered]) * 1e3
    duration = max(request.finished_at for request in seen) - min(request.received_at for request in seen)
    figures = {
        "request_throughput": len(answered) / duration,
        "output_throughput": sum(len(request.chunk_times) for request in answered) / duration,
        "duration_s": duration,
    }
    for name, values in (("ttft_ms", ttft), ("tpot_ms", tpot), ("itl_ms", itl), ("e2e_ms", e2e)):
        figures |= {f"{name}.mean": values.mean(), f"{name}.min": values.min(), f"{name}.max": values.max()}
        figures |= {f"{name}.p{percent}": np.percentile(values, percent) for percent in (50, 90, 95, 99)}
    return figures


def reported_figure(result: BenchResult, name: str) -> float:
    part, _, statistic = name.partition(".")
    value = getattr(result.summary, part)
    return float(getattr(value, statistic) if statistic else value)


def wrong_figures(result: BenchResult, seen: list[Seen]) -> dict[str, str]:
    """Return the figures that are off by more than 2 % and 2 ms: what was reported, and what is right."""
    wrong = {}
    for name, right in expected_figures(seen).items():
        reported = reported_figure(result, name)
        if abs(reported - right) > max(0.02 * right, 2.0 if "_ms" in name else 0.0):
            wrong[name] = f"{reported:.2f} instead of {right:.2f}"
    return wrong


@pytest.mark.parametrize(
    "arrivals",
    [Arrivals(max_concurrency=4), Arrivals(request_rate=40), Arrivals(request_rate=60, max_concurrency=3)],
    ids=["closed loop", "open loop", "open loop with a cap"],
)
def test_every_figure_agrees_with_the_clock_of_the_server(running_server: KnownDelays, arrivals: Arrivals) -> None:
    errors: dict[str, str | int] = {"3": 503, "7": "event"}
    schedule = Schedule(first_s=0.1, gap_s=0.02, num_chunks=8, errors=errors)
    test = settings(running_server, arrivals=arrivals, num_prompts=18, workload=replace(_SHORT, output_len=8))
    always_wrong: dict[str, str] | None = None
    for _ in range(_ATTEMPTS):  # on a busy machine a single gap may be wrong by chance, but not each time
        running_server.play(schedule)
        result = run_serve_benchmark(test)
        assert result.summary.num_successful == 16
        assert result.summary.errors == {"http_503": 1, "stream": 1}
        seen = [request for request in running_server.seen() if str(request.index) not in errors]
        assert len(seen) == 16
        wrong = wrong_figures(result, seen)
        always_wrong = wrong if always_wrong is None else {n: wrong[n] for n in always_wrong if n in wrong}
        if not always_wrong:
            break
    assert not always_wrong


def test_objectives_decide_the_goodput(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.03, gap_s=0.005))
    for slo, share in ((Slo(ttft_ms=10_000, tpot_ms=10_000), 1.0), (Slo(ttft_ms=20), 0.0)):
        summary = run_serve_benchmark(settings(server, slo=slo)).summary
        assert summary.goodput == pytest.approx(share * summary.request_throughput)


def test_closed_loop_keeps_as_many_requests_under_way_as_it_may_and_never_more(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.02))
    result = run_serve_benchmark(settings(server, arrivals=Arrivals(max_concurrency=5), num_prompts=30))
    assert server.max_concurrency == 5
    assert result.summary.max_concurrency == 5
    assert len({request.connection for request in server.seen()}) == 5


def test_cap_of_an_open_loop_is_never_exceeded(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.03))
    arrivals = Arrivals(max_concurrency=3, request_rate=1000)
    result = run_serve_benchmark(settings(server, arrivals=arrivals, num_prompts=20))
    assert server.max_concurrency == 3
    waited = [record.sent_at - record.scheduled_at for record in result.records]
    assert max(waited) > 0.1  # the last of 20 requests waits for six others
    assert not any("did not keep up: requests" in warning for warning in result.warnings)


def test_without_rate_and_concurrency_all_requests_come_at_once(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.3))
    run_serve_benchmark(settings(server, arrivals=Arrivals(), num_prompts=25))
    assert server.max_concurrency == 25


def test_prompts_are_exact_to_the_token(server: KnownDelays) -> None:
    workload = Workload(input_len=40, output_len=4, range_ratio=0.5)
    for endpoint in ("/v1/chat/completions", COMPLETIONS_ENDPOINT):
        result = run_serve_benchmark(settings(server, workload=workload, target={"endpoint": endpoint}))
        lengths = [record.input_tokens for record in result.records]
        assert len(set(lengths)) > 1
        assert all(20 <= length <= 60 for length in lengths)
        assert "exact" in result.environment["prompts"]
        assert not [warning for warning in result.warnings if "prompts" in warning]
    bodies = [request.body for request in server.seen()]
    assert all(isinstance(body["prompt"][0], int) for body in bodies[6:])


def test_prompts_have_about_the_wanted_length_without_a_tokenizer(server: KnownDelays) -> None:
    server.play(Schedule(has_tokenizer=False))
    result = run_serve_benchmark(settings(server, workload=Workload(input_len=50, output_len=4)))
    assert {record.input_tokens for record in result.records} == {50}
    assert "measured by the server's usage" in result.environment["prompts"]
    assert f"{CHAT_OVERHEAD} more" in result.environment["prompts"]


def test_counts_that_differ_from_what_was_planned_are_told_with_figures(server: KnownDelays) -> None:
    server.play(Schedule(miscounts=2, num_chunks=3))
    result = run_serve_benchmark(settings(server))
    found = "\n".join(result.warnings)
    assert "6 of 6 prompts have another length than planned: 14.0 tokens on average" in found
    assert "6 of 6 answers have another length than planned: 3.0 tokens on average" in found


def test_answers_of_a_model_that_ends_itself_are_counted_again(server: KnownDelays) -> None:
    server.play(Schedule(num_chunks=6, tokens_per_chunk=2))
    target = {"ignore_eos": False}
    assert not [w for w in run_serve_benchmark(settings(server, target=target)).warnings if "tokenizer" in w]


def test_pieces_are_counted_where_the_server_gives_no_usage(server: KnownDelays) -> None:
    server.play(Schedule(has_usage=False, num_chunks=5))
    result = run_serve_benchmark(settings(server))
    assert [record.output_tokens for record in result.records] == [5] * 6
    assert [record.input_tokens for record in result.records] == [12] * 6
    assert any("gave no usage for 6 answers" in warning for warning in result.warnings)


def test_answer_that_is_not_streamed_has_no_time_to_first_token(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.02, gap_s=0.01, num_chunks=4))
    result = run_serve_benchmark(settings(server, target={"stream": False}))
    assert result.summary.ttft_ms is None
    assert result.summary.e2e_ms is not None
    assert result.summary.e2e_ms.min >= 50
    assert result.summary.total_output_tokens == 24


def test_each_kind_of_failure_is_counted_with_its_first_message(server: KnownDelays) -> None:
    kinds: dict[str, str | int] = {"0": 500, "1": "cut", "2": "event", "3": "end", "4": "hang", "5": 500}
    server.play(Schedule(errors=kinds))
    arrivals, target = Arrivals(max_concurrency=1), {"timeout_s": 0.5}
    summary = run_serve_benchmark(settings(server, arrivals=arrivals, num_prompts=8, target=target)).summary
    assert summary.num_successful == 2
    assert summary.errors == {"http_500": 2, "connection_closed": 1, "stream": 2, "timeout": 1}
    assert summary.error_messages == {
        "http_500": "failure 0",
        "connection_closed": "the server closed the connection in the middle of its answer",
        "stream": "the engine ended",
        "timeout": "no whole answer within 0.5 s",
    }


def test_unknown_field_is_told_with_the_flag_that_drops_it(server: KnownDelays) -> None:
    server.play(Schedule(refused_field="ignore_eos"))
    summary = run_serve_benchmark(settings(server)).summary
    assert summary.num_failed == 6
    assert "--no-ignore-eos leaves" in summary.error_messages["http_400"]
    assert run_serve_benchmark(settings(server, target={"ignore_eos": False})).summary.num_failed == 0


def test_requests_carry_what_the_target_says(server: KnownDelays) -> None:
    target = {
        "temperature": 0.5,
        "api_key": "secret",
        "headers": {"X-Team": "press"},
        "extra_body": {"top_k": 3, "max_tokens": None, "max_completion_tokens": 7},
    }
    result = run_serve_benchmark(settings(server, target=target, num_prompts=1))
    (seen,) = server.seen()
    assert seen.headers["authorization"] == "bearer secret"
    assert seen.headers["x-team"] == "press"
    assert "max_tokens" not in seen.body
    expected = {"temperature": 0.5, "top_k": 3, "max_completion_tokens": 7, "ignore_eos": True, "min_tokens": 4}
    assert {name: seen.body[name] for name in expected} == expected
    assert "secret" not in str(result.settings)


def test_turn_carries_the_conversation_and_waits_for_the_answer_before_it(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.01, num_chunks=2))
    workload = Workload(dataset_name="multi-turn", input_len=10, output_len=4, num_turns=3, think_time_s=0.05)
    result = run_serve_benchmark(settings(server, workload=workload, arrivals=Arrivals(max_concurrency=1)))
    seen = server.seen()
    assert len(seen) == 6
    roles = [[message["role"] for message in request.body["messages"]] for request in seen[:3]]
    assert roles[2] == ["user", "assistant", "user", "assistant", "user"]
    assert seen[2].body["messages"][1]["content"] == " word word"
    assert seen[1].body["messages"][:1] == seen[0].body["messages"]
    for earlier, later in pairwise(seen[:3]):
        assert later.received_at - earlier.finished_at >= 0.049
    assert result.records[2].input_tokens > result.records[1].input_tokens > result.records[0].input_tokens


def test_conversation_over_completions_is_one_text(server: KnownDelays) -> None:
    workload = Workload(dataset_name="multi-turn", input_len=5, output_len=4, num_turns=2)
    target = {"endpoint": COMPLETIONS_ENDPOINT}
    run_serve_benchmark(settings(server, workload=workload, target=target, num_prompts=2))
    first, second = (request.body["prompt"] for request in server.seen())
    assert second.startswith(first)
    assert "word word word word" in second


def test_turns_after_a_failed_one_are_not_sent(server: KnownDelays) -> None:
    server.play(Schedule(errors={"0": 500}))
    workload = Workload(dataset_name="multi-turn", input_len=5, output_len=4, num_turns=3)
    result = run_serve_benchmark(settings(server, workload=workload, num_prompts=3))
    assert result.summary.num_requests == 1
    assert any("2 requests that were due were not sent" in warning for warning in result.warnings)


def test_duration_ends_the_sending_and_waits_for_answers(server: KnownDelays) -> None:
    server.play(Schedule(first_s=0.05))
    test = settings(server, num_prompts=None, duration_s=0.4, arrivals=Arrivals(max_concurrency=2))
    result = run_serve_benchmark(test)
    assert 4 <= result.summary.num_successful <= 16
    assert result.summary.num_failed == 0
    assert max(record.sent_at for record in result.records) < 0.41


def test_warm_up_does_not_count_and_has_other_prompts(server: KnownDelays) -> None:
    result = run_serve_benchmark(settings(server, num_warmups=3, num_prompts=4))
    assert result.summary.num_requests == 4
    prompts = [str(request.body["messages"]) for request in server.seen()]
    assert len(prompts) == len(set(prompts)) == 7


def test_same_seed_asks_the_same_and_another_seed_does_not(server: KnownDelays) -> None:
    asked = []
    for seed in (1, 1, 2):
        server.play(Schedule())
        run_serve_benchmark(settings(server, seed=seed, arrivals=Arrivals(max_concurrency=1)))
        asked.append([request.body for request in server.seen()])
    assert asked[0] == asked[1] != asked[2]


def test_memory_of_the_gpus_is_what_the_metrics_of_the_server_say(server: KnownDelays) -> None:
    metrics = '# TYPE octavo:gpu_memory_used_bytes gauge\noctavo:gpu_memory_used_bytes{gpu="0"} 2.5e9\n'
    server.play(Schedule(metrics=metrics + 'octavo:gpu_memory_used_bytes{gpu="1"} 5e8\nother 7\n'))
    assert run_serve_benchmark(settings(server)).summary.gpu_memory_used_bytes == 3_000_000_000


def test_progress_ends_with_all_requests(server: KnownDelays) -> None:
    told: list[Progress] = []
    run_serve_benchmark(settings(server, num_warmups=1), told.append)
    assert {progress.phase for progress in told} == {"warm-up", "test"}
    assert (told[-1].num_done, told[-1].num_requests, told[-1].num_under_way) == (6, 6, 0)


def test_server_that_is_not_there_is_told_before_the_test() -> None:
    with pytest.raises(OctavoError, match="Is a server running there"):
        run_serve_benchmark(ServeSettings(target=Target(base_url="http://127.0.0.1:9")))


def test_warm_up_that_fails_ends_the_test(server: KnownDelays) -> None:
    server.play(Schedule(errors={"0": 500}))
    with pytest.raises(OctavoError, match="all warm-up requests failed; the first one: http_500: failure 0"):
        run_serve_benchmark(settings(server, num_warmups=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration_s": 1.0, "num_prompts": None, "arrivals": Arrivals()}, "without end"),
        ({"num_prompts": 0}, "num_prompts must be at least 1, not 0"),
        ({"duration_s": math.nan}, "duration must be above 0"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServeSettings(target=Target(base_url="http://x"), **changes)
