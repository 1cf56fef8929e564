"""Low-rank adapters (LoRA, arXiv:2106.09685) on linear layers: ``y += scale * up(down(x))``, on some rows of a batch.

A step may have rows of several adapters and of none. A layer computes its base for all rows at once and then adds each
adapter's part on the rows of that adapter, so rows without one cost nothing; a step without any is its base alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from octavo.models.layers.decoder import CausalLM
from octavo.models.layers.latent_attention import LatentAttention
from octavo.models.layers.linear import GatedLinear, MergedLinear
from octavo.models.quantization.base import LinearWeight
from octavo.models.quantization.native import hold_dense

# Experts of a mixture see a choice of the rows, which says nothing of their sequences: only the layers that all tokens
# pass in their order can be adapted.
_ADAPTABLE = re.compile(r"layers\.\d+\.(?:self_attn|mlp)\.\w+")
_PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True, slots=True)
class LowRankDelta:
    """What an adapter adds to one projection.

    Attributes:
        down: ``[rank, input_size]``.
        up: ``[output_size, rank]``, the scale included.
    """

    down: Tensor
    up: Tensor


@dataclass(frozen=True, slots=True)
class AdapterRows:
    """The rows of a step that have the same adapter: a slice if they lie side by side, or their indexes."""

    adapter_id: int
    rows: slice | Tensor


class LoraBatch:
    """Which adapters the rows of the current step have. The layers of a model share one.

    Attributes:
        groups: empty between steps, and in steps without adapters.
    """

    def __init__(self) -> None:
        self.groups: Sequence[AdapterRows] = ()

    @contextmanager
    def of_step(self, groups: Sequence[AdapterRows]) -> Iterator[None]:
        """Let the layers add these adapters while the context is open."""
        self.groups = groups
        try:
            yield
        finally:
            self.groups = ()


@dataclass(frozen=True, slots=True)
class Projection:
    """One projection that an adapter may change.

    Attributes:
        layer: computes it, perhaps beside others.
        columns: its place in the layer's result.
    """

    layer: LoraLinear
    columns: slice

    @property
    def input_size(self) -> int:
        """Inputs of the projection."""
        return self.layer.base.input_size

    @property
    def output_size(self) -> int:
        """Outputs of the projection."""
        start, stop = self.columns.start, self.columns.stop
        return cast(int, stop - start)


class LoraLinear(nn.Module):
    """A linear layer and what adapters add to its result.

    Args:
        native: whether adapters are packed for the CPU's native kernels, as ``base`` is.
    """

    def __init__(self, base: MergedLinear, batch: LoraBatch, *, native: bool) -> None:
        super().__init__()
        self.base = base
        self.output_sizes = base.output_sizes
        self._batch = batch
        self._native = native
        self._deltas: dict[int, list[tuple[slice, LinearWeight, LinearWeight]]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, input_size]`` to ``[num_tokens, sum(output_sizes)]``."""
        result: Tensor = self.base(x)
        self._add(x, result)
        return result

    def put(self, adapter_id: int, columns: slice, delta: LowRankDelta) -> None:
        """Add an adapter's part of the projection in these columns."""
        down, up = (hold_dense(matrix, native=self._native) for matrix in (delta.down, delta.up))
        self._deltas.setdefault(adapter_id, []).append((columns, down, up))

    def drop(self, adapter_id: int) -> None:
        """Forget an adapter, if there is something of it here."""
        self._deltas.pop(adapter_id, None)

    def _add(self, x: Tensor, result: Tensor) -> None:
        for group in self._batch.groups:
            for columns, down, up in self._deltas.get(group.adapter_id, ()):
                result[group.rows, columns] += up(down(x[group.rows]))


class GatedLoraLinear(LoraLinear):
    """A gated layer: adapters are added before its activation."""

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, input_size]`` to ``[num_tokens, output_size]``."""
        if not any(group.adapter_id in self._deltas for group in self._batch.groups):
            return cast(Tensor, self.base(x))
        added = x.new_zeros(len(x), sum(self.output_sizes))
        self._add(x, added)
        return cast(Tensor, self.base(x, added))


class AdaptableModel:
    """A model whose linear layers take adapters.

    Args:
        model: its linear layers are wrapped.

    Attributes:
        projections: what can be adapted, by the name that checkpoints have for it.
    """

    def __init__(self, model: CausalLM) -> None:
        self.model = model
        self.dtype = model.embed_tokens.dtype
        self.batch = LoraBatch()
        self.projections: Mapping[str, Projection] = dict(self._wrap())

    def put(self, adapter_id: int, deltas: Mapping[str, LowRankDelta]) -> None:
        """Add an adapter: what it adds to each projection that it changes."""
        for name, delta in deltas.items():
            projection = self.projections[name]
            projection.layer.put(adapter_id, projection.columns, delta)

    def drop(self, adapter_id: int) -> None:
        """Forget an adapter."""
        for projection in self.projections.values():
            projection.layer.drop(adapter_id)

    def _wrap(self) -> Iterator[tuple[str, Projection]]:
        linears = {
            name: module
            for name, module in self.model.named_modules()
            if isinstance(module, MergedLinear) and _ADAPTABLE.fullmatch(name)
        }
        for name, linear in linears.items():
            kind = GatedLoraLinear if isinstance(linear, GatedLinear) else LoraLinear
            layer = kind(linear, self.batch, native=self.model.is_native)
            path, _, own_name = name.rpartition(".")
            parent = self.model.get_submodule(path)
            setattr(parent, own_name, layer)
            if isinstance(parent, LatentAttention):
                own_name = parent.checkpoint_name(own_name)
            yield from _projections(f"model.{path}", own_name, layer)


def _projections(parent: str, name: str, layer: LoraLinear) -> Iterator[tuple[str, Projection]]:
    """Yield the projections of a layer, and the merged one, since some checkpoints have them as one matrix."""
    yield f"{parent}.{name}", Projection(layer, slice(0, sum(layer.output_sizes)))
    start = 0
    for part, size in zip(_PARTS.get(name, ()), layer.output_sizes, strict=False):
        yield f"{parent}.{part}", Projection(layer, slice(start, start + size))
        start += size
