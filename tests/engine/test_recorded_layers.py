"""Layers as recorded calls give the tokens that the model gives itself."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from octavo import LLM, SamplingParams
from octavo.kernels import cpu
from octavo.models.forward_context import ForwardContext
from octavo.models.layers.decoder import CausalLM
from tests.checkpoints import make_checkpoint

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="no native kernels")

PROMPTS = [{"prompt_token_ids": list(range(5, 5 + length))} for length in (3, 30, 17, 9, 50)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("recorded"), "qwen3", tokenizer=True)


def tokens(llm: LLM) -> list[list[int]]:
    # Sequences end one after the other, so that steps of each size come up.
    params = [SamplingParams(temperature=0, max_tokens=4 + 3 * i, ignore_eos=True) for i in range(len(PROMPTS))]
    return [list(output.outputs[0].token_ids) for output in llm.generate(PROMPTS, params)]


def engine(checkpoint: Path, **settings: object) -> LLM:
    return LLM(str(checkpoint), max_model_len=128, kv_cache_memory_bytes="4MiB", max_num_seqs=8, **settings)


@pytest.mark.parametrize("settings", [{}, {"quantization": "int8"}, {"quantization": "int4"}, {"dtype": "bfloat16"}])
def test_tokens_are_those_of_the_model_itself(
    checkpoint: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = engine(checkpoint, enable_prefix_caching=False, **settings)
    layers = llm._core.runner._recorded_layers
    first = tokens(llm)
    assert layers._recorded is not None
    assert tokens(llm) == first
    monkeypatch.setattr(layers, "_recorded", None)
    assert tokens(llm) == first


def test_a_model_that_computes_with_torch_runs_as_it_is(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = tokens(engine(checkpoint))
    compute_layers = CausalLM.compute_layers

    def with_torch(self: CausalLM, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        return compute_layers(self, hidden * 2 / 2, angles, context)

    monkeypatch.setattr(CausalLM, "compute_layers", with_torch)
    with caplog.at_level(logging.INFO):
        assert tokens(engine(checkpoint)) == expected
    assert [record.message for record in caplog.records if "not recorded" in record.message] == [
        "layers are not recorded: aten.mul.Tensor cannot be recorded"
    ]


def test_calls_that_bypass_the_record_are_noticed(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = tokens(engine(checkpoint))
    compute_layers = CausalLM.compute_layers

    def with_hidden_copy(self: CausalLM, hidden: Tensor, angles: tuple[Tensor, ...], context: ForwardContext) -> Tensor:
        copy = torch.empty(hidden.shape)
        ctypes.memmove(copy.data_ptr(), hidden.data_ptr(), hidden.nbytes)
        return compute_layers(self, copy, angles, context)

    monkeypatch.setattr(CausalLM, "compute_layers", with_hidden_copy)
    with caplog.at_level(logging.INFO):
        assert tokens(engine(checkpoint)) == expected
    assert "layers are not recorded: they gave other numbers" in caplog.messages
