"""Generation under grammars, with random weights: nothing but the grammar keeps the output in form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from octavo import LLM, RequestOutput, SamplingParams, StructuredOutputsParams
from octavo.errors import RequestError
from tests.engine.structured.made_schemas import make_schema

VALIDATOR = jsonschema.Draft202012Validator
RECORD = {
    "type": "object",
    "properties": {"identifier": {"type": "integer"}, "description": {"type": "string", "maxLength": 12}},
    "required": ["identifier", "description"],
    "additionalProperties": False,
}


def sampled(structure: StructuredOutputsParams, **fields: Any) -> SamplingParams:
    return SamplingParams(**({"temperature": 1.0, "max_tokens": 700, "structured_outputs": structure} | fields))


def run(llm: LLM, params: SamplingParams | list[SamplingParams]) -> list[RequestOutput]:
    return llm.generate(["say it"] * (len(params) if isinstance(params, list) else 1), params, use_tqdm=False)


def test_outputs_of_240_schemas_parse_and_validate(llm: LLM) -> None:
    schemas = [make_schema(seed) for seed in range(240)]
    quote = llm.get_tokenizer().encode('"')[0]  # made likelier, so that names of open objects end
    params = [
        sampled(StructuredOutputsParams(json=schema), seed=seed, logit_bias={quote: 5.0})
        for seed, schema in enumerate(schemas)
    ]
    for schema, output in zip(schemas, run(llm, params), strict=True):
        sequence = output.outputs[0]
        assert sequence.finish_reason == "stop", (schema, sequence.text)
        VALIDATOR(schema, format_checker=VALIDATOR.FORMAT_CHECKER).validate(json.loads(sequence.text))


@pytest.mark.parametrize(
    ("structure", "is_right"),
    [
        (StructuredOutputsParams(regex=r"[0-9]{2,4}:[a-fé]{3}"), re.compile(r"[0-9]{2,4}:[a-fé]{3}").fullmatch),
        (StructuredOutputsParams(choice=["yes", "no\n", 'é"\\🙂']), {"yes", "no\n", 'é"\\🙂'}.__contains__),
        (StructuredOutputsParams(grammar='start: "<" x ">"\nx: "a" | x "b" | x "c"'), re.compile("<a[bc]*>").fullmatch),
        (StructuredOutputsParams(grammar='root ::= ("x" | "y"){1,5} "."'), re.compile(r"[xy]{1,5}\.").fullmatch),
        (StructuredOutputsParams(json={"type": "integer", "minimum": 5, "maximum": 7}), {"5", "6", "7"}.__contains__),
    ],
)
def test_every_constraint_holds(
    llm: LLM, structure: StructuredOutputsParams, is_right: Callable[[str], object]
) -> None:
    for sequence in run(llm, sampled(structure, n=8, seed=1))[0].outputs:
        assert sequence.finish_reason == "stop"
        assert is_right(sequence.text), sequence.text


def test_json_without_whitespace_has_none(llm: LLM) -> None:
    structure = StructuredOutputsParams(json=RECORD, disable_any_whitespace=True)
    for sequence in run(llm, sampled(structure, n=4, seed=2))[0].outputs:
        assert sequence.text == json.dumps(json.loads(sequence.text), separators=(",", ":"), ensure_ascii=False) or (
            "\\" in sequence.text
        )


def test_a_tagged_part_has_its_form_and_text_around_it_is_free(llm: LLM) -> None:
    tag = {"begin": "e", "schema": {"type": "integer", "minimum": 10, "maximum": 99}, "end": ";"}
    structure = StructuredOutputsParams(structural_tag={"structures": [tag], "triggers": ["e"]})
    texts = [s.text for s in run(llm, sampled(structure, n=16, seed=3, max_tokens=60, stop=[";"]))[0].outputs]
    tagged = [text for text in texts if "e" in text]
    assert tagged
    assert all(re.search(r"e[1-9]?[0-9]?$", text) for text in tagged)


def test_tokens_are_the_same_whether_forced_ones_are_taken_at_once_or_sampled(llm: LLM) -> None:
    schemas = [RECORD, *(make_schema(seed) for seed in range(40))]
    params = [
        sampled(StructuredOutputsParams(json=schema), seed=seed, max_tokens=80) for seed, schema in enumerate(schemas)
    ]
    one_by_one = [
        sampled(StructuredOutputsParams(json=s), seed=i, max_tokens=80, logprobs=0) for i, s in enumerate(schemas)
    ]
    for fast, slow in zip(run(llm, params), run(llm, one_by_one), strict=True):
        assert fast.outputs[0].token_ids == slow.outputs[0].token_ids
        assert fast.outputs[0].finish_reason == slow.outputs[0].finish_reason


def test_forced_tokens_take_no_steps_of_their_own(llm: LLM) -> None:
    def num_steps(**fields: Any) -> int:
        before = llm._core.stats().total_steps
        run(llm, sampled(StructuredOutputsParams(json=RECORD, disable_any_whitespace=True), seed=4, **fields))
        return llm._core.stats().total_steps - before

    assert num_steps() <= num_steps(logprobs=0) - 20


def test_a_seed_gives_the_same_tokens_in_any_company(llm: LLM) -> None:
    params = sampled(StructuredOutputsParams(json=RECORD), seed=5)
    alone = run(llm, params)[0].outputs[0]
    company = [
        SamplingParams(temperature=1.0, max_tokens=30, seed=6),
        params,
        sampled(StructuredOutputsParams(regex="a+")),
    ]
    assert run(llm, company)[1].outputs[0].token_ids == alone.token_ids


def test_preemption_changes_nothing(checkpoint: Path, llm: LLM) -> None:
    schemas = [make_schema(seed) for seed in range(60, 76)]
    params = [sampled(StructuredOutputsParams(json=s), seed=i, max_tokens=150) for i, s in enumerate(schemas)]
    tight = LLM(
        model=str(checkpoint), max_num_seqs=16, kv_cache_memory_bytes=42 * 1024, block_size=4, max_model_len=160
    )
    small = run(tight, params)
    assert tight._core.stats().total_preemptions > 0
    for preempted, whole in zip(small, run(llm, params), strict=True):
        assert preempted.outputs[0].token_ids == whole.outputs[0].token_ids


def test_max_tokens_may_cut_the_output(llm: LLM) -> None:
    output = run(llm, sampled(StructuredOutputsParams(json=RECORD), seed=7, max_tokens=6))[0].outputs[0]
    assert output.finish_reason == "length"
    assert len(output.token_ids) == 6


def test_a_stop_string_ends_the_output_and_so_does_a_stop_token_among_forced_ones(llm: LLM) -> None:
    structure = StructuredOutputsParams(regex="[ab] and the rest; end")
    by_text = run(llm, sampled(structure, stop=["rest"]))[0].outputs[0]
    assert by_text.text[1:] == " and the "
    assert by_text.stop_reason == "rest"
    semicolon = llm.get_tokenizer().encode(";")[0]
    by_token = run(llm, sampled(structure, stop_token_ids=[semicolon]))[0].outputs[0]
    assert by_token.text[1:] == " and the rest"
    assert by_token.stop_reason == semicolon


def test_min_tokens_lengthens_what_may_be_longer_and_yields_where_nothing_else_is_left(llm: LLM) -> None:
    longer = run(llm, sampled(StructuredOutputsParams(regex="a+"), min_tokens=20))[0].outputs[0]
    assert longer.finish_reason == "stop"
    assert len(longer.text) >= 20
    complete = run(llm, sampled(StructuredOutputsParams(regex="abc"), min_tokens=20, logprobs=0))[0].outputs[0]
    assert (complete.text, complete.finish_reason) == ("abc", "stop")


def test_a_stop_token_that_completes_the_form_ends_it_whether_forced_or_sampled(llm: LLM) -> None:
    c = llm.get_tokenizer().encode("c")[0]
    for logprobs in (None, 0):
        params = sampled(StructuredOutputsParams(regex="[ab]bc"), min_tokens=20, stop_token_ids=[c], logprobs=logprobs)
        output = run(llm, params)[0].outputs[0]
        assert (output.finish_reason, output.stop_reason, len(output.token_ids)) == ("stop", c, 3)


def test_logprobs_are_those_of_the_model_without_the_grammar(llm: LLM) -> None:
    output = run(llm, sampled(StructuredOutputsParams(regex="[ab]{3}"), logprobs=1))[0].outputs[0]
    assert output.logprobs is not None
    assert len(output.logprobs) == len(output.token_ids)
    ranks = [position[token].rank for position, token in zip(output.logprobs, output.token_ids, strict=True)]
    assert max(ranks) > 2  # the model would rather have said something else


def test_penalties_bias_and_filters_choose_among_what_is_allowed(llm: LLM) -> None:
    b = llm.get_tokenizer().encode("b")[0]
    params = sampled(
        StructuredOutputsParams(regex="[abc]{4}"), logit_bias={b: 100.0}, top_k=1, top_p=0.5, repetition_penalty=1.01
    )
    assert run(llm, params)[0].outputs[0].text == "bbbb"


def test_a_wrong_schema_is_an_error_and_the_engine_goes_on(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="Invalid type: strng"):
        run(llm, sampled(StructuredOutputsParams(json={"type": "strng"})))
    monkeypatch.setattr("octavo.engine.structured.limits._MAX_LEXER_STATES", 300)
    with pytest.raises(RequestError, match="too many states"):
        run(llm, sampled(StructuredOutputsParams(regex="(.*[ab].{100}){50}"), max_tokens=900, seed=1))
    assert run(llm, sampled(StructuredOutputsParams(regex="fine")))[0].outputs[0].text == "fine"
