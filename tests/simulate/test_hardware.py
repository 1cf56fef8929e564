"""What a replica is: from a calibration, and from a GPU's data sheet."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from octavo.bench.calibration import Calibration, EngineLimits, ServingOverhead, save_calibration
from octavo.bench.step_time_fit import FitQuality
from octavo.errors import ConfigError
from octavo.plan.calibrated_step_time import CalibratedStepTime, Curve
from octavo.plan.memory import kv_bytes_per_token
from octavo.plan.step_time import StepShape
from octavo.simulate.hardware import Overrides, find_hardware

QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(QWEN3_8B))
    return str(tmp_path)


@pytest.fixture
def calibration_file(tmp_path: Path) -> Path:
    flat = Curve((1, 2), (0.0, 0.0))
    calibration = Calibration(
        created_at="2026-01-01T00:00:00+00:00",
        octavo_version="0.1.0",
        model="my-model",
        processor="My CPU",
        device="cpu",
        threads=2,
        dtype="float32",
        limits=EngineLimits(
            num_blocks=500, block_size=16, max_model_len=2048, max_num_seqs=32, max_num_batched_tokens=512
        ),
        step_time=CalibratedStepTime(Curve((1, 2), (0.5, 0.6)), flat, flat, flat, 0.0, 0.0),
        quality=FitQuality(1, 0.0, 0.0, 0.0),
        steps=(),
        overhead=ServingOverhead(request_s=0.25),
    )
    path = tmp_path / "calibration.json"
    save_calibration(calibration, path)
    return path


def test_a_calibration_gives_the_replica_that_was_measured(calibration_file: Path) -> None:
    hardware = find_hardware("my-model", Overrides(), calibration=calibration_file)
    replica = hardware.replica
    assert (replica.num_blocks, replica.max_model_len, replica.max_num_seqs) == (500, 2048, 32)
    assert replica.max_num_batched_tokens == 512
    assert replica.overhead.request_s == 0.25
    assert replica.step_time.step_seconds(StepShape.of([5], [1], 1)) == 0.5
    assert hardware.price_per_hour is None
    assert "My CPU" in hardware.target


def test_the_user_has_the_last_word(calibration_file: Path) -> None:
    overrides = Overrides(
        max_model_len=64, max_num_seqs=3, max_num_batched_tokens=7, num_blocks=11, enable_prefix_caching=False
    )
    hardware = find_hardware("my-model", overrides, calibration=calibration_file, price_per_hour=1.5)
    replica = hardware.replica
    assert (replica.max_model_len, replica.max_num_seqs, replica.max_num_batched_tokens) == (64, 3, 7)
    assert (replica.num_blocks, replica.enable_prefix_caching) == (11, False)
    assert replica.max_num_tokens == 64
    assert hardware.price_per_hour == 1.5


def test_a_gpu_has_the_blocks_that_its_memory_leaves(model: str) -> None:
    hardware = find_hardware(model, Overrides(max_model_len=8192), gpu="H100")
    per_token = kv_bytes_per_token(36, 8, 128, 2)
    kv_gb = hardware.replica.num_blocks * 16 * per_token / 1e9
    weights_gb = 16.4
    # 90 % of 80 GiB (some less in the driver's count), without the weights and a few GB for everything else.
    assert 0.9 * 85 - weights_gb - 6 < kv_gb < 0.9 * 86 - weights_gb
    assert hardware.price_per_hour is not None
    assert hardware.price_per_hour > 0


def test_several_gpus_cost_their_number(model: str) -> None:
    one, two = (
        find_hardware(model, Overrides(max_model_len=8192), gpu="H100", tensor_parallel_size=size) for size in (1, 2)
    )
    assert two.price_per_hour == pytest.approx(2 * one.price_per_hour)
    assert two.replica.num_blocks > 2 * one.replica.num_blocks
    decode = StepShape.of([1000] * 8, [1] * 8, 8)
    assert two.replica.step_time.step_seconds(decode) < one.replica.step_time.step_seconds(decode)


def test_quantized_weights_leave_more_room(model: str) -> None:
    plain, packed = (
        find_hardware(model, Overrides(max_model_len=8192), gpu="H100", quantization=name) for name in (None, "fp8")
    )
    assert packed.replica.num_blocks > plain.replica.num_blocks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpu": "H1000"}, "no GPU 'H1000'"),
        ({"gpu": "T4"}, "do not fit on 1 x"),
        ({"gpu": "H100", "calibration": Path("x.json")}, "either --gpu or --calibration"),
        ({"gpu": "H100", "quantization": "fp7"}, "quantization 'fp7' is not known"),
        ({"calibration": Path("missing.json")}, "missing.json: No such file"),
        ({"calibration": Path("missing.json"), "dtype": "float32"}, "belong to --gpu"),
        ({}, "there is no calibration of .* octavo plan .* --calibrate"),
    ],
)
def test_wrong_choices_are_refused(
    model: str, options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        find_hardware(model, Overrides(), **options)


def test_limits_below_one_are_refused(calibration_file: Path) -> None:
    with pytest.raises(ConfigError, match="num_blocks must be at least 1, not 0"):
        find_hardware("my-model", Overrides(num_blocks=0), calibration=calibration_file)
