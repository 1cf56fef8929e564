"""Gemma 3 (arXiv:2503.19786), the language model."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer, SandwichLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class Gemma3ForCausalLM(CausalLM):
    """Gemma 2 with normalised queries and keys in the place of bounds; five layers of six have a sliding window, and
    rotate with a base of their own.
    """

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
        return SandwichLayer(config, attention, GatedMLP(config, placement), placement)
