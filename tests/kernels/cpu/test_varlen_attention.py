"""Native attention of encoders equals torch's, for any mixture of lengths."""

from __future__ import annotations

import pytest
import torch

from octavo.kernels import cpu, reference

GROUPS = [[(1, 1)], [(3, 1), (2, 5), (1, 16), (1, 33), (2, 70)], [(1, 300)], [(4, 17), (1, 3)]]


def make_qkv(groups: list[tuple[int, int]], width: int, *, seed: int = 0) -> torch.Tensor:
    num_tokens = sum(count * length for count, length in groups)
    return torch.randn(num_tokens, 3 * width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("num_heads", "head_dim"), [(12, 32), (4, 8), (3, 64), (2, 24), (1, 80), (1, 1)])
def test_it_equals_torch(groups: list[tuple[int, int]], num_heads: int, head_dim: int) -> None:
    qkv = make_qkv(groups, num_heads * head_dim)
    expected = reference.varlen_attention(qkv.double(), groups, head_dim).float()
    torch.testing.assert_close(cpu.varlen_attention(qkv, groups, head_dim), expected, atol=1e-5, rtol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    qkv = make_qkv([(1, 40)], 16) * 30
    expected = reference.varlen_attention(qkv.double(), [(1, 40)], 16).float()
    torch.testing.assert_close(cpu.varlen_attention(qkv, [(1, 40)], 16), expected, atol=1e-3, rtol=1e-4)


def test_rows_may_lie_apart() -> None:
    groups = [(2, 7)]
    wide = make_qkv(groups, 32)[:, :48]
    expected = reference.varlen_attention(wide, groups, 8)
    torch.testing.assert_close(cpu.varlen_attention(wide, groups, 8), expected, atol=1e-5, rtol=1e-5)


def test_a_sequence_is_the_same_bits_whatever_shares_the_batch() -> None:
    groups = [(2, 5), (1, 33)]
    qkv = make_qkv(groups, 64)
    together = cpu.varlen_attention(qkv, groups, 32)
    alone = cpu.varlen_attention(qkv[10:], [(1, 33)], 32)
    assert torch.equal(together[10:], alone)


@pytest.mark.parametrize(("groups", "head_dim"), [([(1, 3)], 8), ([(1, 4)], 7), ([(1, 4), (1, 0)], 8)])
def test_what_does_not_fit_is_refused(groups: list[tuple[int, int]], head_dim: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        cpu.varlen_attention(torch.zeros(4, 3 * 16), groups, head_dim)
