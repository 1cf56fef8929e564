"""Memory that is made ahead: as much as the weights take, used by them, and given back where they do not use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from octavo.config import EngineConfig
from octavo.engine.pages_ahead import weight_pages
from octavo.errors import ModelError
from octavo.kernels.cpu import has_native
from octavo.models.config import ModelConfig
from octavo.models.loading import weight_bytes
from octavo.models.quantization.choice import choose_formats

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes pages ahead")

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 16384,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16",
}
_MIB = 2**20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(_CONFIG))
    return tmp_path


# In a process of its own: the tests before this one leave memory behind that a weight would take first.
_LEND = """
import sys
import torch
from octavo.engine.pages_ahead import PagesAhead
from octavo.kernels import cpu

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

weight = torch.randn(4096, 2048)
cpu.load_native()
seen = [resident_mib()]
pages = PagesAhead(100 << 20)
pages._thread.join()
seen.append(resident_mib())
with pages.lent():
    packed = cpu.pack(weight)
    seen.append(resident_mib())
seen.append(resident_mib())
assert torch.equal(packed.unpack(), weight)
del packed
seen.append(resident_mib())
print(*seen)
"""


@pytest.mark.skipif(not has_native(), reason="no native kernels")
def test_weights_take_the_pages_and_the_others_are_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", _LEND], check=True, capture_output=True, text=True)
    before, made, packed, lent, freed = map(int, run.stdout.split())
    assert made - before == pytest.approx(96, abs=4)
    assert packed - made == pytest.approx(0, abs=8)  # not the 32 that the weight takes
    assert lent - before == pytest.approx(32, abs=8)
    assert freed - before == pytest.approx(0, abs=40)  # unpacking leaves memory of its own behind


_LEND_TO_MANY = """
import torch
from octavo.engine.pages_ahead import PagesAhead
from octavo.kernels import cpu

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

weights = [torch.randn(1280, 1024) for _ in range(12)]  # of 5 MiB each: six would fill a region of 32 but for 2 MiB
cpu.load_native()
before = resident_mib()
pages = PagesAhead(100 << 20)
pages._thread.join()
with pages.lent():
    packed = [cpu.pack(weight) for weight in weights]
lent = resident_mib()
assert all(torch.equal(one.unpack(), weight) for one, weight in zip(packed, weights))
del packed[1:]  # the memory is given back as a whole
assert torch.equal(packed[0].unpack(), weights[0])
print(before, lent)
"""


@pytest.mark.skipif(not has_native(), reason="no native kernels")
def test_small_weights_take_the_pages_without_gaps() -> None:
    run = subprocess.run([sys.executable, "-c", _LEND_TO_MANY], check=True, capture_output=True, text=True)
    before, lent = map(int, run.stdout.split())
    assert lent - before == pytest.approx(60, abs=3)


@pytest.mark.parametrize(
    ("dtype", "quantization"), [("auto", None), ("float32", None), ("auto", "int8"), ("auto", "int4")]
)
def test_there_is_as_much_as_the_weights_take(dtype: str, quantization: str | None, model: Path) -> None:
    config = ModelConfig.from_directory(model)
    torch_dtype = getattr(torch, config.dtype if dtype == "auto" else dtype)
    expected = weight_bytes(config, dtype=torch_dtype, formats=choose_formats(quantization, None))
    settings = EngineConfig(dtype=dtype, quantization=quantization, device="cpu")
    pages = weight_pages(settings, model)
    with pages.lent():
        assert expected - 17 * _MIB < pages.num_bytes <= expected


@pytest.mark.parametrize("config_json", ["{", '{"model_type": "bert"}'])
def test_files_that_say_nothing_of_a_decoder_get_none(config_json: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config_json)
    pages = weight_pages(EngineConfig(device="cpu"), tmp_path)
    with pages.lent():
        assert pages.num_bytes == 0


def test_a_model_that_would_take_most_of_the_memory_gets_none(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.engine.pages_ahead.available_host_memory", lambda: 100 * _MIB)
    pages = weight_pages(EngineConfig(device="cpu"), model)
    with pages.lent():
        assert pages.num_bytes == 0


@pytest.mark.usefixtures("without_native_kernels")
def test_without_native_kernels_all_is_given_back(model: Path) -> None:
    pages = weight_pages(EngineConfig(device="cpu"), model)
    with pages.lent():
        assert pages.num_bytes > 0
        begin = f"{pages._begin:x}-"
        assert begin not in Path("/proc/self/maps").read_text()


def test_what_fails_while_pages_are_lent_gives_them_back(model: Path) -> None:
    pages = weight_pages(EngineConfig(device="cpu"), model)
    with pytest.raises(ModelError, match="broken"), pages.lent():
        raise ModelError("broken")
    assert f"{pages._begin:x}-" not in Path("/proc/self/maps").read_text()
