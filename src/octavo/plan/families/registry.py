"""Which families there are, by the ``model_type`` of their ``config.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from octavo.errors import ModelError, nearest_name
from octavo.plan.config_json import ConfigJson
from octavo.plan.families import dense, mixtures, older
from octavo.plan.model_shape import ModelShape


@dataclass(frozen=True, slots=True)
class _Family:
    """How to read one family: its reader, the class of its language model, and what absent fields mean."""

    read: Callable[[ConfigJson], ModelShape]
    architecture: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


_TIED = {"tie_word_embeddings": True}
_GEMMA = {"head_dim": 256, **_TIED}
# Multimodal checkpoints leave out what is the default of the language model inside.
_GEMMA3 = {
    **_GEMMA,
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
}

_FAMILIES: Mapping[str, _Family] = {
    "apertus": _Family(dense.read_apertus, "ApertusForCausalLM"),
    "arcee": _Family(dense.read_arcee, "ArceeForCausalLM"),
    "cohere": _Family(dense.read_cohere, "CohereForCausalLM", _TIED),
    "cohere2": _Family(dense.read_cohere2, "Cohere2ForCausalLM", _TIED),
    "deepseek_v2": _Family(mixtures.read_deepseek, "DeepseekV2ForCausalLM"),
    "deepseek_v3": _Family(mixtures.read_deepseek, "DeepseekV3ForCausalLM"),
    "ernie4_5": _Family(dense.read_ernie, "Ernie4_5ForCausalLM", {"head_dim": 128, **_TIED}),
    "exaone4": _Family(dense.read_exaone4, "Exaone4ForCausalLM"),
    "falcon": _Family(older.read_falcon, "FalconForCausalLM", _TIED),
    "gemma": _Family(dense.read_gemma, "GemmaForCausalLM", _GEMMA),
    "gemma2": _Family(dense.read_gemma2, "Gemma2ForCausalLM", _GEMMA),
    "gemma3_text": _Family(dense.read_gemma3, "Gemma3ForCausalLM", _GEMMA3),
    "glm": _Family(dense.read_glm, "GlmForCausalLM", {"head_dim": 128, "num_key_value_heads": 2}),
    "glm4": _Family(dense.read_glm, "Glm4ForCausalLM", {"head_dim": 128, "num_key_value_heads": 2}),
    "glm4_moe": _Family(mixtures.read_glm4_moe, "Glm4MoeForCausalLM"),
    "gpt2": _Family(older.read_gpt2, "GPT2LMHeadModel", _TIED),
    "gpt_neox": _Family(older.read_gpt_neox, "GPTNeoXForCausalLM"),
    "gpt_oss": _Family(mixtures.read_gpt_oss, "GptOssForCausalLM", {"head_dim": 64, "num_key_value_heads": 8}),
    "granite": _Family(dense.read_llama, "GraniteForCausalLM"),
    "granitemoe": _Family(mixtures.read_granite_moe, "GraniteMoeForCausalLM"),
    "hunyuan_v1_dense": _Family(dense.read_qwen3, "HunYuanDenseV1ForCausalLM"),
    "kimi_k2": _Family(mixtures.read_deepseek, "DeepseekV3ForCausalLM"),
    "llama": _Family(dense.read_llama, "LlamaForCausalLM"),
    "llama4_text": _Family(mixtures.read_llama4, "Llama4ForCausalLM", {"head_dim": 128}),
    "minimax_m2": _Family(mixtures.read_minimax_m2, "MiniMaxM2ForCausalLM", {"head_dim": 128}),
    "ministral": _Family(dense.read_mistral, "MinistralForCausalLM"),
    "mistral": _Family(dense.read_mistral, "MistralForCausalLM", {"num_key_value_heads": 8}),
    "mixtral": _Family(mixtures.read_mixtral, "MixtralForCausalLM", {"num_key_value_heads": 8}),
    "nemotron": _Family(dense.read_nemotron, "NemotronForCausalLM"),
    "olmo": _Family(dense.read_olmo, "OlmoForCausalLM"),
    "olmo2": _Family(dense.read_olmo2, "Olmo2ForCausalLM"),
    "olmo3": _Family(dense.read_olmo2, "Olmo3ForCausalLM"),
    "olmoe": _Family(mixtures.read_olmoe, "OlmoeForCausalLM"),
    "opt": _Family(older.read_opt, "OPTForCausalLM", _TIED),
    "phi": _Family(older.read_phi, "PhiForCausalLM"),
    "phi3": _Family(dense.read_mistral, "Phi3ForCausalLM"),
    "phimoe": _Family(mixtures.read_phimoe, "PhimoeForCausalLM", {"num_key_value_heads": 8}),
    "qwen2": _Family(dense.read_qwen2, "Qwen2ForCausalLM"),
    "qwen2_moe": _Family(mixtures.read_qwen2_moe, "Qwen2MoeForCausalLM"),
    "qwen3": _Family(dense.read_qwen3, "Qwen3ForCausalLM", {"head_dim": 128}),
    "qwen3_moe": _Family(mixtures.read_qwen3_moe, "Qwen3MoeForCausalLM"),
    "seed_oss": _Family(dense.read_seed_oss, "SeedOssForCausalLM", {"head_dim": 128, "num_key_value_heads": 8}),
    "smollm3": _Family(dense.read_llama, "SmolLM3ForCausalLM", {"num_key_value_heads": 4, **_TIED}),
    "stablelm": _Family(dense.read_stablelm, "StableLmForCausalLM"),
    "starcoder2": _Family(dense.read_starcoder2, "Starcoder2ForCausalLM", {"num_key_value_heads": 2, **_TIED}),
}


def supported_families() -> tuple[str, ...]:
    """Return the ``model_type`` of each family, in order."""
    return tuple(_FAMILIES)


def read_model_shape(config: Mapping[str, Any], source: str = "config.json") -> ModelShape:
    """Read a ``config.json``.

    Of a model that sees or hears, the language model inside (``text_config``) is read.

    Args:
        config: the JSON object.
        source: what messages call it.

    Raises:
        ModelError: the family is not known, or a field is missing or wrong.
    """
    inner = config.get("text_config")
    is_part = isinstance(inner, Mapping)
    if isinstance(inner, Mapping):
        shared = {name: config[name] for name in ("dtype", "torch_dtype", "quantization_config") if name in config}
        # An untied head is said outside by some, inside by others; the outer model's own class decides what it has.
        config, source = (
            {**shared, "tie_word_embeddings": config.get("tie_word_embeddings"), **inner},
            (f"{source}, text_config"),
        )
    model_type = _model_type(config)
    family = _FAMILIES.get(model_type)
    if family is None:
        near = nearest_name(model_type, _FAMILIES)
        raise ModelError(
            f"{source}: the model family {model_type!r} is not known to the planner. Known are "
            f"{', '.join(_FAMILIES)}." + (f" The nearest is {near}." if near else "")
        )
    shape = family.read(ConfigJson(config, source, family.defaults))
    return replace(shape, model_type=model_type, architecture=family.architecture, is_part=is_part)


def _model_type(config: Mapping[str, Any]) -> str:
    """Return ``model_type``, or what the architecture's name says where it is absent."""
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type:
        return model_type
    names = config.get("architectures")
    architecture = names[0] if isinstance(names, list) and names else None
    known = (name for name, family in _FAMILIES.items() if family.architecture == architecture)
    return next(known, str(architecture or "unnamed"))
