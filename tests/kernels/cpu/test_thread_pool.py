"""The threads of the native kernels: all work is done once, errors come out, and who waits sleeps."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture(params=[1, 2, 5])
def pool(request: pytest.FixtureRequest, native: ModuleType) -> Iterator[ModuleType]:
    native.set_num_threads(request.param)
    assert native.num_threads() == request.param
    yield native.pool_probes
    native.set_num_threads(2)


def test_many_small_regions_end(pool: ModuleType) -> None:
    pool.run_small_regions(20_000, 8)
    pool.meet(200)


@pytest.mark.parametrize("num_tasks", [0, 1, 2, 7, 1000])
def test_each_task_runs_once(pool: ModuleType, num_tasks: int) -> None:
    for _ in range(20):
        assert pool.count_tasks(num_tasks) == [1] * num_tasks


@pytest.mark.parametrize("num_tasks", [0, 1, 2, 7, 1000])
def test_each_task_of_a_stream_runs_once(pool: ModuleType, num_tasks: int) -> None:
    for _ in range(20):
        assert pool.count_streamed_tasks(num_tasks) == [1] * num_tasks


def test_tasks_know_their_thread(pool: ModuleType, native: ModuleType) -> None:
    assert set(pool.threads_of_tasks(1000)) <= set(range(native.num_threads()))
    assert pool.threads_of_tasks(1) == [0]


def test_an_error_in_a_task_comes_out_and_the_pool_goes_on(pool: ModuleType) -> None:
    for failing in (0, 50, 99):
        with pytest.raises(RuntimeError, match=f"task {failing} failed"):
            pool.fail_in_task(100, failing)
        assert pool.count_tasks(10) == [1] * 10


def test_a_region_in_a_region_is_refused(pool: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="a parallel region cannot start another one"):
        pool.nest_regions()
    pool.run_small_regions(1, 8)


def test_regions_of_several_python_threads_take_turns(pool: ModuleType) -> None:
    results: list[list[int]] = []
    callers = [
        threading.Thread(target=lambda: results.extend(pool.count_tasks(100) for _ in range(50))) for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [[1] * 100] * 150


def test_sleeping_workers_use_no_processor_and_wake_again(pool: ModuleType) -> None:
    pool.run_small_regions(1, 8)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
    assert pool.count_tasks(10) == [1] * 10


@pytest.mark.parametrize("num_threads", [0, -1, 100_000])
def test_impossible_numbers_of_threads_are_refused(native: ModuleType, num_threads: int) -> None:
    with pytest.raises(ValueError, match=f"a pool has 1 to 1024 threads, not {num_threads}"):
        native.set_num_threads(num_threads)


def test_the_only_openmp_runtime_in_the_process_is_torchs(native: ModuleType) -> None:
    program = """
import re, torch
from octavo.kernels import cpu
cpu.load_native().set_num_threads(2)
cpu.linear(torch.ones(8, 64), cpu.pack(torch.ones(64, 64)))
torch.ones(256, 256) @ torch.ones(256, 256)
maps = open("/proc/self/maps").read()
print(*sorted(set(re.findall(r"/\\S*lib[gi]?omp[^/\\s]*", maps))), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    (library,) = done.stdout.split()
    assert "/torch" in library
