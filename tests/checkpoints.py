"""Small random checkpoints made by transformers: the outside oracle of everything that runs a model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

CONFIGS = {
    "deepseek_v2": DeepseekV2Config,
    "deepseek_v3": DeepseekV3Config,
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
    "gpt_oss": GptOssConfig,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "mixtral": MixtralConfig,
    "phi3": Phi3Config,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "qwen3_moe": Qwen3MoeConfig,
}
# Marks a field that the configuration works out by itself.
_DERIVED = object()
# What keeps a family's checkpoint small beside the fields that all have.
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": _DERIVED,
    "q_lora_rank": 32,
    "kv_lora_rank": 48,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
    "moe_intermediate_size": 32,
    "n_routed_experts": 16,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
}
_FAMILY_FIELDS: dict[str, dict[str, Any]] = {
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "gpt_oss": {"num_local_experts": 16, "num_experts_per_tok": 3},
    "mixtral": {"num_local_experts": 16, "num_experts_per_tok": 3},
    "phi3": {"head_dim": _DERIVED},
    "qwen3_moe": {"moe_intermediate_size": 32, "num_experts": 16, "num_experts_per_tok": 3},
}

_SPECIAL_TOKENS = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
_VOCAB_SIZE = 320
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_checkpoint(
    directory: Path,
    family: str,
    *,
    tokenizer: bool = False,
    seed: int = 0,
    max_shard_size: str = "1GB",
    **overrides: Any,
) -> Path:
    """Save a small random float32 model of a family (a key of CONFIGS) and return its directory.

    Every parameter is random, biases and norms included, with a spread that makes ties between logits impossible.

    Args:
        tokenizer: also save a byte-level tokenizer of the model's vocabulary size with a ChatML template. Its ids: 256
            bytes, then merges of two letters, then the special tokens <|bos|> <|eos|> <|im_start|> <|im_end|>.
        overrides: fields of the family's transformers configuration.
    """
    fields: dict[str, Any] = {
        "vocab_size": _VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 1024,
        "bos_token_id": _VOCAB_SIZE - 4,
        "eos_token_id": _VOCAB_SIZE - 3,
        "pad_token_id": None,
        "dtype": "float32",
    }
    fields |= _FAMILY_FIELDS.get(family, {}) | overrides
    config = CONFIGS[family](**{name: value for name, value in fields.items() if value is not _DERIVED})
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                offset = 1.0 if family.startswith("gemma") else 0.0  # Gemma stores its norms less 1
                parameter.uniform_(0.5 - offset, 1.5 - offset, generator=generator)
            else:
                parameter.normal_(std=0.25, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(std=0.25, generator=generator)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    if tokenizer:
        save_tokenizer(directory, config.vocab_size)
    return directory


def load_oracle(directory: Path) -> PreTrainedModel:
    """Load a checkpoint with transformers, freshly: models with dynamic rotary scaling keep state between calls."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation="eager",  # the only one that knows soft caps and sinks
    )
    return model.eval()


def save_tokenizer(directory: Path, vocab_size: int) -> None:
    """Save tokenizer.json and tokenizer_config.json of a byte-level BPE with exactly ``vocab_size`` entries."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    num_merges = vocab_size - len(characters) - len(_SPECIAL_TOKENS)
    if num_merges < 0:
        raise ValueError(f"vocab_size must be at least {len(characters) + len(_SPECIAL_TOKENS)}")
    merges = list(itertools.islice(itertools.product("etaoinshrdlu", repeat=2), num_merges))
    vocab = {text: token_id for token_id, text in enumerate([*characters, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL_TOKENS])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
