"""GGUF files: what the gguf package writes is read back, and whatever is broken gives one clear error."""

from __future__ import annotations

import struct
from array import array
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import ModelError
from octavo.models.gguf.reader import is_gguf, read_gguf
from octavo.models.gguf.split import open_gguf
from tests.gguf_files import add_tensor, split_files, write


def number(value: int, code: str = "Q") -> bytes:
    return struct.pack(f"<{code}", value)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return number(len(data)) + data


def header(num_tensors: int = 0, num_keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + number(version, "I") + number(num_tensors) + number(num_keys)


def tensor_info(name: str, dimensions: list[int], kind: int = 0, offset: int = 0) -> bytes:
    sizes = b"".join(number(size) for size in dimensions)
    return string(name) + number(len(dimensions), "I") + sizes + number(kind, "I") + number(offset)


def save(directory: Path, content: bytes) -> Path:
    path = directory / "model.gguf"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_uint8("small", 200)
    writer.add_int64("large", -(2**40))
    writer.add_float32("half", 0.5)
    writer.add_float64("tenth", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "你好 🙂")
    writer.add_array("strings", ["", "a b", "你"])
    writer.add_array("integers", [1, -2, 3])
    writer.add_array("floats", [0.5, -1.25])
    add_tensor(writer, "matrix", np.arange(64, dtype=np.float32).reshape(2, 32), GGMLQuantizationType.Q8_0)
    add_tensor(writer, "vector", np.array([1.0, 2.0, 3.0], dtype=np.float32), GGMLQuantizationType.F32)
    add_tensor(writer, "cube", np.ones((2, 3, 4), dtype=np.float32), GGMLQuantizationType.F16)
    write(writer)
    return path


def test_metadata_is_read_as_it_was_written(written: Path) -> None:
    assert is_gguf(written)
    metadata = read_gguf(written).metadata
    values = {name: list(value) if isinstance(value, array) else value for name, value in metadata.items()}
    assert values == {
        "general.architecture": "llama",
        "small": 200,
        "large": -(2**40),
        "half": 0.5,
        "tenth": 0.1,
        "yes": True,
        "text": "你好 🙂",
        "strings": ["", "a b", "你"],
        "integers": [1, -2, 3],
        "floats": [0.5, -1.25],
    }


def test_tensors_have_the_shapes_types_and_bytes_that_the_gguf_package_reads(written: Path) -> None:
    ours = read_gguf(written).tensors
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(written).tensors}
    assert ours.keys() == theirs.keys() == {"matrix", "vector", "cube"}
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(reversed(tensor.shape.tolist()))
        assert ours[name].type.name == tensor.tensor_type.name
        assert ours[name].data().tobytes() == tensor.data.tobytes()


