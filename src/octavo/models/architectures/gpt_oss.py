"""GPT-OSS (arXiv:2508.10925)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.elementwise import in_whole_vectors
from octavo.models.layers.linear import Linear, MergedLinear
from octavo.models.layers.mixture import MixtureOfExperts
from octavo.models.layers.parameters import CheckpointTensor, Placement

_ALPHA = 1.702
_LIMIT = 7.0


class ClampedExpert(nn.Module):
    """``down((up + 1) * gate * sigmoid(1.702 * gate))`` with gate and up bounded by 7, and biases everywhere."""

    def __init__(self, hidden_size: int, expert_size: int, placement: Placement) -> None:
        super().__init__()
        self.gate_up_proj = MergedLinear(
            hidden_size, (expert_size, expert_size), bias=True, placement=placement, is_fused=True
        )
        self.down_proj = Linear(expert_size, hidden_size, bias=True, placement=placement)

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        gate, up = gate.clamp(max=_LIMIT), up.clamp(-_LIMIT, _LIMIT)
        output: Tensor = self.down_proj((up + 1) * gate * in_whole_vectors(torch.sigmoid, _ALPHA * gate))
        return output


class StackedExperts(MixtureOfExperts):
    """Experts that the checkpoint has in one tensor for each kind of matrix, transposed: inputs, then outputs.

    The columns of gate and up alternate there; here all gates come first.
    """

    def __init__(self, config: ModelConfig, placement: Placement) -> None:
        mixture = config.mixture
        assert mixture is not None, "the reader of this family makes one"
        super().__init__(
            config,
            placement,
            make_expert=lambda: ClampedExpert(config.hidden_size, mixture.expert_size, placement),
            router_bias=True,
            router_name="router",
        )

    def expert_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        experts = tuple(cast("Iterable[ClampedExpert]", self.experts))
        yield from _stacked(f"{name}.gate_up_proj", [expert.gate_up_proj for expert in experts], _gates_first)
        yield from _stacked(f"{name}.down_proj", [expert.down_proj for expert in experts], lambda rows: rows)


class GptOssForCausalLM(CausalLM):
    """Mixtures of experts, an attention sink for each head, and a sliding window in every other layer."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(
            config,
            placement,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            sliding_window=config.layer_windows[index],
            has_sinks=True,
        )
        return DecoderLayer(config, attention, StackedExperts(config, placement), placement)


def _gates_first(rows: Tensor) -> Tensor:
    return torch.cat((rows[0::2], rows[1::2]))


def _stacked(name: str, linears: list[MergedLinear], order: Callable[[Tensor], Tensor]) -> Iterator[CheckpointTensor]:
    """Declare the two tensors that hold weights and biases of all ``linears``, rows in an ``order`` of their own."""
    matrix, bias = zip(*(linear.checkpoint_tensors(name) for linear in linears), strict=True)

    def take(parts: Sequence[CheckpointTensor], stack: Tensor) -> None:
        for part, tensor in zip(parts, stack, strict=True):
            part.take(order(tensor.T if tensor.ndim == 2 else tensor))

    outputs, inputs = matrix[0].shape
    yield CheckpointTensor(name, (len(linears), inputs, outputs), partial(take, matrix))
    yield CheckpointTensor(f"{name}_bias", (len(linears), outputs), partial(take, bias))
