"""What the machine's NVIDIA GPUs do, asked of the driver (NVML) when somebody asks us."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

_LABELS = ("gpu", "uuid", "name")


@dataclass(frozen=True, slots=True)
class _Gpu:
    handle: Any
    labels: tuple[str, str, str]


class GpuMetrics(Collector):
    """Utilisation, memory, temperature and power of each GPU. Without a GPU or a driver there are none.

    What a GPU cannot tell (a partition its utilisation, some models their power) is left out for that GPU alone.

    Args:
        nvml: the module ``pynvml``, or what behaves like it; by default it is imported at the first collection.
    """

    def __init__(self, *, prefix: str, nvml: Any = None) -> None:
        self._prefix = f"{prefix}gpu_"
        self._nvml = nvml
        self._gpus: list[_Gpu] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield what the GPUs tell now."""
        if self._gpus is None:
            self._gpus = self._find()
        if not self._gpus:
            return
        nvml = self._nvml
        queries: dict[str, tuple[str, Callable[[Any], float]]] = {
            "utilization_ratio": (
                "Part of the time in which the GPU computed, from 0 to 1.",
                lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            ),
            "memory_used_bytes": ("GPU memory in use.", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
            "memory_total_bytes": ("GPU memory.", lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total),
            "temperature_celsius": (
                "Temperature of the GPU.",
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            ),
            "power_watts": ("Power that the GPU draws.", lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
        }
        for name, (help_text, query) in queries.items():
            family = GaugeMetricFamily(f"{self._prefix}{name}", help_text, labels=_LABELS)
            for gpu in self._gpus:
                value = self._ask(query, gpu.handle)
                if value is not None:
                    family.add_metric(gpu.labels, value)
            if family.samples:
                yield family

    def _find(self) -> list[_Gpu]:
        if self._nvml is None:
            import pynvml  # type: ignore[import-untyped]  # not before somebody asks

            self._nvml = pynvml
        try:
            self._nvml.nvmlInit()
            indexes = range(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            logger.debug("no GPU metrics: %s", error)
            return []
        return [gpu for gpu in map(self._gpu, indexes) if gpu is not None]

    def _gpu(self, index: int) -> _Gpu | None:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = self._nvml.nvmlDeviceGetUUID(handle), self._nvml.nvmlDeviceGetName(handle)
        except self._nvml.NVMLError as error:
            logger.warning("GPU %d cannot be watched: %s", index, error)
            return None
        return _Gpu(handle, (str(index), _text(uuid), _text(name)))

    def _ask(self, query: Callable[[Any], float], handle: Any) -> float | None:
        try:
            return query(handle)
        except self._nvml.NVMLError:
            return None


def _text(value: str | bytes) -> str:
    """Older bindings give bytes."""
    return value.decode() if isinstance(value, bytes) else value
