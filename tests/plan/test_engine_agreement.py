"""The plan's memory against what the real engine allocates."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.engine.memory import cpu_kv_cache_budget
from octavo.engine.profiling import run_largest_steps
from octavo.errors import ConfigError
from octavo.kernels.cpu import has_native
from octavo.models.config import ModelConfig
from octavo.models.layers.decoder import CausalLM
from octavo.models.loading import LoadOptions, load_model
from octavo.models.quantization.base import LinearWeight
from octavo.models.quantization.choice import choose_formats
from octavo.models.registry import ARCHITECTURES
from octavo.plan.activations import activation_bytes, state_bytes
from octavo.plan.families import read_model_shape
from octavo.plan.fit import fit
from octavo.plan.hardware import cpu_hardware
from octavo.plan.memory import default_cpu_kv_cache_bytes
from octavo.plan.model_shape import ModelShape
from octavo.plan.request import PlanRequest, deployment_of
from octavo.plan.weights import QUANTIZATIONS, weight_bytes
from tests.checkpoints import CONFIGS, make_checkpoint
from tests.plan.live_memory import LiveMemory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KV_CACHE_BYTES = 3 * 2**20
# Latent attention has a small matrix for each head; of these sizes none has rows of padding.
_LATENT = {"kv_lora_rank": 64, "v_head_dim": 32}
FIELDS = {"deepseek_v2": _LATENT, "deepseek_v3": _LATENT}


def shape_of(directory: Path) -> ModelShape:
    return read_model_shape(json.loads((directory / "config.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(
        tmp_path_factory.mktemp("plan") / request.param, request.param, **FIELDS.get(request.param, {})
    )


def test_every_family_that_the_engine_runs_can_be_planned(directory: Path) -> None:
    shape = shape_of(directory)
    config = ModelConfig.from_directory(directory)
    assert shape.architecture in ARCHITECTURES
    assert (shape.num_layers, shape.max_model_len) == (config.num_hidden_layers, config.default_max_model_len)
    assert tuple(layer.window for layer in shape.layers) == config.layer_windows


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_and_kv_cache_are_what_the_engine_allocates(directory: Path, dtype: str) -> None:
    max_model_len = 256
    settings = {"model": str(directory), "device": "cpu", "dtype": dtype, "kv_cache_memory_bytes": KV_CACHE_BYTES}
    config = EngineConfig.model_validate(settings)
    built = build_engine(config, directory, ModelConfig.from_directory(directory), max_model_len)
    runner = built.core.runner
    weights = held_bytes(runner.model)
    # Under latent attention keys and values are the same tensor.
    caches = sum(part.nbytes for cache in runner.kv_caches for part in {cache.key, cache.value})

    shape = shape_of(directory)
    planned = fit(
        shape,
        memory_bytes=2**33,
        max_model_len=max_model_len,
        dtype=dtype,
        kv_cache_memory_bytes=KV_CACHE_BYTES,
        on_cpu=True,
    )

    assert planned.weight_bytes == weight_bytes(shape, dtype)
    assert planned.weight_bytes == pytest.approx(weights, rel=0.02)  # packed rows are padded, norms are float32
    assert planned.num_kv_blocks == built.ready.num_blocks
    assert (planned.num_kv_blocks + 1) * config.block_size * planned.kv_bytes_per_token == caches
    assert planned.weight_bytes + planned.kv_cache_bytes == pytest.approx(weights + caches, rel=0.02)


def test_an_int8_cache_is_what_the_engine_allocates(directory: Path) -> None:
    asked = PlanRequest(
        dtype="bfloat16", kv_cache_dtype="int8", kv_cache_memory_bytes=KV_CACHE_BYTES, max_model_len=256
    )
    shape = shape_of(directory)
    plan = partial(deployment_of, "m", shape, cpu_hardware(2**33), asked, served_architectures=ARCHITECTURES)
    settings = {"device": "cpu", "dtype": "bfloat16", "kv_cache_dtype": "int8", "kv_cache_memory_bytes": KV_CACHE_BYTES}
    config = EngineConfig.model_validate({"model": str(directory)} | settings)
    build = partial(build_engine, config, directory, ModelConfig.from_directory(directory), 256)
    if shape.has_latent_attention:
        for refuse in (build, plan):
            with pytest.raises(ConfigError, match="int8 is not supported with latent attention"):
                refuse()
        return
    built, planned = build(), plan()
    found = planned.fit()
    assert found.num_kv_blocks == built.ready.num_blocks
    caches = [
        part
        for cache in built.core.runner.kv_caches
        for part in (cache.key, cache.value, cache.key_scales, cache.value_scales)
    ]
    num_bytes = sum(part.nbytes for part in caches if part is not None)
    assert (found.num_kv_blocks + 1) * config.block_size * found.kv_bytes_per_token == num_bytes
    assert found.kv_bytes_per_token == planned.kv_bytes_per_token


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("method", ["int8", "int4"])
def test_rounded_weights_are_what_the_engine_holds(tmp_path: Path, method: str, tied: bool) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 1024}
    directory = make_checkpoint(tmp_path / "llama", "llama", tie_word_embeddings=tied, **sizes)
    config = ModelConfig.from_directory(directory)
    formats = choose_formats(method, config.quantization)
    model = load_model(
        directory,
        config,
        LoadOptions(dtype=torch.bfloat16, device=torch.device("cpu"), native=has_native()),
        formats=formats,
    )
    planned = weight_bytes(shape_of(directory), "bfloat16", QUANTIZATIONS[method])
    assert planned == pytest.approx(held_bytes(model), rel=0.02)


def held_bytes(model: CausalLM) -> int:
    matrices = {module for module in model.modules() if isinstance(module, LinearWeight)}
    inside = {parameter for matrix in matrices for parameter in matrix.parameters()}
    others = {parameter for parameter in model.parameters() if parameter not in inside}
    return sum(matrix.num_bytes for matrix in matrices) + sum(parameter.nbytes for parameter in others)


def test_cache_on_a_cpu_is_the_engine_s_default() -> None:
    for available in (0, 2**30, 10 * 2**30, 64 * 2**30):
        budget = cpu_kv_cache_budget(EngineConfig.model_validate({}), available)
        assert default_cpu_kv_cache_bytes(available) == budget.num_bytes


@pytest.mark.parametrize(
    ("family", "fields", "max_num_seqs", "max_num_batched_tokens"),
    [
        # The MLP, the logits and the gathered keys of one long sequence are the most in turn.
        ("llama", {"hidden_size": 256, "intermediate_size": 1024, "head_dim": 64}, 8, 1024),
        ("llama", {"vocab_size": 20_000, "bos_token_id": 1, "eos_token_id": 2}, 64, 256),
        ("qwen3", {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}, 8, 128),
    ],
)
@pytest.mark.usefixtures("without_native_kernels")  # they need less: no keys and values are gathered
def test_activations_are_what_the_largest_steps_hold(
    tmp_path: Path, family: str, fields: dict[str, int], max_num_seqs: int, max_num_batched_tokens: int
) -> None:
    directory = make_checkpoint(tmp_path / family, family, **fields)
    limits = {"max_num_seqs": max_num_seqs, "max_num_batched_tokens": max_num_batched_tokens}
    config = EngineConfig.model_validate(limits)
    cpu, dtype, max_model_len = torch.device("cpu"), torch.float32, 1024
    model = load_model(directory, ModelConfig.from_directory(directory), LoadOptions(dtype=dtype, device=cpu))

    with LiveMemory() as memory:
        run_largest_steps(config, model, max_model_len, cpu, dtype)

    planned = activation_bytes(shape_of(directory), element_bytes=4, max_model_len=max_model_len, **limits)
    planned += state_bytes(max_num_seqs=max_num_seqs, max_model_len=max_model_len, block_size=config.block_size)
    assert planned == pytest.approx(memory.peak_bytes, rel=0.15)
