"""From the fields of a ``config.json`` to a ``ModelConfig``: one reader a family. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.config_readers import dense, gemma

READERS: Mapping[str, Callable[[ConfigFields, str], ModelConfig]] = {
    "Gemma2ForCausalLM": gemma.read_gemma2,
    "Gemma3ForCausalLM": gemma.read_gemma3,
    "LlamaForCausalLM": dense.read_llama,
    "MistralForCausalLM": dense.read_mistral,
    "Qwen2ForCausalLM": dense.read_qwen2,
    "Qwen3ForCausalLM": dense.read_qwen3,
}
