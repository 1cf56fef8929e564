"""Mixtral (arXiv:2401.04088)."""

from __future__ import annotations

from octavo.models.layers.attention import SelfAttention
from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.mixture import MixtureOfExperts
from octavo.models.layers.parameters import Placement


class MixtralLayer(DecoderLayer):
    """A layer under Mixtral's name of its experts."""

    mlp_name = "block_sparse_moe"


class MixtralForCausalLM(CausalLM):
    """Mistral with a mixture of experts in each layer."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = SelfAttention(config, placement, qkv_bias=False, sliding_window=config.layer_windows[index])
        experts = MixtureOfExperts(config, placement, expert_names=("w1", "w3", "w2"))
        return MixtralLayer(config, attention, experts, placement)
