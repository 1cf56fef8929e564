"""Which tokens may be sampled, and how likely those of a prompt are: against transformers on the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.generation.logits_process import NoBadWordsLogitsProcessor

from octavo import LLM, SamplingParams
from octavo.engine.messages import EngineRequest
from octavo.engine.request_builder import RequestBuilder
from octavo.errors import RequestError
from octavo.text import Tokenizer
from tests.checkpoints import load_oracle

PROMPT = [5, 80, 33, 2, 17, 300, 41, 41, 9]


@pytest.fixture(scope="module")
def llm(checkpoint: Path) -> LLM:
    return LLM(str(checkpoint), kv_cache_memory_bytes="8MiB", cpu_threads=1, block_size=4, max_num_batched_tokens=16)


def generate(llm: LLM, prompt: list[int], **fields: Any) -> Any:
    params = SamplingParams(**{"temperature": 0, "max_tokens": 8, "ignore_eos": True, **fields})
    (output,) = llm.generate([{"prompt_token_ids": prompt}], params, use_tqdm=False)
    return output


@pytest.mark.parametrize("prompt", [PROMPT, PROMPT * 7, [3]], ids=["one chunk", "several chunks", "one token"])
def test_prompt_logprobs_are_those_of_transformers(llm: LLM, checkpoint: Path, prompt: list[int]) -> None:
    generate(llm, prompt)  # now its blocks are in the prefix cache, and must not be taken from it
    output = generate(llm, prompt, prompt_logprobs=3, n=2, temperature=1, seed=1)
    with torch.no_grad():
        expected = load_oracle(checkpoint)(torch.tensor([prompt])).logits[0].log_softmax(dim=-1)
    found = output.prompt_logprobs
    assert found[0] is None
    assert len(found) == len(prompt)
    for position, entries in enumerate(found[1:], start=1):
        likely = expected[position - 1].topk(3).indices.tolist()
        own = prompt[position]
        assert list(entries) == [own, *(token for token in likely if token != own)]
        assert entries[own].logprob == pytest.approx(expected[position - 1, own].item(), abs=1e-3)
        assert entries[own].rank == 1 + int((expected[position - 1] > expected[position - 1, own]).sum())


def test_prompt_logprobs_survive_a_preemption(checkpoint: Path) -> None:
    settings: dict[str, Any] = {"cpu_threads": 1, "block_size": 4, "max_num_batched_tokens": 16}
    roomy = LLM(str(checkpoint), kv_cache_memory_bytes="8MiB", max_model_len=64, **settings)
    tight = LLM(str(checkpoint), kv_cache_memory_bytes=18 * 4 * 512, max_model_len=64, **settings)
    prompts: list[Any] = [{"prompt_token_ids": [seed, *PROMPT * 3]} for seed in range(3)]
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, prompt_logprobs=1)
    expected = roomy.generate(prompts, params, use_tqdm=False)
    found = tight.generate(prompts, params, use_tqdm=False)
    assert tight._core.stats().total_preemptions > 0
    for one, other in zip(expected, found, strict=True):
        assert len(other.prompt_logprobs or []) == 28
        assert [list(entries) for entries in (one.prompt_logprobs or [])[1:] if entries] == [
            list(entries) for entries in (other.prompt_logprobs or [])[1:] if entries
        ]


def test_only_allowed_tokens_are_sampled_and_the_most_likely_of_them_first(llm: LLM, checkpoint: Path) -> None:
    allowed = [4, 120, 250]
    first = generate(llm, PROMPT, allowed_token_ids=allowed).outputs[0].token_ids
    assert set(first) <= set(allowed)
    with torch.no_grad():
        logits = load_oracle(checkpoint)(torch.tensor([PROMPT])).logits[0, -1]
    assert first[0] == max(allowed, key=lambda token: logits[token])
    sampled = generate(llm, PROMPT, allowed_token_ids=allowed, temperature=50.0, max_tokens=100, seed=3)
    assert set(sampled.outputs[0].token_ids) == set(allowed)


def test_bad_words_are_those_of_transformers(llm: LLM, checkpoint: Path) -> None:
    free = generate(llm, PROMPT).outputs[0].token_ids
    bad_ids = [free[:1], free[3:5], free[5:8], [1, 2]]
    oracle = load_oracle(checkpoint)
    forbid = NoBadWordsLogitsProcessor(bad_ids, eos_token_id=-1)
    expected: list[int] = []
    with torch.no_grad():
        for _ in range(8):
            logits = oracle(torch.tensor([PROMPT + expected])).logits[:, -1]
            # Of the output alone, as in vLLM: what is in the prompt does not begin a bad word.
            output = torch.tensor([expected], dtype=torch.int64)
            expected.append(int(forbid(output, logits).argmax()))
    assert expected != free
    assert tokens_without(llm, bad_ids) == expected


def tokens_without(llm: LLM, bad_ids: list[list[int]]) -> list[int]:
    """Generate with bad words that are given by their ids, as the request builder gives them to the engine."""
    request = EngineRequest(
        request_id="bad",
        prompt_token_ids=PROMPT,
        sampling_params=SamplingParams(temperature=0),
        max_tokens=8,
        eos_token_ids=[],
        seed=0,
        bad_word_ids=bad_ids,
    )
    llm._core.add(request)
    found: list[int] = []
    while llm._core.has_work:
        found += [token for update in llm._core.step().updates for token in update.token_ids]
    return found


def test_a_bad_word_is_forbidden_at_the_beginning_and_behind_a_space(llm: LLM) -> None:
    free = generate(llm, PROMPT, max_tokens=30).outputs[0].text
    letter = next(character for character in free if character.isascii() and character.isalpha())
    text = generate(llm, PROMPT, max_tokens=30, bad_words=[letter]).outputs[0].text
    assert letter in free
    assert text != free


def test_a_prompt_is_truncated_from_its_beginning(llm: LLM) -> None:
    assert generate(llm, PROMPT, truncate_prompt_tokens=3).prompt_token_ids == PROMPT[-3:]
    assert generate(llm, PROMPT, truncate_prompt_tokens=100).prompt_token_ids == PROMPT
    long = PROMPT * 200
    assert generate(llm, long, truncate_prompt_tokens=-1).prompt_token_ids == long[-(llm.max_model_len - 1) :]
    with pytest.raises(RequestError, match="leaves no room"):
        generate(llm, PROMPT, truncate_prompt_tokens=llm.max_model_len)


def test_without_detokenization_there_are_tokens_and_no_text(llm: LLM) -> None:
    expected = generate(llm, PROMPT).outputs[0]
    found = generate(llm, PROMPT, detokenize=False).outputs[0]
    assert (found.text, found.token_ids) == ("", expected.token_ids)
    assert expected.text


def test_sequences_of_one_request_share_the_blocks_of_their_prompt(llm: LLM) -> None:
    llm.reset_prefix_cache()
    before = llm._core.stats().total_prefix_hits
    generate(llm, PROMPT, n=4, temperature=1, seed=0)
    assert llm._core.stats().total_prefix_hits - before == 3 * 8  # two full blocks of four tokens, three times


def test_token_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer) -> None:
    builder = RequestBuilder(tokenizer, vocab_size=320, max_model_len=64, seed=0)
    with pytest.raises(RequestError) as caught:
        builder.build("x", SamplingParams(allowed_token_ids=[3, 320]), "id")
    assert caught.value.param == "allowed_token_ids"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bad_words": [" "]}, "bad_words"),
        ({"bad_words": "no"}, "bad_words"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"allowed_token_ids": ["a"]}, "allowed_token_ids"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"detokenize": False, "stop": "x"}, "stop"),
        ({"detokenize": 1}, "detokenize"),
    ],
)
def test_wrong_values_are_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**fields)
    assert caught.value.param == param


def test_both_ways_to_write_a_bad_word_are_forbidden_where_they_are_different_tokens(tokenizer: Tokenizer) -> None:
    builder = RequestBuilder(tokenizer, vocab_size=320, max_model_len=64, seed=0)
    (request,) = builder.build("x", SamplingParams(bad_words=["the"]), "id").sequences
    # A space is a token of its own here, so what stands behind one ends with the same tokens.
    assert request.bad_word_ids == [tokenizer.encode("the", add_special_tokens=False)]
