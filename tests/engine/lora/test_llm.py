"""Adapters in the Python API, over each format of the base's weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, BeamSearchParams, LoRARequest, SamplingParams
from octavo.errors import ConfigError, ModelError, RequestError
from tests.lora_adapters import load_adapted_oracle

GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
PROMPT: Any = {"prompt_token_ids": list(range(40))}
SMALL: dict[str, Any] = {"cpu_threads": 1, "kv_cache_memory_bytes": 2**22, "max_model_len": 128}


def make_llm(checkpoint: Path, **settings: Any) -> LLM:
    return LLM(str(checkpoint), **(SMALL | {"enable_lora": True} | settings))


def tokens(llm: LLM, adapter: LoRARequest | None) -> list[int]:
    (output,) = llm.generate([PROMPT], GREEDY, lora_request=adapter, use_tqdm=False)
    return output.outputs[0].token_ids


def merged_checkpoint(checkpoint: Path, adapter: Path, directory: Path) -> Path:
    shutil.copytree(checkpoint, directory)
    load_adapted_oracle(checkpoint, adapter).save_pretrained(directory)
    return directory


def test_each_prompt_has_the_adapter_given_for_it(checkpoint: Path, adapter: Path, other_adapter: Path) -> None:
    llm = make_llm(checkpoint)
    first, other = LoRARequest("first", 1, str(adapter)), LoRARequest("other", 2, str(other_adapter))
    outputs = llm.generate([PROMPT] * 3, GREEDY, lora_request=[first, None, other], use_tqdm=False)
    alone = [tokens(make_llm(checkpoint), request) for request in (first, None, other)]
    assert [output.outputs[0].token_ids for output in outputs] == alone
    assert len({tuple(found) for found in alone}) == 3


def test_a_beam_search_has_the_adapter_given_for_its_prompt(
    checkpoint: Path, adapter: Path, other_adapter: Path
) -> None:
    llm = make_llm(checkpoint)
    first, other = LoRARequest("first", 1, str(adapter)), LoRARequest("other", 2, str(other_adapter))
    params = BeamSearchParams(beam_width=1, max_tokens=8, ignore_eos=True)
    outputs = llm.beam_search([PROMPT] * 3, params, lora_request=[first, None, other])
    found = [output.sequences[0].tokens[len(PROMPT["prompt_token_ids"]) :] for output in outputs]
    assert found == [tokens(llm, request) for request in (first, None, other)]


def test_the_result_is_that_of_the_merged_checkpoint(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    merged = LLM(str(merged_checkpoint(checkpoint, adapter, tmp_path / "merged")), **SMALL)
    assert tokens(make_llm(checkpoint), LoRARequest("first", 1, str(adapter))) == tokens(merged, None)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_the_base_may_be_quantized(checkpoint: Path, adapter: Path, quantization: str) -> None:
    llm = make_llm(checkpoint, quantization=quantization)
    plain = LLM(str(checkpoint), quantization=quantization, **SMALL)
    assert tokens(llm, None) == tokens(plain, None)
    request = LoRARequest("first", 1, str(adapter))
    adapted = tokens(llm, request)
    assert adapted != tokens(llm, None)
    mixed = llm.generate([PROMPT] * 3, GREEDY, lora_request=[None, request, None], use_tqdm=False)
    assert [output.outputs[0].token_ids for output in mixed] == [tokens(plain, None), adapted, tokens(plain, None)]


def test_an_engine_without_lora_refuses_adapters(checkpoint: Path, adapter: Path) -> None:
    with pytest.raises(ConfigError, match="--enable-lora"):
        tokens(make_llm(checkpoint, enable_lora=False), LoRARequest("first", 1, str(adapter)))


def test_a_wrong_adapter_is_refused_and_nothing_is_generated(checkpoint: Path, tmp_path: Path) -> None:
    llm = make_llm(checkpoint)
    with pytest.raises(ModelError, match=r"LoRA adapter 'lost': .*adapter_config.json cannot be read"):
        tokens(llm, LoRARequest("lost", 1, str(tmp_path / "nowhere")))
    assert len(tokens(llm, None)) == 8


def test_a_number_belongs_to_one_adapter(checkpoint: Path, adapter: Path, other_adapter: Path) -> None:
    llm = make_llm(checkpoint)
    tokens(llm, LoRARequest("first", 1, str(adapter)))
    with pytest.raises(ConfigError, match="lora_int_id 1 belongs to the adapter 'first'"):
        tokens(llm, LoRARequest("other", 1, str(other_adapter)))


def test_more_adapters_than_max_cpu_loras_are_refused(checkpoint: Path, adapter: Path, other_adapter: Path) -> None:
    llm = make_llm(checkpoint, max_cpu_loras=1)
    tokens(llm, LoRARequest("first", 1, str(adapter)))
    with pytest.raises(ConfigError, match="--max-cpu-loras"):
        tokens(llm, LoRARequest("other", 2, str(other_adapter)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "1 prompts but 0 LoRA requests"),
        ("first", "must be a LoRARequest"),
        ([{"lora_name": "first"}], "must be a LoRARequest"),
    ],
)
def test_wrong_lora_requests_are_refused(checkpoint: Path, wrong: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tokens(make_llm(checkpoint), wrong)


@pytest.mark.parametrize(("name", "number"), [("", 1), ("first", 0), ("first", True)])
def test_names_and_numbers_are_checked(name: str, number: int) -> None:
    with pytest.raises(RequestError):
        LoRARequest(name, number, "somewhere")
