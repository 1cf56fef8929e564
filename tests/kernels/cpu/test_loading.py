"""Finding the native module: it is there where it could be built, and its instruction set can be chosen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from octavo.kernels.cpu import native_status
from octavo.kernels.cpu.loading import load_again

CPU_INFO = Path("/proc/cpuinfo")


@pytest.fixture
def reload_native() -> None:
    """Forget the module before the test and after it."""
    load_again()
    yield
    load_again()


def active_isa(value: str) -> subprocess.CompletedProcess[str]:
    program = "from octavo.kernels import cpu; print(cpu.native_status().active_isa)"
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OCTAVO_CPU_ISA": value},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.skipif(shutil.which("c++") is None or bool(os.environ.get("OCTAVO_NO_NATIVE")), reason="no compiler")
def test_with_a_compiler_the_module_is_built() -> None:
    assert native_status().missing_because is None


def test_the_best_instruction_set_is_used(native: ModuleType) -> None:
    status = native_status()
    assert status.available_isas[0] == "portable"
    assert status.active_isa == status.available_isas[-1]
    assert active_isa("").stdout.strip() == status.available_isas[-1]


def test_a_variable_chooses_another_instruction_set(native: ModuleType) -> None:
    assert active_isa("portable").stdout == "portable\n"


def test_a_model_of_an_instruction_set_is_used_only_if_it_is_named(native: ModuleType) -> None:
    status = native_status()
    assert not set(status.modelled_isas) & set(status.available_isas)
    for name in status.modelled_isas:
        assert active_isa(name).stdout == f"{name}\n"


@pytest.mark.skipif(not CPU_INFO.exists(), reason="the system does not list the processor's features")
def test_tiles_are_used_only_on_a_processor_that_has_them(native: ModuleType) -> None:
    features = set(CPU_INFO.read_text().split())
    if not {"amx_tile", "amx_int8", "amx_bf16"} <= features:
        assert "amx" not in native_status().available_isas
        with pytest.raises(ValueError, match="this processor has no amx; it has: portable"):
            native.set_active_isa("amx")


def test_an_unknown_instruction_set_is_refused_with_the_list(native: ModuleType) -> None:
    done = active_isa("avx1024")
    assert done.returncode != 0
    assert "OCTAVO_CPU_ISA=avx1024 is no instruction set of this machine; it has portable" in done.stderr
    with pytest.raises(ValueError, match="this processor has no avx1024; it has: portable"):
        native.set_active_isa("avx1024")


@pytest.mark.usefixtures("reload_native")
def test_a_missing_module_is_a_status_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "octavo.kernels.cpu._native", None)
    status = native_status()
    assert status.missing_because == "this installation was made without a C++ compiler"
    assert (status.available_isas, status.active_isa) == ((), None)


@pytest.mark.usefixtures("reload_native")
def test_a_module_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("version GLIBCXX_3.4.99 not found")

    monkeypatch.setattr("octavo.kernels.cpu.loading.importlib.import_module", fail)
    assert native_status().missing_because == "version GLIBCXX_3.4.99 not found"
