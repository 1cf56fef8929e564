"""Vectors and scores equal those of transformers and sentence-transformers, whatever shares a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import Tensor

from octavo import LLM, PoolingParams
from tests.checkpoints import load_oracle, make_checkpoint
from tests.encoder_checkpoints import VOCAB_SIZE, load_encoder, make_encoder, save_pooling_files

LENGTHS = (1, 2, 3, 5, 5, 8, 17, 17, 33, 64, 128)
ENCODERS: dict[str, dict[str, Any]] = {
    "BertModel": {},
    "BertForMaskedLM": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "RobertaModel": {"hidden_act": "relu"},
    "XLMRobertaModel": {},
    "XLMRobertaForMaskedLM": {},
    "DistilBertModel": {},
    "DistilBertForMaskedLM": {"activation": "relu"},
}
TEXTS = ["the sea", "the red ship and the red planet", "", "a", "planet", "abc def ghi jkl", "the ship " * 12]
PAIRS = [("the sea", "a ship"), ("red", "the red planet is red"), ("", "x"), ("the ship " * 9, "abc " * 10)]


def random_prompts(lengths: tuple[int, ...] = LENGTHS, first: int = 5) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(first, VOCAB_SIZE, (length,), generator=generator).tolist() for length in lengths]


@torch.no_grad()
def hidden_states(oracle: Any, prompt: list[int]) -> Tensor:
    """Return the last hidden state ``[num_tokens, hidden_size]`` of one sequence."""
    ids = torch.tensor([prompt])
    base = getattr(oracle, oracle.base_model_prefix, oracle)
    output: Tensor = base(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    return output


def vectors(llm: LLM, prompts: list[Any], **params: Any) -> list[np.ndarray[Any, Any]]:
    return [item.outputs.data for item in llm.encode(prompts, PoolingParams(**params), use_tqdm=False)]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_an_encoder_equals_transformers(architecture: str, tmp_path: Path) -> None:
    make_encoder(tmp_path, architecture, **ENCODERS[architecture])
    prompts = random_prompts()
    expected = [hidden_states(load_encoder(tmp_path), prompt).mean(0) for prompt in prompts]
    in_one_step = vectors(LLM(str(tmp_path), cpu_threads=1), prompts)
    in_many_steps = vectors(LLM(str(tmp_path), cpu_threads=1, max_num_batched_tokens=8), prompts)
    for ours, also_ours, oracle in zip(in_one_step, in_many_steps, expected, strict=True):
        np.testing.assert_allclose(ours, oracle.numpy(), atol=1e-5)
        np.testing.assert_allclose(also_ours, oracle.numpy(), atol=1e-5)


def test_padding_tokens_in_a_roberta_prompt_take_no_position(tmp_path: Path) -> None:
    make_encoder(tmp_path, "RobertaModel")
    prompt = [0, 20, 1, 1, 30, 2]
    expected = hidden_states(load_encoder(tmp_path), prompt).mean(0)
    (ours,) = vectors(LLM(str(tmp_path), cpu_threads=1), [prompt])
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken"])
def test_the_files_of_sentence_transformers_are_obeyed(pooling: str, normalize: bool, tmp_path: Path) -> None:
    make_encoder(tmp_path, "BertModel")
    modes = {"pooling_mode_mean_tokens": False, pooling: True}
    transformer = {"max_seq_length": 12, "do_lower_case": False}
    save_pooling_files(tmp_path, pooling=modes, normalize=normalize, transformer=transformer)
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    ours = vectors(LLM(str(tmp_path), cpu_threads=1), TEXTS, truncate_prompt_tokens=-1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_what_sentence_transformers_saves_is_read(tmp_path: Path) -> None:
    make_encoder(tmp_path / "bare", "XLMRobertaModel")
    oracle = SentenceTransformer(str(tmp_path / "bare"), device="cpu")
    oracle.save(str(tmp_path / "saved"))
    llm = LLM(str(tmp_path / "saved"), cpu_threads=1)
    np.testing.assert_allclose(vectors(llm, TEXTS), oracle.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "function"),
    [
        ("BertForSequenceClassification", None),
        ("BertForSequenceClassification", "torch.nn.modules.linear.Identity"),
        ("RobertaForSequenceClassification", None),
        ("XLMRobertaForSequenceClassification", "torch.nn.modules.activation.Sigmoid"),
    ],
)
def test_a_cross_encoder_equals_sentence_transformers(architecture: str, function: str | None, tmp_path: Path) -> None:
    extra = {} if function is None else {"sentence_transformers": {"activation_fn": function}}
    make_encoder(tmp_path, architecture, **extra)
    expected = CrossEncoder(str(tmp_path), device="cpu").predict(PAIRS)
    llm = LLM(str(tmp_path), cpu_threads=1)
    scores = [item.outputs.score for item in llm.score(*zip(*PAIRS, strict=True), use_tqdm=False)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    raw = vectors(llm, PAIRS, use_activation=False)
    if function is None:
        np.testing.assert_allclose(1 / (1 + np.exp(-np.concatenate(raw))), expected, atol=1e-5)


@pytest.mark.parametrize("is_bare", [True, False])
@pytest.mark.parametrize("family", ["qwen3", "llama", "deepseek_v3"])
def test_a_decoder_gives_its_last_token(family: str, is_bare: bool, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "whole", family, tokenizer=True)
    oracle = load_oracle(tmp_path / "whole")
    directory = tmp_path / "whole"
    if is_bare:
        directory = tmp_path / "bare"
        oracle.base_model.save_pretrained(directory)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (directory / name).write_text((tmp_path / "whole" / name).read_text())
    prompts = random_prompts((1, 7, 16, 16, 40, 200), first=0)
    settings: dict[str, Any] = {} if is_bare else {"runner": "pooling"}
    for budget in (2048, 32):
        llm = LLM(str(directory), cpu_threads=1, max_num_batched_tokens=budget, **settings)
        for ours, prompt in zip(vectors(llm, prompts), prompts, strict=True):
            with torch.no_grad():
                last = oracle.base_model(torch.tensor([prompt])).last_hidden_state[0, -1]
            np.testing.assert_allclose(ours, torch.nn.functional.normalize(last, dim=0).numpy(), atol=1e-5)


def test_a_cut_vector_is_the_beginning_of_the_whole_one_scaled_again(tmp_path: Path) -> None:
    save_pooling_files(make_encoder(tmp_path, "BertModel"))
    expected = SentenceTransformer(str(tmp_path), device="cpu", truncate_dim=8).encode(TEXTS, normalize_embeddings=True)
    ours = vectors(LLM(str(tmp_path), cpu_threads=1), TEXTS, dimensions=8)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
