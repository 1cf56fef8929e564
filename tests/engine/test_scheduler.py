import pytest

from octavo.engine.messages import StepEvents
from octavo.engine.scheduler import Scheduler
from octavo.engine.step import StepPlan, StepResult
from tests.engine.fake_runner import FakeRunner, expected_output
from tests.engine.made_requests import make_request, make_scheduler


def make_runner(scheduler: Scheduler) -> FakeRunner:
    return FakeRunner(scheduler.kv_cache.pool.num_blocks, scheduler.kv_cache.block_size, max_num_seqs=16)


def run_to_the_end(scheduler: Scheduler, runner: FakeRunner, max_steps: int = 1000) -> dict[str, list[int]]:
    outputs: dict[str, list[int]] = {}
    for _ in range(max_steps):
        if not scheduler.has_unfinished_requests:
            return outputs
        plan = scheduler.schedule()
        assert plan.rows, "a step that computes nothing is a deadlock"
        for update in scheduler.commit(plan, runner.execute(plan)):
            outputs.setdefault(update.request_id, []).extend(update.token_ids)
    raise AssertionError("the requests did not finish")


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks() -> None:
    scheduler = make_scheduler(budget=4)
    scheduler.add(make_request("a", range(10), max_tokens=1))
    runner = make_runner(scheduler)
    counts = []
    while scheduler.has_unfinished_requests:
        plan = scheduler.schedule()
        counts.append((plan.counts, plan.samples))
        scheduler.commit(plan, runner.execute(plan))
    assert counts == [([4], []), ([4], []), ([2], [0])]


def test_decodes_and_a_prefill_chunk_share_one_step() -> None:
    scheduler = make_scheduler(budget=8)
    runner = make_runner(scheduler)
    scheduler.add(make_request("a", [1, 2], arrival=0))
    plan = scheduler.schedule()
    scheduler.commit(plan, runner.execute(plan))
    scheduler.add(make_request("b", range(20), arrival=1))
    plan = scheduler.schedule()
    assert plan.counts == [1, 7]
    assert plan.samples == [0]


def test_at_most_max_num_seqs_run_and_the_rest_waits_in_order() -> None:
    scheduler = make_scheduler(max_num_seqs=2)
    for index in range(4):
        scheduler.add(make_request(str(index), [index], arrival=index))
    scheduler.schedule()
    assert [request.request_id for request in scheduler.running] == ["0", "1"]
    assert len(scheduler.waiting) == 2
    assert scheduler.waiting.peek().request_id == "2"


def test_priority_policy_admits_the_lowest_value_first() -> None:
    scheduler = make_scheduler(max_num_seqs=1, policy="priority")
    for index, priority in enumerate([5, -1, 5]):
        scheduler.add(make_request(str(index), [index], arrival=index, priority=priority, max_tokens=1))
    runner = make_runner(scheduler)
    assert list(run_to_the_end(scheduler, runner)) == ["1", "0", "2"]


def test_fcfs_ignores_priority() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    for index, priority in enumerate([5, -1]):
        scheduler.add(make_request(str(index), [index], arrival=index, priority=priority, max_tokens=1))
    assert list(run_to_the_end(scheduler, make_runner(scheduler))) == ["0", "1"]


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_preempted_requests_give_the_same_tokens(policy) -> None:
    scheduler = make_scheduler(num_blocks=8, max_num_seqs=4, policy=policy)
    prompts = {str(index): [index, index + 1, index + 2] for index in range(4)}
    for index, (name, prompt) in enumerate(prompts.items()):
        scheduler.add(make_request(name, prompt, arrival=index, max_tokens=20, priority=-index))
    outputs = run_to_the_end(scheduler, make_runner(scheduler))
    assert scheduler.stats().total_preemptions > 0
    assert outputs == {name: expected_output(prompt, 20) for name, prompt in prompts.items()}
    assert scheduler.kv_cache.pool.num_used == 0


