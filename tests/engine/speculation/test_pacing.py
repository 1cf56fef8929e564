"""Drafts are as long as they pay."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.speculation.pacing import AcceptanceRate, Pacer, StepCosts

LINEAR = StepCosts([1, 2, 64], [10.0, 11.0, 73.0])


def test_costs_lie_on_straight_lines_between_what_was_measured_and_beyond():
    costs = StepCosts([1, 2, 4], [1.0, 2.0, 3.0])
    assert [costs.of_step(n) for n in (1, 2, 3, 4, 6)] == [1.0, 2.0, 2.5, 3.0, 4.0]


def test_sure_drafts_are_taken_whole_and_hopeless_ones_are_left_out():
    assert Pacer(LINEAR).choose_lens([0.99, 0.01], [5, 5], num_tokens=2) == [5, 0]


def test_without_costs_all_drafts_are_as_long_as_they_may_be():
    assert Pacer().choose_lens([0.5, 0.0], [4, 2], num_tokens=2) == [4, 2]


def test_a_large_batch_takes_shorter_drafts_than_a_small_one():
    costs = StepCosts([1, 8, 64], [10.0, 10.5, 80.0])  # weights are waited for up to 8 tokens
    alone = Pacer(costs).choose_lens([0.6], [5], num_tokens=1)
    crowded = Pacer(costs).choose_lens([0.6] * 32, [5] * 32, num_tokens=32)
    assert alone == [5]
    assert sum(crowded) == 0


def test_a_costly_draft_model_makes_drafts_shorter():
    dear = StepCosts(LINEAR.num_tokens, LINEAR.seconds, seconds_per_draft_token=4.0)
    cheap = Pacer(LINEAR).choose_lens([0.7], [8], num_tokens=1)[0]
    assert 0 < Pacer(dear).choose_lens([0.7], [8], num_tokens=1)[0] < cheap


def test_drafts_that_are_dear_to_begin_are_long_or_left_out():
    for seconds, expected in ((10.0, [8]), (1000.0, [0])):
        costs = StepCosts([1, 64], [10.0, 10.0], seconds_to_draft=seconds)
        assert Pacer(costs).choose_lens([0.9], [8], num_tokens=1) == expected


@given(
    drafts=st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(0, 3)), min_size=1, max_size=3),
    slope=st.floats(0.0, 10.0),
)
def test_no_other_lengths_give_more_tokens_a_second(drafts: list[tuple[float, int]], slope: float):
    rates, max_lens = [rate for rate, _ in drafts], [max_len for _, max_len in drafts]
    costs = StepCosts([1, 2], [10.0, 10.0 + slope])

    def tokens_a_second(lens: tuple[int, ...]) -> float:
        expected = sum(1 + sum(rate**j for j in range(1, n + 1)) for rate, n in zip(rates, lens, strict=True))
        return expected / costs.of_step(len(drafts) + sum(lens))

    chosen = Pacer(costs).choose_lens(rates, max_lens, num_tokens=len(drafts))
    best = max(map(tokens_a_second, itertools.product(*(range(n + 1) for n in max_lens))))
    assert tokens_a_second(tuple(chosen)) >= best * (1 - 1e-9)


def test_the_rate_is_the_mean_of_what_was_judged_and_of_what_it_began_with():
    rate = AcceptanceRate()
    first, weight = rate.value, rate.num_judged
    rate.observe(5, 3)  # three right and one wrong; the fifth is not judged
    rate.observe(2, 2)
    assert rate.value == pytest.approx((weight * first + 5) / (weight + 6))


def test_the_rate_follows_what_happens_and_recovers_when_nothing_is_tried():
    rate = AcceptanceRate()
    for _ in range(200):
        rate.observe(5, 0)
    low = rate.value
    assert low < 0.01
    rate.recover()
    assert low < rate.value < 0.1
    for _ in range(30):
        rate.observe(5, 5)
    assert rate.value > 0.99


@pytest.mark.parametrize(
    ("num_behind", "num_expected", "pays"),
    [(0, 0, True), (20, 0, False), (20, 10, False), (20, 100, True), (2000, 100, False)],
)
def test_a_draft_begins_where_it_saves_more_than_known_tokens_cost(num_behind: int, num_expected: int, pays: bool):
    costs = StepCosts(
        [1, 64], [10.0, 10.0], seconds_to_draft=2.0, seconds_to_catch_up=20.0, seconds_per_known_token=1.0
    )
    # Two tokens a step with a chance of one half each: 0.75 tokens of 10 s more, for 2 s, in steps of 1.75 tokens.
    saved = 5.5 / 1.75
    assert pays == (num_behind == 0 or num_expected * saved >= 20 + num_behind)
    assert pays == Pacer(costs).pays_to_catch_up(0.5, 2, num_behind=num_behind, num_expected=num_expected, num_tokens=1)


def test_drafts_that_save_nothing_do_not_begin():
    dear = StepCosts([1, 64], [10.0, 10.0], seconds_to_draft=1000.0, seconds_to_catch_up=1.0)
    assert not Pacer(dear).pays_to_catch_up(0.9, 8, num_behind=1, num_expected=1_000_000, num_tokens=1)
