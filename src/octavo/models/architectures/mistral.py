"""Mistral (arXiv:2310.06825)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class MistralForCausalLM(CausalLM):
    """Llama without biases; each token sees only the last ``sliding_window`` positions, if the config sets one."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(config, placement, qkv_bias=False, sliding_window=config.layer_windows[index])
        return DecoderLayer(config, attention, GatedMLP(config, placement), placement)
