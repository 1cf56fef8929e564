"""The feed-forward block of one decoder layer."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.layers.linear import GatedLinear, Linear
from octavo.models.layers.parameters import CheckpointTensor, Placement


class GatedMLP(nn.Module):
    """SwiGLU (arXiv:2002.05202): ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: ModelConfig, placement: Placement, *, bias: bool = False) -> None:
        super().__init__()
        hidden, intermediate = config.hidden_size, config.intermediate_size
        self.gate_up_proj = GatedLinear(hidden, intermediate, bias=bias, placement=placement)
        self.down_proj = Linear(intermediate, hidden, bias=bias, placement=placement)

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same."""
        output: Tensor = self.down_proj(self.gate_up_proj(x))
        return output

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the three projections."""
        yield from self.gate_up_proj.checkpoint_tensors(f"{name}.gate_proj", f"{name}.up_proj")
        yield from self.down_proj.checkpoint_tensors(f"{name}.down_proj")
