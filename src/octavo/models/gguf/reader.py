"""The GGUF format, versions 2 and 3, little endian (ggml's docs/gguf.md): metadata, and where each tensor lies.

A file comes from outside. Every count, length and offset in it is checked against the bytes that are there before
anything is done with it, so that a broken or hostile file costs no more time and memory than its header is long.
"""

from __future__ import annotations

import math
import mmap
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ModelError
from octavo.models.gguf.tensor_types import TensorType, tensor_type

MAGIC = b"GGUF"

_MAX_HEADER_BYTES = 2**27  # the largest vocabularies make headers of about 2**24
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_LEAST_KEY_BYTES = 8 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of a file, still in the file.

    Attributes:
        name: as the file calls it.
        shape: the slowest dimension first, as in torch; the file states it the other way round.
        path: the file.
        offset: where its bytes begin in the file.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    path: Path
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, the elements along the last dimension."""
        return self.shape[-1] // self.type.block_size * self.type.block_bytes

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape[:-1]) * self.row_bytes

    def data(self) -> memoryview:
        """Map the tensor's bytes; the pages are let go with the view.

        The view counts as writable, since torch and numpy want that of a buffer, but what is written stays private.

        Raises:
            ModelError: the file has become unreadable or shorter.
        """
        start = self.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        skipped = self.offset - start
        try:
            with self.path.open("rb") as file:
                mapping = mmap.mmap(file.fileno(), skipped + self.num_bytes, access=mmap.ACCESS_COPY, offset=start)
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.path}: tensor {self.name} cannot be read: {error}.") from error
        return memoryview(mapping)[skipped:]


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says: its metadata, and its tensors by name.

    Attributes:
        metadata: key to number, truth value, string, list of strings, or array of numbers (truth values as 0 and 1).
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def read_gguf(path: Path) -> GgufFile:
    """Read everything but the tensors' bytes.

    Raises:
        ModelError: the file is no GGUF file, is broken or truncated, or has what is not supported.
    """
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            header_bytes = min(file_bytes, _MAX_HEADER_BYTES)
            if header_bytes == 0:
                raise ModelError(f"{path} is empty.")
            with mmap.mmap(file.fileno(), header_bytes, access=mmap.ACCESS_READ) as mapping:
                return _Parser(path, mapping, file_bytes).parse()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


class _Parser:
    """Goes once through the header of a file, from its first byte on."""

    def __init__(self, path: Path, header: mmap.mmap, file_bytes: int) -> None:
        self._path = path
        self._header = header
        self._end = len(header)
        self._file_bytes = file_bytes
        self._position = 0

    def parse(self) -> GgufFile:
        self._check_version()
        num_tensors = self._count("tensors", _LEAST_TENSOR_BYTES)
        num_keys = self._count("metadata keys", _LEAST_KEY_BYTES)
        metadata: dict[str, Any] = {}
        for _ in range(num_keys):
            key = self._string()
            if key in metadata:
                raise self._error(f"the metadata has the key {key!r} twice")
            metadata[key] = self._value(key, self._number("I"))
        alignment = self._alignment(metadata)
        infos: dict[str, tuple[tuple[int, ...], TensorType, int]] = {}
        for _ in range(num_tensors):
            name = self._string()
            if name in infos:
                raise self._error(f"there are two tensors {name}")
            infos[name] = self._tensor_info(name)
        data_start = -(-self._position // alignment) * alignment
        tensors = {name: self._tensor(name, *info, data_start, alignment) for name, info in infos.items()}
        return GgufFile(self._path, metadata, tensors)

    def _check_version(self) -> None:
        if bytes(self._take(len(MAGIC))) != MAGIC:
            raise ModelError(f"{self._path} is no GGUF file: it does not begin with {MAGIC.decode()}.")
        version = self._number("I")
        if version in (2, 3):
            return
        if version and version & 0xFFFF == 0:
            raise ModelError(f"{self._path} is a big-endian GGUF file. Only little-endian ones are read.")
        raise ModelError(f"{self._path} is a GGUF file of version {version}. Only versions 2 and 3 are read.")

    def _alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment <= 0 or alignment % 8 != 0:
            raise self._error(f"general.alignment is {alignment!r}, must be a multiple of 8")
        return alignment

    def _tensor_info(self, name: str) -> tuple[tuple[int, ...], TensorType, int]:
        """Return shape, type and the offset within the data."""
        num_dimensions = self._number("I")
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise self._error(f"tensor {name} has {num_dimensions} dimensions, must have 1 to {_MAX_DIMENSIONS}")
        shape = tuple(self._number("Q") for _ in range(num_dimensions))[::-1]
        kind = tensor_type(self._number("I"), tensor=name, source=str(self._path))
        if 0 in shape or shape[-1] % kind.block_size != 0:
            raise self._error(
                f"tensor {name} of type {kind.name} is {list(shape)}; the last size must be a multiple of "
                f"{kind.block_size} and none may be 0"
            )
        return shape, kind, self._number("Q")

    def _tensor(
        self, name: str, shape: tuple[int, ...], kind: TensorType, offset: int, data_start: int, alignment: int
    ) -> GgufTensor:
        tensor = GgufTensor(name, shape, kind, self._path, data_start + offset)
        if offset % alignment != 0:
            raise self._error(f"tensor {name} begins at {offset}, which is no multiple of {alignment}")
        end = tensor.offset + tensor.num_bytes
        if end > self._file_bytes:
            raise self._error(f"tensor {name} ends at byte {end}, but the file has {self._file_bytes}")
        return tensor

    def _value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _NUMBERS:
            raise self._error(f"the metadata key {key!r} has a value of the unknown type {kind}")
        number = self._number(_NUMBERS[kind])
        return bool(number) if kind == _BOOL else number

    def _array(self, key: str) -> list[str] | array[Any]:
        kind = self._number("I")
        if kind == _STRING:
            return self._strings(self._count(f"strings in {key!r}", _LENGTH.size))
        if kind not in _NUMBERS:
            raise self._error(f"the metadata key {key!r} is an array of the unknown type {kind}")
        values: array[Any] = array(_NUMBERS[kind])
        count = self._count(f"numbers in {key!r}", values.itemsize)
        values.frombytes(self._take(count * values.itemsize))
        if sys.byteorder == "big":
            values.byteswap()
        return values

    def _count(self, what: str, least_bytes: int) -> int:
        """Read how many of something follow; each of them takes at least so many bytes."""
        count: int = self._number("Q")
        if count * least_bytes > self._end - self._position:
            raise self._too_short(f"{count} {what}")
        return count

    def _number(self, code: str) -> Any:
        (number,) = struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))
        return number

    def _string(self) -> str:
        return self._strings(1)[0]

    def _strings(self, count: int) -> list[str]:
        # One loop without calls of our own: a vocabulary has some hundred thousand strings.
        header, position, end = self._header, self._position, self._end
        strings = []
        for _ in range(count):
            start = position + _LENGTH.size
            if start > end:
                raise self._too_short("a string")
            position = start + _LENGTH.unpack_from(header, position)[0]
            if position > end:
                raise self._too_short(f"a string of {position - start} bytes")
            try:
                strings.append(header[start:position].decode())
            except UnicodeDecodeError as error:
                raise self._error(f"the string at byte {start} is not UTF-8 ({error.reason})") from error
        self._position = position
        return strings

    def _take(self, num_bytes: int) -> bytes:
        start, stop = self._position, self._position + num_bytes
        if stop > self._end:
            raise self._too_short(f"{num_bytes} bytes")
        self._position = stop
        return self._header[start:stop]

    def _too_short(self, announced: str) -> ModelError:
        if self._end < self._file_bytes:
            return self._error(f"its header is longer than {_MAX_HEADER_BYTES} bytes (there should be {announced})")
        return self._error(f"it ends too early: at byte {self._position} there should be {announced}")

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self._path} is broken or incomplete: {what}. Download or copy it again.")
