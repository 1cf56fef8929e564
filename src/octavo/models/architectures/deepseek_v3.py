"""DeepSeek-V3 and R1 (arXiv:2412.19437)."""

from __future__ import annotations

from octavo.models.architectures.deepseek_v2 import DeepseekV2ForCausalLM

_LAYERS = "model.layers."


class DeepseekV3ForCausalLM(DeepseekV2ForCausalLM):
    """DeepSeek-V2 with another router. The layers that predict further tokens are left out."""

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint tensor may be left out: as for all models, or part of a layer beyond the last."""
        index = name.removeprefix(_LAYERS).partition(".")[0]
        is_beyond = name.startswith(_LAYERS) and index.isdecimal() and int(index) >= self.config.num_hidden_layers
        return is_beyond or super().ignores(name)
