"""What the tensors of a GGUF file are called in a checkpoint of transformers, whose names our modules declare."""

from __future__ import annotations

import re

ROPE_FREQUENCIES = "rope_freqs.weight"

_LAYER = re.compile(r"blk\.(?P<index>\d+)\.(?P<part>\w+)\.(?P<kind>weight|bias)")
_OUTSIDE_LAYERS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def checkpoint_name(name: str) -> str:
    """Return the checkpoint's name for a tensor of a GGUF file; a name that is not known stays as it is."""
    if name in _OUTSIDE_LAYERS:
        return _OUTSIDE_LAYERS[name]
    match = _LAYER.fullmatch(name)
    if match is None or match["part"] not in _PARTS:
        return name
    return f"model.layers.{match['index']}.{_PARTS[match['part']]}.{match['kind']}"


def is_query_or_key(name: str) -> bool:
    """Whether a tensor of a GGUF file is a projection to queries or keys, or its bias."""
    match = _LAYER.fullmatch(name)
    return match is not None and match["part"] in ("attn_q", "attn_k")
