from __future__ import annotations

import pytest

from octavo.plan.memory import blocks_of_sequence, blocks_that_fit, kv_bytes_per_token


def test_llama_3_8b_keeps_128_kib_a_token_in_bfloat16() -> None:
    # 32 layers, 8 key/value heads of 128 dimensions: the figure that its users know.
    assert kv_bytes_per_token(32, 8, 128, 2) == 128 * 1024


@pytest.mark.parametrize(
    ("memory_bytes", "expected"), [(0, 0), (-5, 0), (15, 0), (16, 1), (31, 1), (32, 2), (2**40, 2**36)]
)
def test_only_whole_blocks_fit(memory_bytes: int, expected: int) -> None:
    assert blocks_that_fit(memory_bytes, block_size=4, bytes_per_token=4) == expected


@pytest.mark.parametrize(("num_tokens", "expected"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_last_block_of_a_sequence_may_be_partly_filled(num_tokens: int, expected: int) -> None:
    assert blocks_of_sequence(num_tokens, block_size=16) == expected
