"""The models here are tiny: on a busy machine, threads that wait for each other cost more than they bring."""

from __future__ import annotations

import os

import torch

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
