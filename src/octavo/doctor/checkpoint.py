"""The headers of a checkpoint's weights: names, shapes and types of all tensors. Their contents are not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from octavo.doctor.findings import Findings
from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.loading import LoadOptions, placement_of
from octavo.models.pooling_files import ModelKind
from octavo.models.pooling_loading import build_pooling_model, own_names
from octavo.models.quantization.choice import choose_formats
from octavo.models.registry import model_class
from octavo.models.weights import checkpoint_files, load_weights

_META = torch.device("meta")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def check_checkpoint(directory: Path, kind: ModelKind, findings: Findings) -> None:
    """Load the tensors' headers into a model that has shapes but no memory, as a server loads the tensors.

    The table of a GGUF file was checked when its configuration was read.
    """
    if directory.is_file():
        return
    config = kind.config
    with findings.catching("weights"):
        files = checkpoint_files(directory)
        broken = [problem for problem in map(_problem_of_file, files) if problem]
        for problem in broken:
            findings.error("weights", problem)
        if not broken:
            tensors = (tensor for path in files for tensor in _headers(path))
            formats = choose_formats(None, config.quantization)
            options = LoadOptions(torch.float32, _META)
            if kind.pooling is None and isinstance(config, ModelConfig):
                model = model_class(config.architecture)(config, placement_of(options, formats))
                load_weights(model, tensors, _META, take=False)
            else:
                pooling_model = build_pooling_model(config, options, formats)
                load_weights(pooling_model, own_names(config, tensors), _META, take=False)


def _problem_of_file(path: Path) -> str | None:
    """Say what is wrong with a file; None if its header is sound and its length is what the header says."""
    try:
        for _ in _headers(path):
            pass
    except ModelError as error:
        return str(error)
    return None


def _headers(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and shape of each tensor, as a tensor without memory."""
    try:
        # As numpy: for torch the file is mapped in a way that counts against the memory that is free.
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                header = file.get_slice(name)
                dtype = header.get_dtype()
                if dtype not in _DTYPES:
                    raise ModelError(f"{path}: the tensor {name} has the type {dtype}, which is not supported.")
                yield name, torch.empty(header.get_shape(), dtype=_DTYPES[dtype], device=_META)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is broken or incomplete: {error}. Download or copy it again.") from error
