"""Checkpoints: safetensors files, read one tensor at a time into the parameters of a model.

At no time is more in memory than the model and one tensor of the checkpoint, or what one linear layer is made of if its
format has several.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from octavo.config.sizes import format_bytes
from octavo.errors import ModelError

if TYPE_CHECKING:
    from octavo.models.layers.decoder import CausalLM
    from octavo.models.layers.encoder import Encoder
    from octavo.models.layers.parameters import CheckpointTensor

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_MAX_LISTED = 20
# An open file keeps every page in memory that was ever read from it, but to open it takes as long as to pack a tensor.
_REOPEN_AFTER_BYTES = 4 << 20


def iterate_checkpoint(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of everything in ``model.safetensors`` or in the shards that its index names.

    Raises:
        ModelError: there are no safetensors, a shard is missing, or a file is broken.
    """
    for path in checkpoint_files(directory):
        yield from _iterate_file(path)


def checkpoint_files(directory: Path) -> list[Path]:
    """Return the safetensors files of a model directory, checked to exist.

    Raises:
        ModelError: there are none, or the index names files that are missing.
    """
    if (directory / INDEX_FILE).exists():
        names = _shard_names(directory / INDEX_FILE)
        missing = [name for name in names if not (directory / name).is_file()]
        if missing:
            raise ModelError(
                f"{directory}: {len(missing)} of {len(names)} weight files named in {INDEX_FILE} are missing: "
                f"{_listed(missing)}. Download the checkpoint again, or copy them there."
            )
        return [directory / name for name in names]
    if (directory / SINGLE_FILE).is_file():
        return [directory / SINGLE_FILE]
    raise _no_safetensors(directory)


def load_weights(
    model: CausalLM | Encoder, tensors: Iterable[tuple[str, Tensor]], device: torch.device, *, take: bool = True
) -> None:
    """Give each tensor to the parts of the model that declare it; they convert it to their own type and format.

    Args:
        device: of the model; a tensor is moved there first, so that it is converted there.
        take: whether they take it; if not, names, shapes and types are checked all the same.

    Raises:
        ModelError: tensors are missing, not expected, or of a wrong shape or type; the message names them all. Or the
            contents of a tensor cannot be stored.
    """
    expected: dict[str, list[CheckpointTensor]] = {}
    for declared in model.checkpoint_tensors():
        expected.setdefault(declared.name, []).append(declared)
    extra, wrong_shapes, wrong_types = [], [], []
    for name, tensor in tensors:
        if name not in expected:
            if not model.ignores(name):
                extra.append(name)
            continue
        entries = expected.pop(name)  # several if a tied head is held in another format than the embedding
        if tuple(tensor.shape) != entries[0].shape:
            wrong_shapes.append(f"{name} is {list(tensor.shape)}, must be {list(entries[0].shape)}")
        elif tensor.dtype not in entries[0].dtypes:
            wrong_types.append(f"{name} is {str(tensor.dtype).removeprefix('torch.')}")
        elif take:
            for entry in entries:
                entry.take(tensor.to(device))
    problems = {
        "missing": [name for name, entries in expected.items() if any(entry.is_required for entry in entries)],
        "not part of the model": extra,
        "of a wrong shape": wrong_shapes,
        "of an unsupported type": wrong_types,
    }
    found = [f"{len(names)} {what}: {_listed(names)}" for what, names in problems.items() if names]
    if found:
        raise ModelError(
            f"The checkpoint does not fit its config.json ({model.config.architecture}). Tensors {'; '.join(found)}."
        )


def _iterate_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
        while names:
            with safe_open(path, framework="pt", device="cpu") as file:
                num_bytes = 0
                while names and num_bytes < _REOPEN_AFTER_BYTES:
                    name = names.pop(0)
                    tensor = file.get_tensor(name)
                    num_bytes += tensor.nbytes
                    yield name, tensor
                    del tensor
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is broken or incomplete: {error}. Download or copy it again.") from error
    except (RuntimeError, MemoryError) as error:  # what torch says of a file that it cannot map
        raise ModelError(
            f"{path} ({format_bytes(path.stat().st_size)}) cannot be mapped into memory: {error}. A file must be "
            "smaller than the memory that is free: use a checkpoint in more shards, or a larger machine."
        ) from error


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read: it must be JSON with a 'weight_map' ({error!r}).") from error
    for name in names:
        # A name of the index is a file beside it, never a path to somewhere else.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: weight_map names {name!r}; it may only name .safetensors files beside it.")
    return names


def _no_safetensors(directory: Path) -> ModelError:
    present = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    pickles = [name for name in present if name.endswith((".bin", ".pt", ".pth"))]
    if pickles:
        return ModelError(
            f"{directory} has weights only in pickle form ({_listed(pickles)}), which can run code when it is loaded. "
            "Only safetensors are read. Convert them once with transformers, from a source that you trust: "
            "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)."
        )
    return ModelError(
        f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}; it holds {_listed(present) or 'nothing'}. "
        "Use --load-format dummy for random weights."
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
