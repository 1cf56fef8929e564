"""How many KV blocks there are, and that the arithmetic is said when they are too few."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.config import EngineConfig
from octavo.engine import memory
from octavo.errors import ConfigError

GIB = 2**30
MIB = 2**20


def budget(num_bytes: int, *, is_explicit: bool = True) -> memory.KVCacheBudget:
    return memory.KVCacheBudget(num_bytes, "--kv-cache-memory-bytes", is_explicit=is_explicit)


def num_blocks(given: memory.KVCacheBudget, *, max_model_len: int = 100, **settings: int) -> int:
    config = EngineConfig(block_size=16, **settings)
    return memory.num_kv_blocks(given, config=config, max_model_len=max_model_len, bytes_per_token=1024)


def test_a_budget_that_the_user_set_is_used_up_but_for_the_padding_block():
    assert num_blocks(budget(100 * 16 * 1024)) == 99
    assert num_blocks(budget(101 * 16 * 1024 - 1)) == 99


def test_a_default_budget_is_not_used_beyond_what_all_sequences_could_hold():
    assert num_blocks(budget(GIB, is_explicit=False), max_num_seqs=3, max_model_len=33) == 3 * 3
    assert num_blocks(budget(GIB), max_num_seqs=3, max_model_len=33) == GIB // (16 * 1024) - 1


def test_room_for_exactly_one_sequence_is_enough():
    assert num_blocks(budget(8 * 16 * 1024), max_model_len=7 * 16) == 7


def test_too_little_for_one_sequence_is_refused_with_the_arithmetic_and_both_ways_out():
    with pytest.raises(ConfigError) as refused:
        num_blocks(budget(8 * 16 * 1024 - 1), max_model_len=7 * 16)
    message = str(refused.value)
    for part in ("max_model_len=112", "7 blocks of 16 tokens", "1,024 bytes a token", "128.0 KiB"):
        assert part in message
    assert "--max-model-len 96 or less" in message
    assert f"--kv-cache-memory-bytes {8 * 16 * 1024} or more" in message
    assert num_blocks(budget(8 * 16 * 1024 - 1), max_model_len=96) == 6, "the advice must work"
    assert num_blocks(budget(8 * 16 * 1024), max_model_len=112) == 7, "the advice must work"


@pytest.mark.parametrize("num_bytes", [1, 16 * 1024])
def test_a_budget_without_one_usable_block_advises_more_memory_only(num_bytes: int):
    with pytest.raises(ConfigError) as refused:
        num_blocks(budget(num_bytes))
    assert "--max-model-len" not in str(refused.value)
    assert "Give --kv-cache-memory-bytes" in str(refused.value)


@pytest.mark.parametrize(("available", "expected"), [(8 * GIB, 2 * GIB), (16 * GIB, 4 * GIB), (100 * GIB, 4 * GIB)])
def test_on_a_cpu_the_default_is_a_quarter_of_what_is_free_at_most_4_gib(available: int, expected: int):
    given = memory.cpu_kv_cache_budget(EngineConfig(), available)
    assert (given.num_bytes, given.is_explicit) == (expected, False)


def test_the_users_budget_goes_before_the_default_on_every_device():
    config = EngineConfig(kv_cache_memory_bytes="3MiB")
    on_cpu = memory.cpu_kv_cache_budget(config, 100 * GIB)
    on_gpu = memory.cuda_kv_cache_budget(config, total_bytes=1, used_bytes=1, peak_activation_bytes=1)
    assert [(b.num_bytes, b.is_explicit) for b in (on_cpu, on_gpu)] == [(3 * MIB, True)] * 2


def test_on_a_gpu_the_budget_is_what_utilization_leaves_after_weights_and_activations():
    config = EngineConfig(gpu_memory_utilization=0.5)
    given = memory.cuda_kv_cache_budget(
        config, total_bytes=80 * GIB, used_bytes=10 * GIB, peak_activation_bytes=2 * GIB
    )
    assert (given.num_bytes, given.is_explicit) == (28 * GIB, False)


def test_a_gpu_that_is_full_is_refused_with_the_arithmetic():
    config = EngineConfig(gpu_memory_utilization=0.5)
    with pytest.raises(ConfigError) as refused:
        memory.cuda_kv_cache_budget(config, total_bytes=80 * GIB, used_bytes=39 * GIB, peak_activation_bytes=2 * GIB)
    for part in ("80.0 GiB", "0.5", "39.0 GiB", "2.0 GiB", "-1.0 GiB", "--gpu-memory-utilization"):
        assert part in str(refused.value)


def test_weights_that_do_not_fit_are_refused_with_both_sizes():
    memory.check_weights_fit(4 * GIB, 4 * GIB, "cpu")
    with pytest.raises(ConfigError, match=r"take 5\.0 GiB, but only 4\.0 GiB of cpu memory are free"):
        memory.check_weights_fit(5 * GIB, 4 * GIB, "cpu")


def write_host(root: Path, *, available_kib: int, **cgroup: str) -> tuple[Path, Path]:
    (root / "proc").mkdir()
    (root / "cgroup").mkdir()
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {available_kib} kB\n")
    for name, content in cgroup.items():
        (root / "cgroup" / name.replace("_", ".")).write_text(content + "\n")
    return root / "proc", root / "cgroup"


def test_the_host_says_how_much_memory_is_free(tmp_path: Path):
    assert memory.available_host_memory(*write_host(tmp_path, available_kib=5000)) == 5000 * 1024


@pytest.mark.parametrize(
    ("limit", "current", "expected"),
    [
        ("4096000", "1024000", 3072000),
        ("max", "1024000", 5000 * 1024),
        ("1000", "2000", 0),
        ("900000000", "0", 5120000),
    ],
)
def test_the_limit_of_a_control_group_counts_if_it_is_lower(tmp_path: Path, limit: str, current: str, expected: int):
    proc, cgroup = write_host(tmp_path, available_kib=5000, memory_max=limit, memory_current=current)
    assert memory.available_host_memory(proc, cgroup) == expected


def test_files_that_a_control_group_merely_caches_count_as_free(tmp_path: Path):
    stat = "anon 500\nfile 3000\ninactive_file 2500\nactive_file 500"
    proc, cgroup = write_host(tmp_path, available_kib=5000, memory_max="10000", memory_current="9000", memory_stat=stat)
    assert memory.available_host_memory(proc, cgroup) == 1000 + 2500


def test_without_proc_all_physical_memory_counts(tmp_path: Path):
    assert memory.available_host_memory(tmp_path, tmp_path) > 64 * MIB


def test_this_machine_has_memory():
    assert memory.available_host_memory() > MIB
