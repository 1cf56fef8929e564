"""What all tests share: one thread each, since the models are tiny and waiting threads cost more than they bring."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

settings.register_profile(
    "octavo", deadline=None
)  # how long an example takes says more about the machine than the code
settings.load_profile("octavo")

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
