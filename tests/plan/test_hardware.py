"""The catalogue of GPUs and the table of prices."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from octavo.errors import ConfigError
from octavo.plan.hardware import gpu_catalogue, gpu_named
from octavo.plan.prices import EXAMPLE, built_in_prices, cost_of, price_of, read_prices
from octavo.plan.speed import Speed


@pytest.mark.parametrize("name", gpu_catalogue())
def test_entry_is_plausible_and_has_a_source(name: str) -> None:
    gpu = gpu_catalogue()[name]
    assert gpu.source.startswith("https://")
    assert 15 * 2**30 <= gpu.memory_bytes <= 288 * 2**30
    assert 300e9 <= gpu.bandwidth <= 8e12
    assert {"fp32", "fp16"} <= gpu.flops.keys() <= {"fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4"}
    # Narrower types are never slower. Dense tensor cores of all generations do 2 to 40 times as much as float32.
    assert gpu.flops["fp16"] <= gpu.flops.get("fp8", float("inf")) <= gpu.flops.get("fp4", float("inf"))
    assert 1.9 <= gpu.flops["fp16"] / gpu.flops["fp32"] <= 40


@pytest.mark.parametrize(
    ("dense", "tflops"),
    # Half of what the data sheets print first: "with sparsity" 1,979 and 3,958; 242 and 485; 4,500 and 9,000.
    [(("H100-SXM", "bf16"), 989.5), (("H100-SXM", "fp8"), 1979), (("L4", "bf16"), 121), (("B200", "bf16"), 2250)],
)
def test_speeds_are_those_of_dense_matrices(dense: tuple[str, str], tflops: float) -> None:
    name, dtype = dense
    assert gpu_named(name).flops[dtype] == tflops * 1e12


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("H100", "H100-SXM"),
        ("h100 pcie", "H100-PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("Tesla T4", "T4"),
        ("a100-40gb", "A100-40GB-SXM"),
        ("amd mi300x", "MI300X"),
    ],
)
def test_gpu_is_found_by_the_names_of_people_and_drivers(name: str, expected: str) -> None:
    assert gpu_named(name).name == expected


def test_unknown_gpu_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no GPU 'H10O'.*did you mean H100-SXM\?.*--list-gpus"):
        gpu_named("H10O")


def test_types_that_a_gpu_lacks_run_in_wider_ones() -> None:
    t4, a100, h100 = gpu_named("T4"), gpu_named("A100"), gpu_named("H100")
    assert (t4.has_bfloat16, a100.has_bfloat16) == (False, True)
    assert t4.flops_of("bfloat16") == t4.flops["fp32"]
    assert a100.flops_of("fp8") == a100.flops["bf16"]
    assert h100.flops_of("fp4") == h100.flops["fp8"]
    assert h100.flops_of("float32") == h100.flops["fp32"]


def test_built_in_prices_are_dated_and_of_named_providers() -> None:
    for price in built_in_prices():
        assert price.usd_per_hour > 0
        assert price.date >= date(2025, 1, 1)
        assert price.source.startswith("https://")
        assert price_of(gpu_named(price.gpu), built_in_prices()) == price


@pytest.mark.parametrize(
    "text", [EXAMPLE, "- {gpu: h100, usd_per_hour: 2.5, provider: us, date: 2026-01-31, source: s}"]
)
def test_prices_of_one_s_own_are_json_or_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prices"
    path.write_text(text)
    price = price_of(gpu_named("H100"), read_prices(path))
    assert price is not None
    assert price.usd_per_hour == 2.5
    assert price_of(gpu_named("L4"), read_prices(path)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "Expected `array`"),
        ('[{"gpu": "H100"}]', "missing required field `usd_per_hour`"),
        (EXAMPLE.replace("H100-SXM", "H1000"), "no GPU 'H1000'"),
        (EXAMPLE.replace("2026-01-31", "soon"), "Invalid RFC3339 encoded date"),
        (EXAMPLE.replace("2.50", "-1"), "usd_per_hour of H100-SXM is -1.0; it must be at least 0"),
        ("[", "The file is a list like"),
    ],
)
def test_wrong_prices_are_refused_with_an_example(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        read_prices(path)


def test_missing_price_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_prices(tmp_path / "none.json")


def test_cost_of_tokens_is_the_share_of_the_hour_that_they_take() -> None:
    speed = Speed(
        batch=10,
        input_len=100,
        output_len=50,
        ttft_s=0.1,
        tpot_s=0.02,
        output_tokens_per_s=0,
        input_tokens_per_s=0,
        prefill_s=0.1,
        decode_s=0.002,
    )
    price = built_in_prices()[0]
    cost = cost_of(price, speed, num_gpus=4, num_replicas=2)
    second_of_a_replica = 2 * price.usd_per_hour / 3600
    assert cost.per_hour == 4 * price.usd_per_hour
    assert cost.per_million_input == pytest.approx(second_of_a_replica * 0.1 / 100 * 1e6)
    assert cost.per_million_output == pytest.approx(second_of_a_replica * 0.02 / 10 * 1e6)
