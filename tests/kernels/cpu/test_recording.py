"""Recorded kernel calls: made again they compute the same from new numbers, and nothing else can be recorded."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from octavo import kernels
from octavo.kernels import cpu
from octavo.kernels.cpu.recording import Arena, Batch, NotRecordableError, record

pytestmark = pytest.mark.skipif(not cpu.has_native(), reason="no native kernels")


class Block:
    """A norm, a gated layer and a linear layer that adds to its input."""

    def __init__(self, size: int) -> None:
        self.norm = torch.rand(size)
        self.up = cpu.pack(torch.randn(4 * size, size), gated=True)
        self.down = cpu.pack(torch.randn(size, 2 * size).bfloat16())

    def __call__(self, x: Tensor) -> Tensor:
        normalised, total = kernels.rms_norm(x, self.norm, 1e-6)
        heads = normalised.unflatten(1, (4, -1)).flatten(1)
        return cpu.linear(cpu.linear_silu_and_mul(heads, self.up), self.down, residual=total)


def test_calls_compute_again_from_new_numbers() -> None:
    block, x = Block(32), torch.randn(3, 32)
    result, calls = record(lambda: block(block(x)), Arena())
    assert len(calls) == 6
    for _ in range(3):
        x.normal_()
        calls.run()
        torch.testing.assert_close(result, block(block(x)), rtol=0, atol=0)


def test_calls_are_made_for_smaller_batches() -> None:
    block, x = Block(32), torch.randn(6, 32)
    result, calls = record(lambda: block(block(x)), Arena(), Batch(6, 2))
    for num_tokens in (6, 1, 4, 0, 5):
        x.normal_()
        result.fill_(-1)
        calls.run(Batch(num_tokens, 1))
        torch.testing.assert_close(result[:num_tokens], block(block(x[:num_tokens])), rtol=0, atol=0)
        assert (result[num_tokens:] == -1).all()
    for batch in (Batch(7, 2), Batch(6, 3), Batch(-1, 1)):
        with pytest.raises(ValueError, match="calls for 6 tokens of 2 sequences cannot be made for"):
            calls.run(batch)


def test_rows_of_a_part_of_the_tokens_are_refused() -> None:
    x, weight = torch.randn(6, 32), cpu.pack(torch.randn(8, 32))
    with pytest.raises(
        NotRecordableError, match="linear cannot be recorded: 5 rows are no multiple of the 6 of the batch"
    ):
        record(lambda: cpu.linear(x[:5], weight), Arena(), Batch(6, 1))


def test_memory_is_shared_by_all_that_is_not_needed_at_the_same_time() -> None:
    block, x, arena = Block(64), torch.randn(2, 64), Arena()

    def many_blocks() -> Tensor:
        y = x
        for _ in range(20):
            y = block(y)
        return y

    first, _ = record(lambda: block(block(x)), arena)
    num_bytes = arena.num_bytes
    second, calls = record(many_blocks, arena)
    assert arena.num_bytes <= num_bytes + first.nbytes  # what the first one returned stays taken
    arena.fill_free(0xFF)
    calls.run()
    torch.testing.assert_close(second, many_blocks(), rtol=0, atol=0)


def test_weights_live_as_long_as_the_calls() -> None:
    x = torch.randn(2, 16)
    weight = torch.randn(8, 16)
    packed = [cpu.pack(weight)]
    result, calls = record(lambda: cpu.linear(x, packed[0]), Arena())
    packed.clear()
    gc.collect()
    result.zero_()
    calls.run()
    torch.testing.assert_close(result, x @ weight.T)


@pytest.mark.parametrize(
    "function",
    [lambda x: x + 1, lambda x: x.t().reshape(-1), torch.clone, lambda x: x.mul_(2), lambda x: x.sum().item()],
)
def test_what_torch_computes_is_refused(function: object) -> None:
    x = torch.randn(2, 3)
    with torch.inference_mode(), pytest.raises(NotRecordableError, match="cannot be recorded"):
        record(lambda: function(x), Arena())
    # Nothing is left behind: kernels run as before.
    kernels.rms_norm(x, torch.ones(3), 1e-6)
    assert torch.equal(x + 1, 1 + x)


def test_what_the_program_cannot_hold_is_refused() -> None:
    with pytest.raises(NotRecordableError, match="set_num_threads cannot be recorded"):
        record(lambda: cpu.load_native().set_num_threads(1), Arena())
