"""Whole plans: what fits, limits, advice, speed, and the command."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config.fields import settings_of
from octavo.config.schema import ServerConfig
from octavo.errors import ConfigError
from octavo.plan.deployment import Deployment
from octavo.plan.hardware import cpu_hardware
from octavo.plan.planner import Plan, make_plan
from octavo.plan.prices import built_in_prices
from octavo.plan.record import plan_record
from octavo.plan.step_time import StepShape
from tests.plan import published_models as published
from tests.plan.deployments import deployment


def plan_of(config: dict[str, Any], gpu: str, **asked: Any) -> Plan:
    return make_plan(deployment(config, gpu, **asked), prices=built_in_prices())


def test_llama_8b_on_an_h100() -> None:
    plan = plan_of(published.LLAMA_31_8B, "H100")
    found = plan.fit
    assert plan.fits
    assert found.weight_bytes == 16_060_522_496
    assert found.allowed_bytes == int(81_559 * 2**20 * 0.9)
    assert found.kv_cache_bytes == found.allowed_bytes - (
        found.weight_bytes + found.activation_bytes + found.overhead_bytes
    )
    assert plan.max_batch == (found.kv_cache_bytes // (16 * 131_072) - 1) // (1280 // 16)
    assert plan.max_context == found.max_model_len == 131_072
    assert (plan.command, plan.reasons) == ("octavo serve some/model", ())


def test_longest_sequence_that_was_not_asked_for_is_what_fits() -> None:
    plan = plan_of(published.LLAMA_31_8B, "L4")
    assert plan.fits
    longest = plan.fit.max_model_len
    assert 8192 < longest < 131_072
    assert f"--max-model-len {longest}" in (plan.command or "")
    assert plan_of(published.LLAMA_31_8B, "L4", max_model_len=longest).fits
    assert not plan_of(published.LLAMA_31_8B, "L4", max_model_len=longest + 16).fits


def test_batch_is_counted_at_the_asked_context_or_the_length_of_requests() -> None:
    whole = plan_of(published.LLAMA_31_8B, "H100", max_model_len=8192)
    requests = plan_of(published.LLAMA_31_8B, "H100", max_model_len=8192, input_len=3000, output_len=1000)
    assert (whole.deployment.asked_len, requests.deployment.asked_len) == (8192, 4000)
    assert 2 * whole.max_batch <= requests.max_batch <= 2.1 * whole.max_batch


@pytest.mark.parametrize("asked", [{"concurrency": 100}, {"concurrency": 200, "input_len": 4000, "output_len": 96}])
def test_context_and_batch_are_each_other_s_limit(asked: dict[str, int]) -> None:
    plan = plan_of(published.LLAMA_31_8B, "H100", **asked)
    found, batch = plan.fit, asked["concurrency"]
    assert found.max_batch(plan.max_context) >= batch
    assert found.max_batch(plan.max_context + 16) < batch


@settings(max_examples=60, deadline=None)
@given(
    config=st.sampled_from([published.LLAMA_31_8B, published.LLAMA_31_70B, published.QWEN3_30B_A3B]),
    gpu=st.sampled_from(["T4", "L4", "A100", "H100", "H200"]),
    max_model_len=st.integers(300, 40_000),
    concurrency=st.integers(1, 400),
)
def test_every_advice_works_and_nothing_smaller_would(
    config: dict[str, Any], gpu: str, max_model_len: int, concurrency: int
) -> None:
    asked = {"max_model_len": max_model_len, "concurrency": concurrency, "input_len": 100, "output_len": 100}
    plan = plan_of(config, gpu, **asked)
    assert (plan.advice == ()) or not plan.fits
    for advice in plan.advice:
        changed = advice.deployment
        assert changed.is_met_by(changed.fit())
        if advice.text.startswith("--concurrency"):
            assert changed.concurrency is not None
            more = replace(changed, concurrency=changed.concurrency + 1)
            assert not more.is_met_by(more.fit())
        if re.fullmatch(r"--gpus \d+ --tensor-parallel-size \d+", advice.text):
            sizes = changed.possible_parallel_sizes
            fewer = sizes[sizes.index(changed.tensor_parallel_size) - 1]
            smaller = replace(changed, tensor_parallel_size=fewer, num_gpus=fewer)
            assert not smaller.is_met_by(smaller.fit())


def test_what_does_not_fit_is_told_what_to_change() -> None:
    plan = plan_of(published.LLAMA_31_70B, "H100", max_model_len=8192)
    assert not plan.fits
    assert plan.fit.missing_bytes > 60 * 2**30
    assert [advice.text for advice in plan.advice] == [
        "--quantization int4",
        "--gpus 2 --tensor-parallel-size 2",
        "--gpu B200",
    ]
    # The first that this version can follow.
    assert plan.command_change == "--quantization int4"
    assert plan.reasons == ()
    assert (plan.speed, plan.cost) == (None, None)


def test_shorter_context_is_the_advice_where_it_is_enough() -> None:
    plan = plan_of(published.LLAMA_31_8B, "L4", max_model_len=100_000)
    (length,) = [advice for advice in plan.advice if advice.text.startswith("--max-model-len")]
    longest = plan_of(published.LLAMA_31_8B, "L4").fit.max_model_len
    assert longest - 256 < (length.deployment.max_model_len or 0) <= longest
    assert plan.command_change == length.text


def test_changes_are_combined_where_none_alone_is_enough() -> None:
    plan = plan_of({**published.DEEPSEEK_V3, "quantization_config": {}}, "T4", max_model_len=4096)
    (advice,) = plan.advice
    assert advice.text == "--quantization fp8 --gpus 64 --tensor-parallel-size 64"


def test_a_rounded_cache_is_advised_and_asked_for_where_the_engine_has_one() -> None:
    asked = {"gpus": 1, "max_model_len": 131_072, "concurrency": 4}
    plan = plan_of(published.LLAMA_31_8B, "H100", **asked)
    (advice,) = (one for one in plan.advice if "kv-cache" in one.text)
    assert advice.text == "--kv-cache-dtype int8"
    chosen = plan_of(published.LLAMA_31_8B, "H100", **asked, kv_cache_dtype="int8")
    assert chosen.fits
    assert "--kv-cache-dtype int8" in (chosen.command or "")
    assert chosen.reasons == ()


def test_command_is_one_that_serve_accepts_and_the_rest_is_said() -> None:
    plan = plan_of(
        published.LLAMA_31_70B,
        "H100",
        gpus=8,
        tensor_parallel_size=4,
        quantization="fp8",
        kv_cache_dtype="fp8",
        max_model_len=16_384,
        concurrency=32,
        gpu_memory_utilization=0.8,
        max_num_batched_tokens=4096,
        block_size=32,
    )
    command = shlex.split(plan.command or "")
    flags = dict(zip(command[3::2], command[4::2], strict=True))
    assert flags == {
        "--max-model-len": "16384",
        "--max-num-seqs": "32",
        "--gpu-memory-utilization": "0.8",
        "--max-num-batched-tokens": "4096",
        "--block-size": "32",
    }
    assert flags.keys() <= {setting.flag for setting in settings_of(ServerConfig).values()}
    said = "\n".join(plan.reasons)
    for part in ("--quantization fp8", "--tensor-parallel-size 4", "--kv-cache-dtype fp8", "one of 2 replicas"):
        assert part in said


def test_family_that_the_engine_does_not_run_is_said_and_its_windows_are_freed() -> None:
    plan = plan_of(published.GEMMA_3_4B, "H100")
    assert "does not run gemma3_text models" in plan.reasons[0]
    assert plan.fit.layout.frees_outside_window
    assert not plan_of(published.MISTRAL_7B_V01, "H100").fit.layout.frees_outside_window


def test_checkpoint_that_is_packed_in_a_way_that_the_engine_does_not_read_is_said() -> None:
    (reason,) = plan_of(published.GPT_OSS_20B, "H100").reasons
    assert reason.startswith("This version loads no mxfp4 checkpoints")
    packed = {**published.LLAMA_31_8B, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    assert not plan_of(packed, "H100").reasons


def test_float16_takes_the_place_of_bfloat16_where_a_gpu_lacks_it() -> None:
    plan = plan_of(published.QWEN3_06B, "T4")
    assert plan.deployment.dtype == "float16"
    assert "--dtype float16" in (plan.command or "")
    assert "--dtype" not in (plan_of(published.QWEN3_06B, "L4").command or "")


def test_gpus_are_those_of_one_replica_if_only_its_size_is_said() -> None:
    wanted = deployment(published.LLAMA_31_8B, "H100", tensor_parallel_size=2)
    assert (wanted.num_gpus, wanted.num_replicas) == (2, 1)
    assert deployment(published.LLAMA_31_8B, "H100", gpus=4).tensor_parallel_size == 4


def test_replicas_multiply_throughput_and_cost_but_not_latency() -> None:
    one = plan_record(plan_of(published.LLAMA_31_8B, "H100", concurrency=16))
    four = plan_record(plan_of(published.LLAMA_31_8B, "H100", concurrency=16, gpus=4, tensor_parallel_size=1))
    assert four["num_replicas"] == 4
    assert four["speed"] == one["speed"]
    assert four["cost"]["per_hour"] == pytest.approx(4 * one["cost"]["per_hour"])
    assert four["cost"]["per_million_output"] == pytest.approx(one["cost"]["per_million_output"])


class _OneMillisecondAToken:
    def step_seconds(self, step: StepShape) -> float:
        return 0.001 * step.num_tokens


def test_speed_on_a_cpu_is_what_was_measured() -> None:
    wanted = deployment(published.QWEN3_06B, "T4", dtype="float32", concurrency=4, input_len=3000, output_len=101)
    on_cpu = replace(wanted, hardware=cpu_hardware(32 * 2**30))
    plan = make_plan(on_cpu, prices=(), step_time=_OneMillisecondAToken(), speed_source="a test")
    assert plan.speed is not None
    assert plan.speed.ttft_s == pytest.approx(3.0)
    assert plan.speed.tpot_s == pytest.approx(0.004)
    assert plan.speed.output_tokens_per_s == pytest.approx(4 * 101 / (4 * 3.0 + 100 * 0.004))
    assert plan.command is not None
    assert "--device cpu" in plan.command
    assert make_plan(on_cpu, prices=()).speed is None


def test_larger_cache_is_the_advice_on_a_cpu() -> None:
    wanted = deployment(published.QWEN3_06B, "T4", dtype="float32", concurrency=64)
    plan = make_plan(replace(wanted, hardware=cpu_hardware(64 * 2**30)), prices=())
    assert not plan.fits
    assert plan.advice[0].text.startswith("--kv-cache-memory-bytes ")
    assert "--kv-cache-memory-bytes" in (plan.command or "")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"gpus": 4, "tensor_parallel_size": 3}, "4 GPUs cannot be divided into replicas of 3 GPUs"),
        ({"gpus": 3}, "32 attention heads cannot be shared by 3 GPUs; tensor_parallel_size may be 1, 2, 4, 8, 16, 32"),
        ({"max_model_len": 200_000}, "max_model_len 200,000 is longer than what the model is made for, 131,072"),
        ({"input_len": 131_072}, "a request of 131,073 tokens (input and output) is longer"),
        ({"max_model_len": 1000, "output_len": 1000}, "a request of 1,001 tokens"),
        ({"dtype": "float8"}, "dtype is 'float8'; it must be one of auto, float32"),
        (
            {"kv_cache_dtype": "int4"},
            "kv_cache_dtype is 'int4'; it must be one of auto, float32, bfloat16, float16, int8, fp8",
        ),
        ({"quantization": "fp5"}, "quantization 'fp5' is not known"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        deployment(published.LLAMA_31_8B, "H100", **asked)


@given(max_model_len=st.integers(2, 2000), input_len=st.none() | st.integers(1, 100))
def test_default_request_is_no_longer_than_the_longest_sequence(max_model_len: int, input_len: int | None) -> None:
    asked = {"max_model_len": max_model_len, "input_len": input_len if (input_len or 0) < max_model_len else None}
    wanted: Deployment = deployment(published.LLAMA_31_8B, "H100", **asked)
    assert wanted.request_input_len >= 1
    assert wanted.request_output_len >= 1
    assert wanted.request_len <= max_model_len