def test_the_newest_request_is_preempted_first() -> None:
    scheduler = make_scheduler(num_blocks=4, max_num_seqs=3)
    runner = make_runner(scheduler)
    for index in range(3):
        scheduler.add(make_request(str(index), [index] * 4, arrival=index, max_tokens=8))
    plan = scheduler.schedule()
    scheduler.commit(plan, runner.execute(plan))
    scheduler.schedule()
    assert [request.request_id for request in scheduler.running] == ["0", "1"]
    assert scheduler.waiting.peek().request_id == "2"


def test_under_the_priority_policy_the_least_important_is_preempted_first() -> None:
    scheduler = make_scheduler(num_blocks=2, max_num_seqs=2, policy="priority")
    runner = make_runner(scheduler)
    scheduler.add(make_request("old", [1, 2, 3, 4], arrival=0, priority=1, max_tokens=4))
    scheduler.add(make_request("important", [5, 6, 7, 8], arrival=1, priority=0, max_tokens=4))
    plan = scheduler.schedule()
    scheduler.commit(plan, runner.execute(plan))
    scheduler.schedule()
    assert [request.request_id for request in scheduler.running] == ["important"]
    assert scheduler.waiting.peek().request_id == "old"


def test_a_step_may_be_planned_before_the_last_one_is_committed() -> None:
    scheduler = make_scheduler(num_blocks=8, max_num_seqs=4)
    prompts = {str(index): [index, index + 1, index + 2] for index in range(4)}
    for index, (name, prompt) in enumerate(prompts.items()):
        scheduler.add(make_request(name, prompt, arrival=index, max_tokens=20, stop_token_ids=[4]))
    runner = make_runner(scheduler)
    in_flight: list[tuple[StepPlan, StepResult]] = []
    outputs: dict[str, list[int]] = {name: [] for name in prompts}
    while scheduler.has_unfinished_requests:
        plan = scheduler.schedule()
        in_flight.append((plan, runner.execute(plan)))
        if len(in_flight) > 2 or not plan.rows:
            for update in scheduler.commit(*in_flight.pop(0)):
                outputs[update.request_id] += update.token_ids
    assert outputs == {name: expected_output(prompt, 20, frozenset([4])) for name, prompt in prompts.items()}
    assert scheduler.kv_cache.pool.num_used == 0


def test_a_stop_token_ends_a_request_and_is_named() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", [1], stop_token_ids=[3], eos_token_ids=[2]))
    scheduler.add(make_request("b", [1], stop_token_ids=[3], eos_token_ids=[2]))
    plan = scheduler.schedule()
    first, second = scheduler.commit(plan, StepResult([3, 2]))
    assert (first.finish_reason, first.stop_token_id) == ("stop", 3)
    assert (second.finish_reason, second.stop_token_id) == ("stop", None)
    assert not scheduler.has_unfinished_requests


def test_an_end_of_sequence_token_does_not_end_a_request_that_ignores_it() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", [1], eos_token_ids=[2], ignore_eos=True))
    plan = scheduler.schedule()
    (update,) = scheduler.commit(plan, StepResult([2]))
    assert update.finish_reason is None


def test_no_stop_before_min_tokens() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", [1], eos_token_ids=[2], min_tokens=2, max_tokens=9))
    reasons = []
    for _ in range(2):
        plan = scheduler.schedule()
        reasons += [update.finish_reason for update in scheduler.commit(plan, StepResult([2]))]
    assert reasons == [None, "stop"]


def test_max_tokens_ends_a_request_with_length() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", [1], max_tokens=2))
    runner = make_runner(scheduler)
    updates = []
    while scheduler.has_unfinished_requests:
        plan = scheduler.schedule()
        updates += scheduler.commit(plan, runner.execute(plan))
    assert [update.finish_reason for update in updates] == [None, "length"]


def test_an_abort_frees_blocks_and_row_at_once_and_late_results_are_dropped() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", range(8)))
    plan = scheduler.schedule()
    assert scheduler.kv_cache.pool.num_used == 2
    assert scheduler.abort("a")
    assert scheduler.kv_cache.pool.num_used == 0
    assert scheduler.commit(plan, StepResult([1])) == []
    assert not scheduler.abort("a")


def test_a_waiting_request_can_be_aborted() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    scheduler.add(make_request("a", [1]))
    scheduler.add(make_request("b", [1], arrival=1))
    scheduler.schedule()
    assert scheduler.abort("b")
    assert len(scheduler.waiting) == 0


