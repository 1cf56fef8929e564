"""A text's vector or score is the same bits alone and in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import LLM, PoolingParams
from octavo.kernels import cpu
from tests.checkpoints import make_checkpoint
from tests.encoder_checkpoints import VOCAB_SIZE, make_encoder

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="torch's own products depend on the batch")

# Sizes that fill no vector of the processor to its end.
MODELS: dict[str, dict[str, Any]] = {
    "BertModel": {"intermediate_size": 71},
    "BertForMaskedLM": {"intermediate_size": 71, "hidden_act": "gelu_new", "hidden_size": 36},
    "BertForSequenceClassification": {"intermediate_size": 71, "hidden_size": 36},
    "XLMRobertaModel": {"intermediate_size": 71},
    "DistilBertModel": {"hidden_dim": 71},
    "qwen3": {"intermediate_size": 71, "vocab_size": VOCAB_SIZE + 20},
}
prompts = st.lists(st.integers(5, VOCAB_SIZE - 1), min_size=1, max_size=60)


@pytest.fixture(scope="module", params=MODELS)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[int, LLM]:
    """The same model in small and in large steps, by number of threads."""
    name, directory = request.param, tmp_path_factory.mktemp("model") / request.param
    if name == "qwen3":
        make_checkpoint(directory, name, tokenizer=True, **MODELS[name])
    else:
        make_encoder(directory, name, **MODELS[name])
    settings = {"runner": "pooling", "batch_invariant": True}
    return {
        1: LLM(str(directory), cpu_threads=1, max_num_batched_tokens=8, **settings),
        3: LLM(str(directory), cpu_threads=3, **settings),
    }


@settings(max_examples=8)
@given(prompt=prompts, others=st.lists(prompts, max_size=8), place=st.integers(0, 8))
def test_the_same_bits_in_any_batch(
    models: dict[int, LLM], prompt: list[int], others: list[list[int]], place: int
) -> None:
    params = PoolingParams(use_activation=False)
    (alone,) = models[1].encode([prompt], params, use_tqdm=False)
    place = min(place, len(others))
    together = models[3].encode([*others[:place], prompt, *others[place:]], params, use_tqdm=False)
    np.testing.assert_array_equal(together[place].outputs.data, alone.outputs.data, strict=True)
