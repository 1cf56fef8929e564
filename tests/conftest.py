"""What all tests share: one thread each, since the models are tiny and waiting threads cost more than they bring."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from octavo.kernels import forget_choices
from octavo.kernels.cpu.loading import ISA_VARIABLE, NO_ISA, load_again

settings.register_profile(
    "octavo", deadline=None
)  # how long an example takes says more about the machine than the code
settings.load_profile("octavo")

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@pytest.fixture
def without_native_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute with torch alone, as where no C++ compiler was found."""
    monkeypatch.setenv(ISA_VARIABLE, NO_ISA)
    _look_again()
    yield
    monkeypatch.undo()
    _look_again()


def _look_again() -> None:
    load_again()
    forget_choices()
