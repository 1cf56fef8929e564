"""Adapted layers over weights of every format: the base's own result, and on some rows what an adapter adds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from octavo import kernels
from octavo.kernels.cpu import has_native
from octavo.models.layers.linear import GatedLinear, MergedLinear
from octavo.models.layers.lora import AdapterRows, GatedLoraLinear, LoraBatch, LoraLinear, LowRankDelta
from octavo.models.layers.parameters import Placement
from octavo.models.quantization.base import Dense, LinearFormat
from octavo.models.quantization.rounding import RoundedInt4, RoundedInt8

INPUT_SIZE, SIZE, RANK, NUM_ROWS = 64, 96, 4, 9
FORMATS: dict[str, LinearFormat] = {"dense": Dense(), "int8": RoundedInt8(), "int4": RoundedInt4()}
ROWS: dict[str, slice | Tensor] = {"side by side": slice(2, 6), "apart": torch.tensor([0, 3, 8])}
needs_native = pytest.mark.skipif(not has_native(), reason="there are no native kernels")


@pytest.fixture(params=[False, pytest.param(True, marks=needs_native)], ids=["torch", "native"])
def placement(request: pytest.FixtureRequest) -> Placement:
    return Placement(torch.float32, torch.device("cpu"), Dense(), Dense(), is_native=request.param)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fill(layer: MergedLinear) -> MergedLinear:
    for index, tensor in enumerate(layer.checkpoint_tensors("first", "second")):
        tensor.take(random(*tensor.shape, seed=index) / 8)
    return layer


def deltas() -> list[tuple[slice, LowRankDelta]]:
    parts = (slice(0, SIZE), slice(SIZE, 2 * SIZE))
    return [
        (part, LowRankDelta(random(RANK, INPUT_SIZE, seed=10 + i) / 8, random(SIZE, RANK, seed=20 + i) / 8))
        for i, part in enumerate(parts)
    ]


def expected_delta(x: Tensor, rows: slice | Tensor) -> Tensor:
    delta = torch.zeros(NUM_ROWS, 2 * SIZE)
    for part, low_rank in deltas():
        delta[rows, part] = x[rows] @ (low_rank.up @ low_rank.down).T
    return delta


def adapted(layer: LoraLinear) -> LoraLinear:
    for part, delta in deltas():
        layer.put(7, part, delta)
    return layer


def make(kind: type[MergedLinear], name: str, placement: Placement) -> MergedLinear:
    placement = Placement(placement.dtype, placement.device, FORMATS[name], Dense(), is_native=placement.is_native)
    if kind is GatedLinear:
        return fill(GatedLinear(INPUT_SIZE, SIZE, bias=True, placement=placement))
    return fill(MergedLinear(INPUT_SIZE, (SIZE, SIZE), bias=True, placement=placement))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_merged_layer_has_its_adapters_added(name: str, rows: str, placement: Placement) -> None:
    batch = LoraBatch()
    base = make(MergedLinear, name, placement)
    layer = adapted(LoraLinear(base, batch, native=placement.is_native))
    x = random(NUM_ROWS, INPUT_SIZE, seed=99)
    with torch.inference_mode(), batch.of_step([AdapterRows(7, ROWS[rows]), AdapterRows(8, slice(0, 2))]):
        torch.testing.assert_close(layer(x), base(x) + expected_delta(x, ROWS[rows]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_gated_layer_has_them_added_before_its_activation(name: str, rows: str, placement: Placement) -> None:
    batch = LoraBatch()
    layer = adapted(GatedLoraLinear(make(GatedLinear, name, placement), batch, native=placement.is_native))
    merged = make(MergedLinear, name, placement)
    x = random(NUM_ROWS, INPUT_SIZE, seed=99)
    with torch.inference_mode(), batch.of_step([AdapterRows(7, ROWS[rows])]):
        gate, up = (merged(x) + expected_delta(x, ROWS[rows])).chunk(2, dim=-1)
        torch.testing.assert_close(layer(x), F.silu(gate) * up, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_rows_without_an_adapter_keep_their_bits(name: str, placement: Placement) -> None:
    batch = LoraBatch()
    base = make(GatedLinear, name, placement)
    layer = adapted(GatedLoraLinear(base, batch, native=placement.is_native))
    x = random(NUM_ROWS, INPUT_SIZE, seed=99)
    with torch.inference_mode():
        alone = base(x)
        assert torch.equal(layer(x), alone)
        with batch.of_step([AdapterRows(7, slice(4, 9))]):
            assert torch.equal(layer(x)[:4], alone[:4])
        layer.drop(7)
        with batch.of_step([AdapterRows(7, slice(4, 9))]):
            assert torch.equal(layer(x), alone)


def test_the_batch_forgets_a_step_that_failed() -> None:
    batch = LoraBatch()
    with pytest.raises(RuntimeError), batch.of_step([AdapterRows(7, slice(0, 1))]):
        raise RuntimeError
    assert batch.groups == ()


@needs_native
def test_what_is_added_before_a_gate_must_cover_gate_and_up() -> None:
    packed = kernels.cpu.pack(torch.zeros(2 * SIZE, INPUT_SIZE), gated=True)
    with pytest.raises(TypeError, match="residual"):
        kernels.cpu.linear_silu_and_mul(torch.zeros(1, INPUT_SIZE), packed, added=torch.zeros(1, SIZE))
