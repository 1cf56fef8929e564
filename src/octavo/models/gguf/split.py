"""Models that are split over several GGUF files: ``NAME-00001-of-00003.gguf`` and its siblings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from octavo.errors import ModelError
from octavo.models.gguf.reader import GgufFile, GgufTensor, read_gguf

_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


def open_gguf(path: Path) -> GgufFile:
    """Read a model's GGUF file, or all of them if it is split; then ``path`` may be any of them.

    Returns:
        The metadata of the first file and the tensors of all.

    Raises:
        ModelError: a file is missing, broken, not supported, or does not belong to the others.
    """
    named = read_gguf(path)
    count = _whole_number(named, "split.count", default=1)
    if count <= 1:
        return named
    match = _SPLIT_NAME.fullmatch(path.name)
    if match is None or int(match["count"]) != count:
        raise ModelError(
            f"{path} is one of {count} files that make up a model. Give each its name back, as in "
            f"{path.stem}-00001-of-{count:05}.gguf: the others are found by it."
        )
    paths = [path.with_name(f"{match['stem']}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [sibling.name for sibling in paths if not sibling.is_file()]
    if missing:
        raise ModelError(
            f"{path} is one of {count} files that make up a model, and {len(missing)} are missing beside it, "
            f"{missing[0]} among them. Copy them there."
        )
    return _joined([named if sibling == path else read_gguf(sibling) for sibling in paths])


def _joined(files: list[GgufFile]) -> GgufFile:
    first = files[0]
    tensors: dict[str, GgufTensor] = {}
    for number, file in enumerate(files):
        if _whole_number(file, "split.no") != number or _whole_number(file, "split.count") != len(files):
            raise ModelError(f"{file.path} is not the part that its name says: its metadata names another one.")
        twice = tensors.keys() & file.tensors.keys()
        if twice:
            raise ModelError(f"{file.path} repeats tensors of the parts before it: {sorted(twice)[0]}.")
        tensors |= file.tensors
    expected = _whole_number(first, "split.tensors.count", default=len(tensors))
    if expected != len(tensors):
        raise ModelError(f"{first.path}: the parts have {len(tensors)} tensors together, must have {expected}.")
    return GgufFile(first.path, first.metadata, tensors)


def _whole_number(file: GgufFile, key: str, default: int | None = None) -> int:
    value: Any = file.metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ModelError(f"{file.path}: the metadata key {key!r} is {value!r}; it must be a whole number.")
    return value
