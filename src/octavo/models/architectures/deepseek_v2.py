"""DeepSeek-V2 (arXiv:2405.04434)."""

from __future__ import annotations

from octavo.models.layers.decoder import CausalLM, DecoderLayer
from octavo.models.layers.latent_attention import LatentAttention
from octavo.models.layers.mixture import MixtureOfExperts
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import Placement


class DeepseekV2ForCausalLM(CausalLM):
    """Latent attention, and after a few dense layers mixtures of many small experts and a shared one."""

    def make_layer(self, index: int, placement: Placement) -> DecoderLayer:
        config = self.config
        attention = LatentAttention(config, placement, bias=config.attention_bias)
        is_mixture = config.mixture is not None and config.mixture.layers[index]
        mlp = MixtureOfExperts(config, placement) if is_mixture else GatedMLP(config, placement, bias=config.mlp_bias)
        return DecoderLayer(config, attention, mlp, placement)
