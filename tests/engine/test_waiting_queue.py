"""The order in which waiting requests are admitted."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.request import Request
from octavo.engine.waiting_queue import WaitingQueue, create_waiting_queue
from tests.engine.made_requests import make_request


def request(arrival: int, priority: int = 0) -> Request:
    return make_request(f"r{arrival}", [1], arrival=arrival, priority=priority)


def drain(queue: WaitingQueue) -> list[str]:
    order = []
    while len(queue):
        first = queue.peek()
        assert queue.peek() is first
        queue.remove(first)
        order.append(first.request_id)
    return order


def test_first_come_is_first_served():
    queue = create_waiting_queue("fcfs")
    for arrival in range(3):
        queue.push(request(arrival, priority=-arrival))
    assert drain(queue) == ["r0", "r1", "r2"]


def test_priority_goes_before_arrival():
    queue = create_waiting_queue("priority")
    for arrival, priority in enumerate((1, -5, 1, -5, 0)):
        queue.push(request(arrival, priority))
    assert drain(queue) == ["r1", "r3", "r4", "r0", "r2"]


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_a_preempted_request_comes_before_all_that_were_never_admitted(policy: Literal["fcfs", "priority"]):
    queue = create_waiting_queue(policy)
    first, second = request(0), request(1)
    for waiting in (request(2), request(3)):
        queue.push(waiting)
    queue.push_back(second)  # the newest is preempted first
    queue.push_back(first)
    assert drain(queue) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_an_id_that_comes_again_after_an_abort_has_a_new_place(policy: Literal["fcfs", "priority"]):
    queue = create_waiting_queue(policy)
    old, other = request(0), request(1)
    again = make_request("r0", [1], arrival=2)
    queue.push(old)
    queue.push(other)
    queue.remove(old)
    queue.push(again)
    assert queue.peek() is other
    queue.remove(other)
    assert queue.peek() is again


@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "abort"]), st.integers(-2, 2), st.integers(0, 99))))
def test_the_priority_queue_does_what_sorting_would(actions: list[tuple[str, int, int]]):
    queue = create_waiting_queue("priority")
    model: list[Request] = []
    for arrival, (action, priority, choice) in enumerate(actions):
        if action == "push":
            model.append(request(arrival, priority))
            queue.push(model[-1])
        elif model:
            chosen = queue.peek() if action == "pop" else model[choice % len(model)]
            assert action != "pop" or chosen is min(model, key=lambda r: (r.priority, r.arrival))
            queue.remove(chosen)
            model.remove(chosen)
        assert len(queue) == len(model)
    assert drain(queue) == [r.request_id for r in sorted(model, key=lambda r: (r.priority, r.arrival))]


def test_the_priority_queue_holds_no_heap_of_aborted_requests():
    queue = create_waiting_queue("priority")
    keeper = request(10_000)
    queue.push(keeper)
    for arrival in range(1000):
        passing = request(arrival)
        queue.push(passing)
        queue.remove(passing)
    assert len(queue) == 1
    assert len(queue._heap) < 32  # type: ignore[attr-defined]
    assert queue.peek() is keeper
