"""Phi-3, Phi-3.5 and Phi-4 (arXiv:2404.14219, arXiv:2412.08905)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class Phi3ForCausalLM(CausalLM):
    """Llama whose checkpoints have query, key and value in one matrix, and gate and up in another.

    Heads may be rotated in part, and by LongRoPE (arXiv:2402.13753).
    """

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(
            config, placement, qkv_bias=False, sliding_window=config.layer_windows[index], is_fused=True
        )
        return DecoderLayer(config, attention, GatedMLP(config, placement, is_fused=True), placement)
