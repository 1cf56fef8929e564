"""Beam search against transformers' own, and its rules for ends and lengths on made-up log-probabilities."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from octavo import LLM
from octavo.engine.beam_search import BeamSearch, BeamSearchParams
from octavo.engine.outputs import Logprob
from octavo.errors import RequestError
from tests.checkpoints import load_oracle

EOS = 9


@pytest.mark.parametrize("beam_width", [1, 2, 4])
def test_beams_are_those_of_transformers(checkpoint: Path, beam_width: int) -> None:
    llm = LLM(str(checkpoint), kv_cache_memory_bytes="8MiB", cpu_threads=1)
    prompts = [[5, 80, 33, 2], [200, 7]]
    params = BeamSearchParams(beam_width=beam_width, max_tokens=6, ignore_eos=True)
    found = llm.beam_search([{"prompt_token_ids": prompt} for prompt in prompts], params)
    oracle = load_oracle(checkpoint)
    for prompt, output in zip(prompts, found, strict=True):
        expected = oracle.generate(
            torch.tensor([prompt]),
            num_beams=beam_width,
            num_return_sequences=beam_width,
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        assert [sequence.tokens for sequence in output.sequences] == expected.sequences.tolist()
        if beam_width > 1:
            scores = [sequence.cum_logprob / 6 for sequence in output.sequences]
            assert scores == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)
        assert {sequence.finish_reason for sequence in output.sequences} == {"length"}


def likely(**probabilities: float) -> dict[int, Logprob]:
    """Log-probabilities of tokens that are named ``t1``, ``t2``, …"""
    return {int(name[1:]): Logprob(math.log(value), 1, "") for name, value in probabilities.items()}


def search(width: int, *, max_tokens: int = 10, length_penalty: float = 1.0, ignore_eos: bool = False) -> BeamSearch:
    params = BeamSearchParams(
        beam_width=width, max_tokens=max_tokens, length_penalty=length_penalty, ignore_eos=ignore_eos
    )
    return BeamSearch(params, [EOS], room=100)


def test_a_sequence_with_an_end_is_kept_while_others_go_on() -> None:
    beams = search(2, max_tokens=2)
    beams.extend([likely(t9=0.5, t1=0.3, t2=0.2)])
    assert [beam.token_ids for beam in beams.beams] == [(1,), (2,)]
    beams.extend([likely(t3=0.9, t4=0.1), likely(t3=0.6, t4=0.4)])
    assert beams.is_done
    best = beams.best()
    assert [(beam.token_ids, beam.finish_reason) for beam in best] == [((1, 3), "length"), ((9,), "stop")]
    assert best[0].logprob == pytest.approx(math.log(0.3 * 0.9))


def test_the_length_penalty_decides_between_short_and_long() -> None:
    for penalty, expected in ((0.0, (9,)), (2.0, (1, 3))):
        beams = search(1, max_tokens=2, length_penalty=penalty)
        beams.extend([likely(t9=0.5, t1=0.45)])
        if not beams.is_done:
            beams.extend([likely(t3=0.9)])
        assert beams.best()[0].token_ids == expected


def test_the_search_ends_when_no_beam_can_become_one_of_the_best() -> None:
    beams = search(1, length_penalty=0.0)
    beams.extend([likely(t9=0.6, t1=0.4)])
    assert beams.is_done  # longer is never more likely
    beams = search(1, length_penalty=1.0, max_tokens=3)
    beams.extend([likely(t9=0.6, t1=0.4)])
    assert not beams.is_done  # 0.4 over three tokens is more, if the next two are certain


def test_ends_are_tokens_like_others_if_they_are_to_be_ignored() -> None:
    beams = search(2, ignore_eos=True)
    beams.extend([likely(t9=0.5, t1=0.3, t2=0.2)])
    assert [beam.token_ids for beam in beams.beams] == [(9,), (1,)]


def test_the_room_behind_the_prompt_bounds_the_length() -> None:
    beams = BeamSearch(BeamSearchParams(beam_width=1, max_tokens=5), [], room=1)
    beams.extend([likely(t1=1.0)])
    assert beams.is_done


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"beam_width": 0}, "n"),
        ({"beam_width": 11}, "n"),
        ({"beam_width": 2, "max_tokens": 0}, "max_tokens"),
        ({"beam_width": 2, "length_penalty": 11.0}, "length_penalty"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, float], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        BeamSearchParams(**fields)
    assert caught.value.param == param
