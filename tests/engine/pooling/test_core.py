"""The queue for vectors: whole sequences, in order, within the budget of a step."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.engine.pooling.core import PoolingCore
from octavo.engine.pooling.messages import PoolingRequest


class Recorder:
    """A runner that gives each request its own id as its result, and remembers the steps."""

    def __init__(self) -> None:
        self.steps: list[list[PoolingRequest]] = []

    def execute(self, requests: Sequence[PoolingRequest]) -> list[bytes]:
        self.steps.append(list(requests))
        return [request.request_id.encode() for request in requests]


def request(name: str, num_tokens: int) -> PoolingRequest:
    return PoolingRequest(name, [7] * num_tokens)


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(1, 50), max_size=40), max_num_seqs=st.integers(1, 8), budget=st.integers(1, 60))
def test_each_request_is_computed_once_in_order_within_the_budget(
    lengths: list[int], max_num_seqs: int, budget: int
) -> None:
    recorder = Recorder()
    core = PoolingCore(recorder, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget)
    for index, length in enumerate(lengths):
        core.add(request(str(index), length))
    given_out = []
    while core.has_work:
        expected = core.stats().num_running
        output = core.step()
        assert len(output.pooled) == expected
        assert output.num_tokens == sum(len(item.token_ids) for item in recorder.steps[-1])
        given_out += [(vector.request_id, vector.data.decode()) for vector in output.pooled]
    assert given_out == [(str(index), str(index)) for index in range(len(lengths))]
    for step in recorder.steps:
        assert 1 <= len(step) <= max_num_seqs
        assert len(step) == 1 or sum(len(item.token_ids) for item in step) <= budget
    assert core.stats().num_running == core.stats().num_waiting == 0


def test_no_step_has_room_that_the_next_request_would_fit_into() -> None:
    recorder = Recorder()
    core = PoolingCore(recorder, max_num_seqs=10, max_num_batched_tokens=10)
    for index, length in enumerate([4, 6, 11, 3, 3]):
        core.add(request(str(index), length))
    while core.has_work:
        core.step()
    assert [[len(item.token_ids) for item in step] for step in recorder.steps] == [[4, 6], [11], [3, 3]]


def test_an_aborted_request_is_not_computed() -> None:
    recorder = Recorder()
    core = PoolingCore(recorder, max_num_seqs=2, max_num_batched_tokens=100)
    for name in "abc":
        core.add(request(name, 5))
    core.abort(["b", "unknown"])
    assert [vector.request_id for vector in core.step().pooled] == ["a", "c"]
    assert not core.has_work


def test_a_step_without_requests_computes_nothing() -> None:
    recorder = Recorder()
    output = PoolingCore(recorder, max_num_seqs=2, max_num_batched_tokens=100).step()
    assert (output.pooled, output.num_tokens, recorder.steps) == ([], 0, [])
