"""GPUs, over an imagined driver: the one piece of hardware that a test cannot count on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from octavo.observe.gpu_metrics import GpuMetrics


class FakeNvml:
    """Behaves like ``pynvml``; what ``broken`` names raises for the GPU of that index."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        """As the driver raises it."""

    def __init__(self, num_gpus: int = 2, *, broken: tuple[tuple[str, int], ...] = (), has_driver: bool = True) -> None:
        self._num_gpus = num_gpus
        self._broken = broken
        self._has_driver = has_driver
        self.num_inits = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.num_inits += 1
        if not self._has_driver:
            raise self.NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self._num_gpus

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
            "nvmlDeviceGetName": lambda index: b"NVIDIA H100",
            "nvmlDeviceGetUtilizationRates": lambda index: SimpleNamespace(gpu=40 + index),
            "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(used=10 + index, total=80),
            "nvmlDeviceGetTemperature": lambda index, sensor: 55,
            "nvmlDeviceGetPowerUsage": lambda index: 312_500,
        }

        def ask(index: int, *rest: Any) -> Any:
            if (name, index) in self._broken:
                raise self.NVMLError("Not Supported")
            return answers[name](index, *rest)

        return ask


def found(metrics: GpuMetrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("octavo_gpu_"), sample.labels["gpu"]): sample.value
        for metric in metrics.collect()
        for sample in metric.samples
    }


def test_each_gpu_tells_its_values_with_its_names():
    metrics = GpuMetrics(prefix="octavo_", nvml=FakeNvml())
    assert found(metrics) == {
        ("utilization_ratio", "0"): 0.40,
        ("utilization_ratio", "1"): 0.41,
        ("memory_used_bytes", "0"): 10,
        ("memory_used_bytes", "1"): 11,
        ("memory_total_bytes", "0"): 80,
        ("memory_total_bytes", "1"): 80,
        ("temperature_celsius", "0"): 55,
        ("temperature_celsius", "1"): 55,
        ("power_watts", "0"): 312.5,
        ("power_watts", "1"): 312.5,
    }
    labels = next(iter(metrics.collect())).samples[0].labels
    assert labels == {"gpu": "0", "uuid": "GPU-0", "name": "NVIDIA H100"}


def test_what_one_gpu_cannot_tell_is_left_out_for_it_alone():
    broken = (("nvmlDeviceGetPowerUsage", 1), ("nvmlDeviceGetUtilizationRates", 0))
    values = found(GpuMetrics(prefix="octavo_", nvml=FakeNvml(broken=broken)))
    assert ("power_watts", "1") not in values
    assert ("utilization_ratio", "0") not in values
    assert len(values) == 8


def test_a_value_that_no_gpu_tells_is_no_metric():
    nvml = FakeNvml(1, broken=(("nvmlDeviceGetPowerUsage", 0),))
    names = {metric.name for metric in GpuMetrics(prefix="octavo_", nvml=nvml).collect()}
    assert "octavo_gpu_power_watts" not in names
    assert len(names) == 4


def test_a_gpu_that_cannot_be_opened_hides_no_other():
    nvml = FakeNvml(broken=(("nvmlDeviceGetHandleByIndex", 0),))
    assert {index for _, index in found(GpuMetrics(prefix="octavo_", nvml=nvml))} == {"1"}


@pytest.mark.parametrize("nvml", [FakeNvml(has_driver=False), FakeNvml(0)])
def test_no_driver_and_no_gpu_are_no_error(nvml: FakeNvml):
    metrics = GpuMetrics(prefix="octavo_", nvml=nvml)
    assert [list(metrics.collect()), list(metrics.collect())] == [[], []]
    assert nvml.num_inits == 1


def test_the_real_binding_has_what_we_ask_for():
    import pynvml

    for name in (
        *("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetName"),
        *("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperature"),
        *("nvmlDeviceGetPowerUsage", "NVML_TEMPERATURE_GPU", "NVMLError"),
    ):
        assert hasattr(pynvml, name)
    list(GpuMetrics(prefix="octavo_").collect())  # raises nowhere, whatever this machine has
