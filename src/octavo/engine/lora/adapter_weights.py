"""``adapter_model.safetensors`` of a LoRA adapter: checked against the model by its header, then read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from octavo.engine.lora.adapter_config import AdapterConfig
from octavo.errors import ModelError
from octavo.models.layers.lora import LowRankDelta, Projection

WEIGHTS_FILE = "adapter_model.safetensors"
_PICKLE_FILE = "adapter_model.bin"
_TENSOR_NAME = re.compile(r"base_model\.model\.(?P<projection>.+)\.lora_(?P<side>[AB])\.weight")
_DTYPES = ("F32", "BF16", "F16")
_MAX_LISTED = 8


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """An adapter whose configuration and header fit the model.

    Attributes:
        projections: names of those that it changes.
        num_elements: numbers in its matrices.
    """

    directory: Path
    config: AdapterConfig
    projections: tuple[str, ...]
    num_elements: int

    def read(self, dtype: torch.dtype, device: torch.device) -> dict[str, LowRankDelta]:
        """Read the matrices.

        Raises:
            ModelError: the file is broken.
        """
        path = self.directory / WEIGHTS_FILE
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                return {
                    name: LowRankDelta(
                        down=_moved(file.get_tensor(_tensor_name(name, "A")).float(), dtype, device),
                        up=_moved(
                            file.get_tensor(_tensor_name(name, "B")).float() * self.config.scale_of(name), dtype, device
                        ),
                    )
                    for name in self.projections
                }
        except (SafetensorError, OSError) as error:
            raise _broken(path, error) from error


def open_adapter(directory: Path, projections: Mapping[str, Projection], *, max_rank: int) -> AdapterFiles:
    """Check an adapter's configuration and the names, shapes and types of its tensors.

    Args:
        projections: what the model has, by name.

    Raises:
        ModelError: a file is missing or wrong, the adapter is not for this model, or it needs what is not supported.
    """
    config = AdapterConfig.from_directory(directory)
    header = _read_header(directory)
    sides: dict[str, set[str]] = {}
    for name in header:
        match = _TENSOR_NAME.fullmatch(name)
        if match is None or match["projection"] not in projections:
            raise _not_adaptable(directory, name, config, projections)
        sides.setdefault(match["projection"], set()).add(match["side"])
    _check_completeness(directory, sides, config, projections)
    for name in sides:
        rank = config.rank_of(name)
        if rank > max_rank:
            raise ModelError(
                f"The adapter {directory} has rank {rank} for {name}, but max_lora_rank is {max_rank}. Start with "
                f"--max-lora-rank {rank} or more."
            )
        wanted = {"A": (rank, projections[name].input_size), "B": (projections[name].output_size, rank)}
        for side, shape in wanted.items():
            _check_tensor(directory, _tensor_name(name, side), header, shape, config)
    num_elements = sum(
        config.rank_of(name) * (projections[name].input_size + projections[name].output_size) for name in sides
    )
    return AdapterFiles(directory, config, tuple(sides), num_elements)


@dataclass(frozen=True, slots=True)
class _Header:
    shape: tuple[int, ...]
    dtype: str


def _tensor_name(projection: str, side: str) -> str:
    return f"base_model.model.{projection}.lora_{side}.weight"


def _read_header(directory: Path) -> dict[str, _Header]:
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        hint = (
            f" It has {_PICKLE_FILE}, which can run code when it is loaded. Save it once more with PEFT's "
            "save_pretrained(DIR, safe_serialization=True), from a source that you trust."
            if (directory / _PICKLE_FILE).is_file()
            else ""
        )
        raise ModelError(f"The adapter {directory} has no {WEIGHTS_FILE}.{hint}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return {name: _Header(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _check_completeness(
    directory: Path, sides: Mapping[str, set[str]], config: AdapterConfig, projections: Mapping[str, Projection]
) -> None:
    if not sides:
        raise ModelError(f"The adapter {directory} is empty: {WEIGHTS_FILE} holds no tensors.")
    for name, found in sides.items():
        if found != {"A", "B"}:
            missing = _tensor_name(name, "B" if "A" in found else "A")
            raise ModelError(f"The adapter {directory} lacks {missing}, the other half of what it changes there.")
        if config.target_names is not None and not config.targets(name):
            raise ModelError(
                f"The adapter {directory} has tensors for {name}, but target_modules in its configuration names only "
                f"{_listed(config.target_names)}."
            )


def _check_tensor(
    directory: Path, name: str, header: Mapping[str, _Header], shape: tuple[int, int], config: AdapterConfig
) -> None:
    found = header[name]
    if found.shape != shape:
        raise ModelError(
            f"The adapter {directory} does not fit this model: {name} is {list(found.shape)}, must be {list(shape)}."
            + _trained_on(config)
        )
    if found.dtype not in _DTYPES:
        raise ModelError(f"The adapter {directory}: {name} has type {found.dtype}; it must be one of {_DTYPES}.")


def _not_adaptable(
    directory: Path, tensor: str, config: AdapterConfig, projections: Mapping[str, Projection]
) -> ModelError:
    adaptable = sorted({name.rpartition(".")[2] for name in projections})
    return ModelError(
        f"The adapter {directory} does not fit this model: it has a tensor {tensor[:200]}, but what can be adapted is "
        f"{', '.join(adaptable)} of {len({name.split('.')[2] for name in projections})} layers." + _trained_on(config)
    )


def _trained_on(config: AdapterConfig) -> str:
    return f" By its configuration it was trained on {config.base_model!r}." if config.base_model else ""


def _broken(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is broken or incomplete: {error}. Download or copy it again.")


def _moved(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return tensor.to(device=device, dtype=dtype).contiguous()


def _listed(names: Collection[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(sorted(names)[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