def test_the_same_id_twice_is_an_error() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request("a", [1]))
    with pytest.raises(ValueError, match="in use"):
        scheduler.add(make_request("a", [1]))


def test_equal_prompts_in_one_step_share_their_blocks() -> None:
    scheduler = make_scheduler(budget=64)
    runner = make_runner(scheduler)
    for index in range(3):
        scheduler.add(make_request(str(index), range(10), arrival=index, max_tokens=1))
    plan = scheduler.schedule()
    assert plan.counts == [10, 2, 2]
    scheduler.commit(plan, runner.execute(plan))


def test_the_first_update_says_how_many_prompt_tokens_were_cached() -> None:
    scheduler = make_scheduler(budget=64)
    runner = make_runner(scheduler)
    for name in ("a", "b"):
        scheduler.add(make_request(name, range(10), max_tokens=2))
        updates = []
        while scheduler.has_unfinished_requests:
            plan = scheduler.schedule()
            updates += scheduler.commit(plan, runner.execute(plan))
        assert updates[0].num_cached_tokens == (8 if name == "b" else 0)


def test_stats_count_what_happened() -> None:
    scheduler = make_scheduler(max_num_seqs=1)
    runner = make_runner(scheduler)
    scheduler.add(make_request("a", range(5), arrival=0))
    scheduler.add(make_request("b", range(5), arrival=1))
    plan = scheduler.schedule()
    scheduler.commit(plan, runner.execute(plan))
    stats = scheduler.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_used_blocks, stats.total_steps) == (1, 1, 2, 1)
    assert (stats.total_prefix_queries, stats.total_prefix_hits) == (5, 0)


def test_chunks_of_a_prefill_are_told_until_it_is_done_and_decodes_are_not() -> None:
    scheduler = make_scheduler(budget=4)
    runner = make_runner(scheduler)
    scheduler.add(make_request("a", range(9), max_tokens=3))
    told = []
    while scheduler.has_unfinished_requests:
        plan = scheduler.schedule()
        told.append(plan.events)
        scheduler.commit(plan, runner.execute(plan))
    assert told == [
        StepEvents(admitted=[("a", 0)], chunks=[("a", 4)]),
        StepEvents(chunks=[("a", 4)]),
        StepEvents(chunks=[("a", 1)]),
        None,
        None,
    ]


def test_an_admission_tells_what_the_prefix_cache_held() -> None:
    scheduler = make_scheduler(budget=64)
    runner = make_runner(scheduler)
    for name, held in (("a", 0), ("b", 8)):
        scheduler.add(make_request(name, range(10), max_tokens=1))
        plan = scheduler.schedule()
        assert plan.events == StepEvents(admitted=[(name, held)], chunks=[(name, 10 - held)])
        scheduler.commit(plan, runner.execute(plan))


def test_a_preemption_and_the_computation_after_it_are_told() -> None:
    scheduler = make_scheduler(num_blocks=6, prefix_caching=False)
    runner = make_runner(scheduler)
    scheduler.add(make_request("a", range(8), max_tokens=8, arrival=0))
    scheduler.add(make_request("b", range(8), max_tokens=8, arrival=1))
    told = []
    while scheduler.has_unfinished_requests:
        plan = scheduler.schedule()
        told += [plan.events] if plan.events is not None else []
        scheduler.commit(plan, runner.execute(plan))
    first, preempting, resuming = told
    assert first == StepEvents(admitted=[("a", 0), ("b", 0)], chunks=[("a", 8), ("b", 8)])
    assert preempting == StepEvents(preempted=["b"])
    assert resuming.admitted == [("b", 0)]
    ((name, num_recomputed),) = resuming.chunks
    assert (name, num_recomputed > 8) == ("b", True)


def test_what_is_aborted_in_its_prefill_is_told_of_no_more() -> None:
    scheduler = make_scheduler(budget=4)
    scheduler.add(make_request("a", range(9)))
    scheduler.schedule()
    scheduler.abort("a")
    scheduler.add(make_request("b", [1], arrival=1))
    assert scheduler.schedule().events == StepEvents(admitted=[("b", 0)], chunks=[("b", 1)])
