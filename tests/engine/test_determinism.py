"""What a request gets depends on the request alone: the same bits in any company, however its tokens are scheduled."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import LLM, SamplingParams
from octavo.kernels import cpu
from tests.checkpoints import make_checkpoint

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


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that says that its weights are bfloat16."""
    directory = tmp_path_factory.mktemp("determinism") / request.param
    make_checkpoint(directory, request.param, tokenizer=True)
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_bytes()) | {"dtype": "bfloat16"}))
    return directory


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


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("params", [GREEDY, RANDOM], ids=["greedy", "random"])
@settings(max_examples=4)
@given(
    others=st.lists(st.lists(st.integers(5, 300), min_size=1, max_size=60), max_size=6),
    place=st.integers(0, 6),
    max_num_batched_tokens=st.sampled_from([8, 13, 64, 2048]),
    has_little_memory=st.booleans(),
    shared_prefix=st.integers(0, len(PROMPT)),
    threads=st.integers(1, 3),
)
def test_the_same_bits_in_any_company(
    checkpoint: Path,
    name: str,
    params: SamplingParams,
    others: list[list[int]],
    place: int,
    max_num_batched_tokens: int,
    has_little_memory: bool,
    shared_prefix: int,
    threads: int,
) -> None:
    expected = answer_alone(checkpoint, name, params is GREEDY)
    tight = {"kv_cache_memory_bytes": 20 * block_bytes(checkpoint, name)} if has_little_memory else {}
    llm = engine(checkpoint, name, cpu_threads=threads, max_num_batched_tokens=max_num_batched_tokens, **tight)
    answers(llm, [[*PROMPT[:shared_prefix], 4]], [SamplingParams(max_tokens=2, logprobs=0)])  # fills the prefix cache
    others_params = SamplingParams(temperature=1, seed=3, max_tokens=40, ignore_eos=True, logprobs=0)
    place = min(place, len(others))
    prompts = [*others[:place], PROMPT, *others[place:]]
    found = answers(llm, prompts, [params if index == place else others_params for index in range(len(prompts))])
    assert found[place] == expected
