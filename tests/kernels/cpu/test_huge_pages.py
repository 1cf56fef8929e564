"""Tensors on huge pages: like any other to their users."""

from __future__ import annotations

import mmap

import pytest
import torch

from octavo.kernels.cpu.huge_pages import HUGE_PAGE_BYTES, empty_on_huge_pages


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("num_tokens", [0, 3, 20_000])
def test_a_tensor_has_its_shape_and_holds_its_numbers(num_tokens: int, dtype: torch.dtype) -> None:
    tensor = empty_on_huge_pages((num_tokens, 2, 64), dtype)
    assert tensor.shape == (num_tokens, 2, 64)
    assert tensor.dtype is dtype
    assert tensor.is_contiguous()
    numbers = torch.randint(-100, 100, tensor.shape).to(dtype)
    tensor.copy_(numbers)
    torch.testing.assert_close(tensor, numbers, rtol=0, atol=0)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages")
def test_a_large_tensor_starts_with_a_page_and_outlives_what_made_it() -> None:
    part = empty_on_huge_pages((HUGE_PAGE_BYTES + 1,), torch.uint8).fill_(7)[-1:]
    assert (part.data_ptr() - HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES == 0
    other = empty_on_huge_pages((HUGE_PAGE_BYTES + 1,), torch.uint8).fill_(8)
    assert (part.item(), other[-1].item()) == (7, 8)


def test_a_system_without_huge_pages_gives_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(mmap.mmap):
        def madvise(self, *_: object) -> None:
            raise OSError("Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Memory)
    assert empty_on_huge_pages((2 * HUGE_PAGE_BYTES,), torch.int8).fill_(1).sum() == 2 * HUGE_PAGE_BYTES
