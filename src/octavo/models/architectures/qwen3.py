"""Qwen3 (arXiv:2505.09388)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class Qwen3ForCausalLM(CausalLM):
    """Qwen2 without the biases; instead each head's query and key are normalised before they are rotated."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(
            config,
            placement,
            qkv_bias=config.attention_bias,
            output_bias=config.attention_bias,
            qk_norm=True,
            sliding_window=config.layer_windows[index],
        )
        return DecoderLayer(config, attention, GatedMLP(config, placement), placement)
