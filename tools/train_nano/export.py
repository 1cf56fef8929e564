"""Writing the model folder in the Hugging Face layout."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from tools.train_nano.model import Nano, NanoConfig
from tools.train_nano.template import SOURCE
from tools.train_nano.tokenizer import CONTROL, END_OF_TEXT, TURN_END, VISIBLE, token_id


def export(model: Nano, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config, bf16 weights, tokenizer and generation defaults of `model` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    end_of_text, end_of_turn = (token_id(tokenizer, token) for token in (END_OF_TEXT, TURN_END))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    _write(folder / "config.json", _config(model.config, end_of_text, end_of_turn))
    _write(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, model.config))
    generation = {
        "bos_token_id": None,
        "do_sample": False,
        "eos_token_id": [end_of_turn, end_of_text],
        "pad_token_id": end_of_text,
    }
    _write(folder / "generation_config.json", generation)
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _config(config: NanoConfig, end_of_text: int, end_of_turn: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": [end_of_turn, end_of_text],
        "pad_token_id": end_of_text,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _tokenizer_config(tokenizer: Tokenizer, config: NanoConfig) -> dict[str, Any]:
    decoder = {
        str(token_id(tokenizer, token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in CONTROL,
        }
        for token in (*CONTROL, *VISIBLE)
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": CONTROL[1:],
        "bos_token": None,
        "chat_template": SOURCE,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "model_max_length": config.max_position_embeddings,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
