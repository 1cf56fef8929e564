"""Qwen2 and Qwen2.5 (arXiv:2407.10671, arXiv:2412.15115)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class Qwen2ForCausalLM(CausalLM):
    """Llama with a bias on query, key and value but none on the output; the upper layers may have a sliding window."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(
            config, placement, qkv_bias=config.attention_bias, sliding_window=config.layer_windows[index]
        )
        return DecoderLayer(config, attention, GatedMLP(config, placement), placement)
