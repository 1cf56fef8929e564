"""Qwen3 with mixtures of experts (arXiv:2505.09388)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mixture import MixtureOfExperts
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class Qwen3MoeForCausalLM(CausalLM):
    """Qwen3 with a mixture of experts in the place of the MLP, in all layers or in some."""

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
        is_mixture = config.mixture is not None and config.mixture.layers[index]
        mlp = MixtureOfExperts(config, placement) if is_mixture else GatedMLP(config, placement)
        return DecoderLayer(config, attention, mlp, placement)
