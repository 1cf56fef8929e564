"""``--dtype bfloat16`` on a CPU rounds what is multiplied with a matrix; ``auto`` over bfloat16 weights does not."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from octavo import LLM, SamplingParams
from octavo.kernels import cpu
from octavo.models.layers.attention import SelfAttention
from octavo.models.quantization.native import NativeDenseWeight
from tests.checkpoints import load_oracle, make_checkpoint

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="torch computes everything in bfloat16")

PROMPT = [(7 * i + 3) % 300 + 5 for i in range(45)]
LOGPROBS = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rounded") / request.param
    make_checkpoint(directory, request.param, tokenizer=True, tie_word_embeddings=request.param == "qwen3")
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_bytes()) | {"dtype": "bfloat16"}))
    return directory


def engine(checkpoint: Path, dtype: str, **settings: object) -> LLM:
    return LLM(
        str(checkpoint),
        dtype=dtype,
        kv_cache_dtype="float32",
        kv_cache_memory_bytes=2**20,
        max_model_len=64,
        **settings,
    )


def logprobs(llm: LLM) -> Tensor:
    """Return the log-probabilities of the prompt's tokens but the first."""
    (output,) = llm.generate([{"prompt_token_ids": PROMPT}], LOGPROBS, use_tqdm=False)
    found = zip(PROMPT[1:], output.prompt_logprobs[1:], strict=True)
    return torch.tensor([entries[token_id].logprob for token_id, entries in found])


def logprobs_of_oracle(checkpoint: Path, *, rounds_activations: bool) -> Tensor:
    """Compute in float32 with transformers over matrices of bfloat16."""
    model = load_oracle(checkpoint)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data = module.weight.data.bfloat16().float()
        if isinstance(module, nn.Linear) and rounds_activations:
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16().float(), *inputs[1:]))
    with torch.no_grad():
        predicted = model(torch.tensor([PROMPT])).logits[0, :-1].log_softmax(-1)
    return predicted.gather(1, torch.tensor(PROMPT[1:]).unsqueeze(1))[:, 0]


def dense_weights(llm: LLM) -> list[NativeDenseWeight]:
    return [module for module in llm._core.runner.model.modules() if isinstance(module, NativeDenseWeight)]


@pytest.mark.parametrize(("dtype", "rounds"), [("bfloat16", True), ("auto", False)])
def test_each_setting_computes_what_it_says(checkpoint: Path, dtype: str, rounds: bool) -> None:
    ours = logprobs(engine(checkpoint, dtype))
    same = logprobs_of_oracle(checkpoint, rounds_activations=rounds)
    other = logprobs_of_oracle(checkpoint, rounds_activations=not rounds)
    # A number that sums of another order round to its other neighbour is all that may differ.
    assert (ours - same).abs().mean() < 0.15 * (ours - other).abs().mean()


@pytest.mark.parametrize(
    ("settings", "rounds"),
    [({"dtype": "auto"}, False), ({"dtype": "bfloat16"}, True), ({"dtype": "auto", "quantization": "int8"}, True)],
)
def test_attention_may_round_where_products_do(checkpoint: Path, settings: dict[str, str], rounds: bool) -> None:
    modules = engine(checkpoint, **settings)._core.runner.model.modules()
    found = [module.rounds_attention for module in modules if isinstance(module, SelfAttention)]
    assert found == [rounds] * 3


def test_all_matrices_round_embedding_and_head_included(checkpoint: Path) -> None:
    weights = dense_weights(engine(checkpoint, "bfloat16"))
    assert len(weights) == 3 * 4 + (1 if checkpoint.name == "qwen3" else 2)
    assert all(weight.packed.rounds_activations for weight in weights)


@pytest.mark.parametrize("dtype", ["auto", "float16", "float32"])
def test_other_settings_round_nothing(checkpoint: Path, dtype: str) -> None:
    assert not any(weight.packed.rounds_activations for weight in dense_weights(engine(checkpoint, dtype)))


def test_memory_is_that_of_the_exact_weights(checkpoint: Path) -> None:
    exact, rounded = (
        sum(weight.num_bytes for weight in dense_weights(engine(checkpoint, dtype))) for dtype in ("auto", "bfloat16")
    )
    assert rounded == exact


@pytest.mark.parametrize(("dtype", "says_so"), [("auto", False), ("bfloat16", True)])
def test_the_log_says_so(checkpoint: Path, dtype: str, says_so: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        engine(checkpoint, dtype)
    message = "activations: rounded to bfloat16 for products with bfloat16 matrices"
    assert (message in caplog.messages) is says_so
