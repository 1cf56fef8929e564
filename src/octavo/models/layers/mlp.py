"""The feed-forward block of one decoder layer."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.layers.linear import GATED_LINEARS, Linear
from octavo.models.layers.parameters import CheckpointTensor, Placement


class GatedMLP(nn.Module):
    """SwiGLU or GeGLU (arXiv:2002.05202): ``down(activation(gate(x)) * up(x))``.

    Args:
        intermediate_size: width of gate and up; None is the configuration's.
        is_fused: the checkpoint has gate and up in one matrix.
    """

    def __init__(
        self,
        config: ModelConfig,
        placement: Placement,
        *,
        bias: bool = False,
        intermediate_size: int | None = None,
        is_fused: bool = False,
    ) -> None:
        super().__init__()
        hidden, intermediate = config.hidden_size, intermediate_size or config.intermediate_size
        gated_linear = GATED_LINEARS[config.hidden_act]
        self.is_fused = is_fused
        self.gate_up_proj = gated_linear(hidden, intermediate, bias=bias, placement=placement, is_fused=is_fused)
        self.down_proj = Linear(intermediate, hidden, bias=bias, placement=placement)

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same."""
        output: Tensor = self.down_proj(self.gate_up_proj(x))
        return output

    def checkpoint_tensors(
        self, name: str, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj"
    ) -> Iterator[CheckpointTensor]:
        """Declare the projections under the names that the family has for them."""
        parts = ("gate_up_proj",) if self.is_fused else (gate, up)
        yield from self.gate_up_proj.checkpoint_tensors(*(f"{name}.{part}" for part in parts))
        yield from self.down_proj.checkpoint_tensors(f"{name}.{down}")
