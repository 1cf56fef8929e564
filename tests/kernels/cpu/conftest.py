"""The native module, and every instruction set that this machine runs."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from octavo.kernels.cpu import load_native, native_status


@pytest.fixture(scope="session")
def native() -> Iterator[ModuleType]:
    status = native_status()
    if status.missing_because is not None:
        pytest.skip(f"no native module: {status.missing_because}")
    module = load_native()
    before = module.num_threads()
    module.set_num_threads(2)
    yield module
    module.set_num_threads(before)


STATUS = native_status()


def use_isa(native: ModuleType, name: str) -> Iterator[str]:
    before = native.active_isa()
    native.set_active_isa(name)
    yield name
    native.set_active_isa(before)


@pytest.fixture(params=STATUS.available_isas or ["none"])
def isa(request: pytest.FixtureRequest, native: ModuleType) -> Iterator[str]:
    """One instruction set after the other, in use while the test runs."""
    yield from use_isa(native, request.param)


@pytest.fixture(params=STATUS.available_isas + STATUS.modelled_isas or ["none"])
def product_isa(request: pytest.FixtureRequest, native: ModuleType) -> Iterator[str]:
    """The same, and models of those that multiply in another way and that this machine may lack."""
    yield from use_isa(native, request.param)
