"""The metadata of a GGUF file gives the configuration that the checkpoint's config.json gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.quantization.checkpoint_config import GgufQuantization
from tests.checkpoints import make_checkpoint
from tests.gguf_files import make_gguf

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-tied-wide-heads": ("llama", {"tie_word_embeddings": True, "head_dim": 32}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {"rms_norm_eps": 1e-3}),
    "qwen2-yarn": (
        "qwen2",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}, "max_position_embeddings": 64},
    ),
    "qwen3": ("qwen3", {"head_dim": 32}),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("qwen2"), "qwen2")


def read(path: Path, checkpoint: Path, **options: Any) -> ModelConfig:
    return ModelConfig.from_directory(make_gguf(path / "model.gguf", checkpoint, tokenizer=False, **options))


@pytest.mark.parametrize("variant", VARIANTS)
def test_configuration_is_that_of_the_checkpoint(variant: str, tmp_path: Path) -> None:
    family, overrides = VARIANTS[variant]
    checkpoint = make_checkpoint(tmp_path / "checkpoint", family, **overrides)
    ours, original = read(tmp_path, checkpoint), ModelConfig.from_directory(checkpoint)
    assert ours.rms_norm_eps == pytest.approx(original.rms_norm_eps, rel=1e-6)
    assert ours == replace(
        original,
        # GGUF calls Mistral's models llama, and leaves the ends of texts to the tokenizer.
        architecture=original.architecture.replace("Mistral", "Llama"),
        model_type=original.model_type.replace("mistral", "llama"),
        bos_token_id=None,
        eos_token_ids=(),
        rms_norm_eps=ours.rms_norm_eps,
        quantization=GgufQuantization({}),
    )
    assert ours.default_max_model_len == original.default_max_model_len


def test_sliding_window_makes_a_mistral(tmp_path: Path, llama: Path) -> None:
    config = read(tmp_path, llama, settings={"llama.attention.sliding_window": 7})
    assert config.architecture == "MistralForCausalLM"
    assert config.layer_windows == (7, 7, 7)


def test_sliding_window_that_no_sequence_fills_is_none(tmp_path: Path, qwen2: Path) -> None:
    config = read(tmp_path, qwen2, settings={"qwen2.attention.sliding_window": 1024})
    assert config.layer_windows == (None, None, None)


def test_tensor_of_divisors_scales_the_rotary_frequencies(tmp_path: Path, llama: Path) -> None:
    divisors = np.array([1, 1, 1, 1, 2, 4, 8, 8], dtype=np.float32)
    config = read(tmp_path, llama, extra_tensors={"rope_freqs.weight": divisors})
    assert config.rope.rope_type == "divided"
    assert config.rope.frequency_divisors == (1, 1, 1, 1, 2, 4, 8, 8)


def test_divisors_that_are_all_1_change_nothing(tmp_path: Path, llama: Path) -> None:
    config = read(tmp_path, llama, extra_tensors={"rope_freqs.weight": np.ones(8, dtype=np.float32)})
    assert config.rope.rope_type == "default"


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16"), ("Q8_0", "bfloat16")],
)
def test_type_of_most_weights_is_the_type_of_the_checkpoint(kind: str, dtype: str, tmp_path: Path, llama: Path) -> None:
    assert read(tmp_path, llama, kind=GGMLQuantizationType[kind]).dtype == dtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"general.architecture": "bert"}, r"architecture 'bert' is not supported.* llama, qwen2, qwen3"),
        ({"llama.block_count": None}, "'block_count' is missing"),
        ({"llama.block_count": 40}, r"'block_count' is 40; it must be at most the number of tensors \(30\)"),
        ({"llama.attention.head_count": 0}, "'attention.head_count' is 0; it must be an integer of at least 1"),
        ({"llama.attention.head_count_kv": 3}, r"a divisor of attention.head_count \(4\)"),
        ({"llama.embedding_length": 65}, r"'embedding_length' is 65; .*width of token_embd.weight \(64\)"),
        ({"llama.attention.key_length": 15}, "even number"),
        ({"llama.rope.dimension_count": 8}, r"'rope.dimension_count' is 8; it must be the size of a head \(16\)"),
        ({"llama.feed_forward_length": 2**31}, "at most 2147483647"),
        ({"llama.attention.layer_norm_rms_epsilon": "x"}, "a number of at least 0"),
        ({"llama.rope.freq_base": 0.5}, "a number above 1"),
        ({"llama.rope.scaling.type": "longrope"}, "'longrope'; it must be one of none, linear, yarn"),
        ({"llama.rope.scaling.type": "linear"}, "'rope.scaling.factor' is missing"),
        ({"llama.expert_count": 8}, "mixtures of experts are not supported"),
    ],
)
def test_what_is_wrong_or_not_supported_is_named(
    settings: dict[str, Any], message: str, tmp_path: Path, llama: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, llama, settings=settings)


def test_window_of_some_layers_is_refused(tmp_path: Path, qwen2: Path) -> None:
    with pytest.raises(ModelError, match=r"'attention\.sliding_window' is 7"):
        read(tmp_path, qwen2, settings={"qwen2.attention.sliding_window": 7})


@pytest.mark.parametrize("divisors", [[1.0] * 4, [0.0] + [1.0] * 7, [float("nan")] + [1.0] * 7])
def test_divisors_must_fit_the_heads(divisors: list[float], tmp_path: Path, llama: Path) -> None:
    with pytest.raises(ModelError, match=r"rope_freqs\.weight must"):
        read(tmp_path, llama, extra_tensors={"rope_freqs.weight": np.array(divisors, dtype=np.float32)})


def test_divisors_beside_another_scaling_are_refused(tmp_path: Path, llama: Path) -> None:
    settings = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    with pytest.raises(ModelError, match=r"none beside a tensor rope_freqs\.weight"):
        read(tmp_path, llama, settings=settings, extra_tensors={"rope_freqs.weight": np.full(8, 2, dtype=np.float32)})
