"""From the fields of a ``config.json`` to a ``ModelConfig``: one reader a family. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.config_readers import deepseek, dense, gemma, mixtures

READERS: Mapping[str, Callable[[ConfigFields, str], ModelConfig]] = {
    "DeepseekV2ForCausalLM": deepseek.read_deepseek_v2,
    "DeepseekV3ForCausalLM": deepseek.read_deepseek_v3,
    "Gemma2ForCausalLM": gemma.read_gemma2,
    "Gemma3ForCausalLM": gemma.read_gemma3,
    "GptOssForCausalLM": mixtures.read_gpt_oss,
    "LlamaForCausalLM": dense.read_llama,
    "MistralForCausalLM": dense.read_mistral,
    "MixtralForCausalLM": mixtures.read_mixtral,
    "Phi3ForCausalLM": dense.read_phi3,
    "Qwen2ForCausalLM": dense.read_qwen2,
    "Qwen3ForCausalLM": dense.read_qwen3,
    "Qwen3MoeForCausalLM": mixtures.read_qwen3_moe,
}
