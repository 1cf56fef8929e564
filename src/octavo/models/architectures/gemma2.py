"""Gemma 2 (arXiv:2408.00118)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer, SandwichLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class Gemma2ForCausalLM(CausalLM):
    """Norms around both blocks, GeGLU, bounded attention scores and logits; every other layer has a sliding window."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(
            config,
            placement,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            sliding_window=config.layer_windows[index],
        )
        return SandwichLayer(config, attention, GatedMLP(config, placement), placement)
