"""The adapters that an engine holds, on the runner's side: loaded, asked for by the rows of a step, dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from octavo.config.sizes import format_bytes
from octavo.engine.lora.adapter_weights import AdapterFiles, open_adapter
from octavo.engine.lora.request import LoRARequest
from octavo.errors import ConfigError, ModelError
from octavo.models.layers.lora import AdaptableModel, AdapterRows

if TYPE_CHECKING:
    from octavo.engine.step import StepPlan
    from octavo.models.layers.decoder import CausalLM

logger = logging.getLogger(__name__)


class Adapters:
    """Adapters by their number, and which of them each row of the runner's buffers has.

    Args:
        model: its linear layers are wrapped.
        max_rank: greatest rank of an adapter.
        max_adapters: the most that are held at a time.
        free_memory: bytes that are free on the device.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        device: torch.device,
        max_rank: int,
        max_adapters: int,
        free_memory: Callable[[], int],
    ) -> None:
        self.adaptable = AdaptableModel(model)
        self._device = device
        self._max_rank = max_rank
        self._max_adapters = max_adapters
        self._free_memory = free_memory
        self._loaded: dict[int, LoRARequest] = {}
        self._id_of_row: dict[int, int] = {}

    def load(self, request: LoRARequest) -> None:
        """Load an adapter; one that is held already stays as it is.

        Raises:
            ModelError: its files are missing, wrong, or not for this model.
            ConfigError: there is no room for it, or its number belongs to another one.
        """
        held = self._loaded.get(request.lora_int_id)
        if held is not None:
            if held != request:
                raise ConfigError(
                    f"lora_int_id {request.lora_int_id} belongs to the adapter {held.lora_name!r} from "
                    f"{held.lora_path}; give {request.lora_name!r} from {request.lora_path} another one."
                )
            return
        if len(self._loaded) >= self._max_adapters:
            raise ConfigError(
                f"LoRA adapter {request.lora_name!r}: {self._max_adapters} adapters are held, as many as max_cpu_loras "
                "allows. Unload one, or start with a greater --max-cpu-loras."
            )
        files = self._open(request)
        num_bytes = files.num_elements * self.adaptable.dtype.itemsize
        free_bytes = self._free_memory()
        if num_bytes > free_bytes:
            raise ConfigError(
                f"LoRA adapter {request.lora_name!r} takes {format_bytes(num_bytes)}, but only "
                f"{format_bytes(free_bytes)} of memory are free."
            )
        self.adaptable.put(request.lora_int_id, files.read(self.adaptable.dtype, self._device))
        self._loaded[request.lora_int_id] = request
        logger.info(
            "LoRA adapter %r from %s: %d projections, rank up to %d, %s",
            request.lora_name,
            request.lora_path,
            len(files.projections),
            max(map(files.config.rank_of, files.projections)),
            format_bytes(num_bytes),
        )

    def drop(self, adapter_id: int) -> None:
        """Forget an adapter that no request has any more."""
        if self._loaded.pop(adapter_id, None) is not None:
            self.adaptable.drop(adapter_id)

    def __contains__(self, adapter_id: int) -> bool:
        return adapter_id in self._loaded

    def groups(self, plan: StepPlan) -> Sequence[AdapterRows]:
        """Take over the adapters of admitted requests, and return which tokens of the step have which adapter."""
        for admission in plan.admissions:
            if admission.lora_id:
                self._id_of_row[admission.row] = admission.lora_id
            else:
                self._id_of_row.pop(admission.row, None)
        if not self._id_of_row:
            return ()
        spans: dict[int, list[tuple[int, int]]] = {}
        start = 0
        for row, count in zip(plan.rows, plan.counts, strict=True):
            adapter_id = self._id_of_row.get(row)
            if adapter_id is not None:
                spans.setdefault(adapter_id, []).append((start, start + count))
            start += count
        return [AdapterRows(adapter_id, self._rows(found)) for adapter_id, found in spans.items()]

    def _open(self, request: LoRARequest) -> AdapterFiles:
        try:
            return open_adapter(request.directory, self.adaptable.projections, max_rank=self._max_rank)
        except ModelError as error:
            raise ModelError(f"LoRA adapter {request.lora_name!r}: {error}") from error

    def _rows(self, spans: list[tuple[int, int]]) -> slice | torch.Tensor:
        first, last = spans[0][0], spans[-1][1]
        if last - first == sum(end - start for start, end in spans):
            return slice(first, last)
        return torch.cat([torch.arange(start, end, device=self._device) for start, end in spans])