def test_version_2_is_read_too(written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    path = save(tmp_path, content[:4] + number(2, "I") + content[8:])
    assert read_gguf(path).metadata == read_gguf(written).metadata


def test_other_alignments_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    for name in ("a", "b"):
        add_tensor(writer, name, np.full(3, ord(name), dtype=np.float32), GGMLQuantizationType.F32)
    write(writer)
    tensors = read_gguf(path).tensors
    assert {name: list(tensor.data().cast("f")) for name, tensor in tensors.items()} == {
        "a": [97.0] * 3,
        "b": [98.0] * 3,
    }
    assert tensors["b"].offset % 256 == 0


KEY = string("key")
ONE_KEY = header(num_keys=1)
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "magic": (b"GGML" + bytes(40), "no GGUF file"),
    "only the magic": (b"GGUF", "ends too early"),
    "version 1": (header(version=1), "version 1. Only versions 2 and 3"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
    "too many keys": (header(num_keys=2**63), "9223372036854775808 metadata keys"),
    "too many tensors": (header(num_tensors=2**62), "4611686018427387904 tensors"),
    "a key without end": (ONE_KEY + number(2**64 - 1) + bytes(64), "a string of 18446744073709551615 bytes"),
    "a key that is not UTF-8": (ONE_KEY + string(b"\xff\xfe") + bytes(64), "not UTF-8"),
    "a key twice": (header(num_keys=2) + (KEY + number(0, "I") + b"\1") * 2, "key 'key' twice"),
    "an unknown value type": (ONE_KEY + KEY + number(99, "I") + bytes(9), "unknown type 99"),
    "an array of arrays": (ONE_KEY + KEY + number(9, "I") + number(9, "I") + bytes(99), "unknown type 9"),
    "too many numbers": (ONE_KEY + KEY + number(9, "I") + number(4, "I") + number(2**40), "1099511627776 numbers in"),
    "too many strings": (ONE_KEY + KEY + number(9, "I") + number(8, "I") + number(2**61), "strings in 'key'"),
    "alignment 0": (ONE_KEY + string("general.alignment") + number(4, "I") + number(0, "I"), "multiple of 8"),
    "no dimensions": (header(1) + tensor_info("t", []) + bytes(64), "0 dimensions"),
    "too many dimensions": (header(1) + tensor_info("t", [1] * 5) + bytes(64), "5 dimensions"),
    "a size of 0": (header(1) + tensor_info("t", [0]) + bytes(64), "none may be 0"),
    "half a block": (header(1) + tensor_info("t", [33], kind=8) + bytes(64), "multiple of 32"),
    "an unsupported type": (header(1) + tensor_info("t", [256], kind=17) + bytes(99), "type IQ2_XS. Supported are F32"),
    "a type that ggml lacks": (header(1) + tensor_info("t", [256], kind=999) + bytes(999), "number 999"),
    "a tensor twice": (header(2) + tensor_info("t", [1]) * 2 + bytes(64), "two tensors t"),
    "a tensor beyond the end": (header(1) + tensor_info("t", [2**60]) + bytes(64), "the file has"),
    "an offset beyond the end": (header(1) + tensor_info("t", [1], offset=2**63) + bytes(64), "the file has"),
    "an offset in between": (header(1) + tensor_info("t", [1], offset=8) + bytes(64), "no multiple of 32"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    path = save(tmp_path, content)
    with pytest.raises(ModelError) as refused:
        read_gguf(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_header_that_is_longer_than_any_real_one_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.models.gguf.reader._MAX_HEADER_BYTES", 64)
    path = save(tmp_path, header(num_keys=1) + KEY + number(8, "I") + string("x" * 200))
    with pytest.raises(ModelError, match="header is longer than 64 bytes"):
        read_gguf(path)


def test_directory_and_missing_file_are_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(ModelError, match="cannot be read"):
            read_gguf(path)
        with pytest.raises(ModelError, match="cannot be read"):
            is_gguf(path)


def test_file_that_has_become_shorter_is_told(written: Path, tmp_path: Path) -> None:
    path = save(tmp_path, written.read_bytes())
    tensor = read_gguf(path).tensors["cube"]
    path.write_bytes(path.read_bytes()[: tensor.offset])
    with pytest.raises(ModelError, match="tensor cube cannot be read"):
        tensor.data()


@given(data=st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_is_read_or_refused_at_once(written: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(written.read_bytes())
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))), label="length")]
    for _ in range(data.draw(st.integers(0, 3), label="mutations")):
        place = data.draw(st.integers(0, max(0, len(content) - 1)), label="place")
        new: Any = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))))
        content[place : place + len(new)] = new
    path = save(tmp_path, bytes(content))
    try:
        file = read_gguf(path)
    except ModelError:
        return
    for tensor in file.tensors.values():
        assert len(tensor.data()) == tensor.num_bytes <= len(content)


def make_parts(directory: Path, count: int = 3) -> list[Path]:
    """A model of one tensor a part."""
    paths = list(split_files(directory, "model", count))
    for index, path in enumerate(paths):
        writer = GGUFWriter(path, "llama")
        writer.add_uint16("split.no", index)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", count)
        if index == 0:
            writer.add_string("first", "yes")
        add_tensor(writer, f"tensor{index}", np.full(2, index, dtype=np.float32), GGMLQuantizationType.F32)
        write(writer)
    return paths


@pytest.mark.parametrize("named", [0, 2])
def test_parts_of_a_split_model_are_put_together(named: int, tmp_path: Path) -> None:
    file = open_gguf(make_parts(tmp_path)[named])
    assert file.metadata["first"] == "yes"
    assert {name: list(tensor.data().cast("f")) for name, tensor in file.tensors.items()} == {
        "tensor0": [0.0, 0.0],
        "tensor1": [1.0, 1.0],
        "tensor2": [2.0, 2.0],
    }


def test_missing_part_is_named(tmp_path: Path) -> None:
    paths = make_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelError, match=r"one of 3 files .* 1 are missing beside it, model-00002-of-00003\.gguf"):
        open_gguf(paths[0])


def test_part_under_another_name_is_refused(tmp_path: Path) -> None:
    paths = make_parts(tmp_path)
    renamed = paths[0].rename(tmp_path / "model.gguf")
    with pytest.raises(ModelError, match=r"one of 3 files .*as in model-00001-of-00003\.gguf"):
        open_gguf(renamed)


def test_part_of_another_number_is_refused(tmp_path: Path) -> None:
    paths = make_parts(tmp_path)
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(ModelError, match=r"model-00002-of-00003\.gguf is not the part"):
        open_gguf(paths[0])


@pytest.mark.parametrize("value", [-1, True, "3"])
def test_number_of_parts_must_be_a_whole_number(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    add = {bool: writer.add_bool, int: writer.add_int32, str: writer.add_string}[type(value)]
    add("split.count", value)
    write(writer)
    with pytest.raises(ModelError, match=r"'split\.count' is .* must be a whole number"):
        open_gguf(path)
