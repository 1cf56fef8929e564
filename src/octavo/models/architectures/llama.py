"""Llama 2, 3, 3.1 and 3.2 (arXiv:2302.13971, arXiv:2407.21783), and the many models of the same shape."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class LlamaForCausalLM(CausalLM):
    """Pre-norm decoder with RMSNorm, rotary positions, grouped-query attention and SwiGLU; biases only on request."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(config, placement, qkv_bias=config.attention_bias, output_bias=config.attention_bias)
        mlp = GatedMLP(config, placement, bias=config.mlp_bias)
        return DecoderLayer(config, attention, mlp, placement)
