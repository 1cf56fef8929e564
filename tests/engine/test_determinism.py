"""What a request gets depends on the request alone: the same bits in any company, however its tokens are scheduled."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import LLM, SamplingParams
from octavo.kernels import cpu
from tests.checkpoints import make_checkpoint
from tests.gguf_files import make_gguf
from tests.models.quantization.packed_checkpoints import make_packed_checkpoint

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="torch's own products depend on the batch")

PROMPT = [(7 * i + 3) % 300 + 5 for i in range(45)]
FORMATS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {},
    "bfloat16, rounded activations": {"dtype": "bfloat16"},
    "int8": {"quantization": "int8", "kv_cache_dtype": "int8"},
    "int4": {"quantization": "int4"},
}
GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, logprobs=3)
RANDOM = SamplingParams(temperature=0.9, top_p=0.95, top_k=40, seed=11, max_tokens=16, ignore_eos=True, logprobs=3)

Answer = list[tuple[int, list[tuple[int, float]]]]


# Sizes that fill no vector of the processor to its end: what is left over is easily computed in another way.
_ODD = {"intermediate_size": 71, "moe_intermediate_size": 37}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "soft caps, windows": ("gemma2", {"intermediate_size": 71, "sliding_window": 20}),
    "two rotations": ("gemma3", {"intermediate_size": 71, "sliding_window": 20}),
    "sinks, clamped experts": ("gpt_oss", {"intermediate_size": 71, "num_local_experts": 7, "sliding_window": 20}),
    "experts": ("mixtral", {"intermediate_size": 71, "num_local_experts": 7}),
    "normalised experts": ("qwen3_moe", {**_ODD, "num_experts": 7}),
    "latent attention": ("deepseek_v2", {**_ODD, "n_routed_experts": 12}),
    "biased sigmoid router": ("deepseek_v3", {**_ODD, "n_routed_experts": 12}),
    "dynamic rotation": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, "max_position_embeddings": 32},
    ),
}


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that says that its weights are bfloat16."""
    directory = tmp_path_factory.mktemp("determinism") / request.param
    make_checkpoint(directory, request.param, tokenizer=True)
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_bytes()) | {"dtype": "bfloat16"}))
    return directory


@pytest.fixture(scope="module", params=FAMILIES)
def unusual_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, fields = FAMILIES[request.param]
    return make_checkpoint(tmp_path_factory.mktemp("determinism") / family, family, tokenizer=True, **fields)


@pytest.fixture(scope="module", params=["gptq", "awq", "gguf"])
def stored_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose matrices are quantised already: with an order of inputs, with zero points, with offsets."""
    directory = tmp_path_factory.mktemp("determinism")
    if request.param == "gguf":
        dense = make_checkpoint(directory / "dense", "llama", tokenizer=True)
        return make_gguf(directory / "model.gguf", dense, kind=GGMLQuantizationType.Q5_1)
    quantization = {"quant_method": request.param, "bits": 4, "group_size": 32}
    quantization |= {"desc_act": True} if request.param == "gptq" else {"zero_point": True, "version": "gemm"}
    make_packed_checkpoint(directory / "packed", directory / "dense", "llama", quantization)
    return directory / "packed"


def engine(checkpoint: Path, name: str, **settings: Any) -> LLM:
    defaults = {"max_model_len": 128, "kv_cache_memory_bytes": "2MiB", "block_size": 8, "max_num_seqs": 8}
    return LLM(str(checkpoint), **{**defaults, **FORMATS[name], **settings})


def answers(llm: LLM, prompts: list[list[int]], params: list[SamplingParams]) -> list[Answer]:
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
    return [
        [
            (token, sorted((key, entry.logprob) for key, entry in logprobs.items()))
            for token, logprobs in zip(output.outputs[0].token_ids, output.outputs[0].logprobs, strict=True)
        ]
        for output in outputs
    ]


@functools.cache
def answer_alone(checkpoint: Path, name: str, is_greedy: bool) -> Answer:
    llm = engine(checkpoint, name, cpu_threads=1, enable_prefix_caching=False)
    (answer,) = answers(llm, [PROMPT], [GREEDY if is_greedy else RANDOM])
    return answer


@functools.cache
def block_bytes(checkpoint: Path, name: str) -> int:
    """Return the bytes of a block; sixteen hold a sequence of the greatest length, one is padding."""
    caches = engine(checkpoint, name)._core.runner.kv_caches
    return sum(cache.num_bytes for cache in caches) // len(caches[0].key)


COMPANY = {
    "others": st.lists(st.lists(st.integers(5, 300), min_size=1, max_size=60), max_size=6),
    "place": st.integers(0, 6),
    "max_num_batched_tokens": st.sampled_from([8, 13, 64, 2048]),
    "has_little_memory": st.booleans(),
    "shared_prefix": st.integers(0, len(PROMPT)),
    "threads": st.integers(1, 3),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("params", [GREEDY, RANDOM], ids=["greedy", "random"])
@settings(max_examples=4)
@given(**COMPANY)
def test_the_same_bits_in_any_company(checkpoint: Path, name: str, params: SamplingParams, **company: Any) -> None:
    assert answer_in_company(checkpoint, name, params, **company) == answer_alone(checkpoint, name, params is GREEDY)


@settings(max_examples=3)
@given(**COMPANY)
def test_the_same_bits_in_any_company_with_layers_of_every_family(unusual_checkpoint: Path, **company: Any) -> None:
    assert answer_in_company(unusual_checkpoint, "float32", RANDOM, **company) == answer_alone(
        unusual_checkpoint, "float32", False
    )


@settings(max_examples=3)
@given(**COMPANY)
def test_the_same_bits_in_any_company_with_weights_as_stored(stored_checkpoint: Path, **company: Any) -> None:
    assert answer_in_company(stored_checkpoint, "float32", RANDOM, **company) == answer_alone(
        stored_checkpoint, "float32", False
    )


def answer_in_company(
    checkpoint: Path,
    name: str,
    params: SamplingParams,
    others: list[list[int]],
    place: int,
    max_num_batched_tokens: int,
    has_little_memory: bool,
    shared_prefix: int,
    threads: int,
) -> Answer:
    """Return the answer to ``PROMPT`` among others, with a cached prefix, in chunks, and perhaps preempted."""
    tight = {"kv_cache_memory_bytes": 20 * block_bytes(checkpoint, name)} if has_little_memory else {}
    llm = engine(checkpoint, name, cpu_threads=threads, max_num_batched_tokens=max_num_batched_tokens, **tight)
    answers(llm, [[*PROMPT[:shared_prefix], 4]], [SamplingParams(max_tokens=2, logprobs=0)])  # fills the prefix cache
    others_params = SamplingParams(temperature=1, seed=3, max_tokens=40, ignore_eos=True, logprobs=0)
    place = min(place, len(others))
    prompts = [*others[:place], PROMPT, *others[place:]]
    found = answers(llm, prompts, [params if index == place else others_params for index in range(len(prompts))])
    return found[place]
