"""What a model is, as the metadata of its GGUF file says: the same record that a ``config.json`` gives."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from pathlib import Path

from octavo.errors import ModelError
from octavo.models.config import ModelConfig
from octavo.models.config_fields import ConfigFields
from octavo.models.gguf.names import ROPE_FREQUENCIES, checkpoint_name
from octavo.models.gguf.reader import GgufFile
from octavo.models.gguf.split import open_gguf
from octavo.models.quantization.checkpoint_config import GgufQuantization
from octavo.models.rope_config import RopeConfig

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_DTYPES = {"F32": "float32", "F16": "float16"}
_ROPE_TYPES = {"none": "default", "linear": "linear", "yarn": "yarn"}
_MAX_SIZE = 2**31 - 1
_DEFAULT_THETA = 10000.0


def architecture_of(file: GgufFile) -> str:
    """Return ``general.architecture``.

    Raises:
        ModelError: it is missing or not supported.
    """
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise ModelError(
            f"{file.path}: the architecture {name!r} is not supported. Supported GGUF architectures are "
            f"{', '.join(_ARCHITECTURES)} (Mistral's models are of the architecture llama)."
        )
    return name


def read_gguf_config(path: Path) -> ModelConfig:
    """Read the configuration of a model in a GGUF file.

    Raises:
        ModelError: the file is broken, or says something that is not supported.
    """
    file = open_gguf(path)
    architecture = architecture_of(file)
    prefix = f"{architecture}."
    values = {key.removeprefix(prefix): value for key, value in file.metadata.items() if key.startswith(prefix)}
    fields = ConfigFields(values, f"{path}, {architecture}")
    if fields.integer("expert_count", 0, minimum=0) > 0:
        raise fields.error("expert_count", "0: mixtures of experts are not supported")
    vocab_size, hidden_size = _embedding_shape(file)
    num_hidden_layers = _size(fields, "block_count")
    if num_hidden_layers > len(file.tensors):
        raise fields.error("block_count", f"at most the number of tensors ({len(file.tensors)})")
    num_attention_heads = _size(fields, "attention.head_count")
    num_key_value_heads = _size(fields, "attention.head_count_kv", num_attention_heads)
    if num_attention_heads % num_key_value_heads != 0:
        raise fields.error("attention.head_count_kv", f"a divisor of attention.head_count ({num_attention_heads})")
    if _size(fields, "embedding_length") != hidden_size:
        raise fields.error("embedding_length", f"the width of token_embd.weight ({hidden_size})")
    head_dim = _head_dim(fields, hidden_size, num_attention_heads)
    max_position_embeddings = _size(fields, "context_length")
    window = _sliding_window(fields, architecture, max_position_embeddings)
    return ModelConfig(
        architecture="MistralForCausalLM" if window else _ARCHITECTURES[architecture],
        model_type=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=_size(fields, "feed_forward_length"),
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        rms_norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        hidden_act="silu",
        tie_word_embeddings="output.weight" not in file.tensors,
        rope=_read_rope(file, fields, head_dim, max_position_embeddings),
        max_position_embeddings=max_position_embeddings,
        layer_windows=(window,) * num_hidden_layers,
        dtype=_main_dtype(file),
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        mlp_bias="blk.0.ffn_up.bias" in file.tensors,
        quantization=_quantization(file),
    )


def _size(fields: ConfigFields, name: str, default: int | None = None) -> int:
    size = fields.integer(name, default)
    if size > _MAX_SIZE:
        raise fields.error(name, f"at most {_MAX_SIZE}")
    return size


def _embedding_shape(file: GgufFile) -> tuple[int, int]:
    """Return vocabulary size and hidden size: the table of the embedding knows both."""
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError(f"{file.path} has no matrix token_embd.weight, so it holds no whole language model.")
    return embedding.shape[0], embedding.shape[1]


def _head_dim(fields: ConfigFields, hidden_size: int, num_attention_heads: int) -> int:
    if "attention.key_length" not in fields and hidden_size % num_attention_heads != 0:
        raise fields.error("embedding_length", f"a multiple of attention.head_count ({num_attention_heads})")
    head_dim = _size(fields, "attention.key_length", hidden_size // num_attention_heads)
    if head_dim % 2 != 0:
        raise ModelError(
            f"{fields.source}: the heads have {head_dim} dimensions; rotary embedding needs an even number."
        )
    for name in ("attention.value_length", "rope.dimension_count"):
        if fields.integer(name, head_dim) != head_dim:
            raise fields.error(name, f"the size of a head ({head_dim})")
    return head_dim


def _sliding_window(fields: ConfigFields, architecture: str, max_position_embeddings: int) -> int | None:
    """Return the window of all layers; one that no sequence fills is none."""
    window = fields.integer("attention.sliding_window", 0, minimum=0)
    if window == 0 or window >= max_position_embeddings:
        return None
    if architecture != "llama":
        raise fields.error("attention.sliding_window", "0: only for llama does it say which layers have the window")
    return window


def _read_rope(file: GgufFile, fields: ConfigFields, head_dim: int, max_position_embeddings: int) -> RopeConfig:
    theta = fields.number("rope.freq_base", _DEFAULT_THETA)
    if theta <= 1:
        raise fields.error("rope.freq_base", "a number above 1")
    rope_type = fields.choice("rope.scaling.type", _ROPE_TYPES, default="default")
    divisors = _frequency_divisors(file, head_dim)
    if divisors:
        if rope_type != "default":
            raise fields.error("rope.scaling.type", f"none beside a tensor {ROPE_FREQUENCIES}")
        return RopeConfig("divided", theta, frequency_divisors=divisors)
    match rope_type:
        case "linear":
            factor = fields.number("rope.scaling.factor", minimum=1)
            return RopeConfig("linear", theta, factor, max_position_embeddings)
        case "yarn":
            return _read_yarn(fields, theta, max_position_embeddings)
        case _:
            return RopeConfig("default", theta, original_max_position_embeddings=max_position_embeddings)


def _read_yarn(fields: ConfigFields, theta: float, max_position_embeddings: int) -> RopeConfig:
    original = _size(fields, "rope.scaling.original_context_length", max_position_embeddings)
    factor = fields.number("rope.scaling.factor", max_position_embeddings / original, minimum=1)
    attention_factor = fields.optional_number("rope.scaling.attn_factor")
    if attention_factor is not None:
        attention_factor *= 0.1 * math.log(factor) + 1
    return RopeConfig(
        "yarn",
        theta,
        factor,
        original,
        attention_factor=attention_factor,
        beta_fast=fields.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=fields.number("rope.scaling.yarn_beta_slow", 1.0),
    )


def _frequency_divisors(file: GgufFile, head_dim: int) -> tuple[float, ...]:
    """Return what each rotary frequency is divided by (how llama3's scaling is stored), nothing if all stay."""
    tensor = file.tensors.get(ROPE_FREQUENCIES)
    if tensor is None:
        return ()
    if tensor.shape != (head_dim // 2,) or tensor.type.name != "F32":
        raise ModelError(f"{file.path}: {ROPE_FREQUENCIES} must be F32 of the shape [{head_dim // 2}].")
    divisors = tuple(array("f", tensor.data().tobytes()))
    if not all(0 < divisor < math.inf for divisor in divisors):
        raise ModelError(f"{file.path}: {ROPE_FREQUENCIES} must hold finite numbers above 0.")
    return divisors if any(divisor != 1 for divisor in divisors) else ()


def _quantization(file: GgufFile) -> GgufQuantization:
    return GgufQuantization(
        {
            checkpoint_name(name): tensor.type
            for name, tensor in file.tensors.items()
            if tensor.type.block_size > 1 and len(tensor.shape) > 1
        }
    )


def _main_dtype(file: GgufFile) -> str:
    """Return the type to compute in where the checkpoint decides: that of most weights, bfloat16 for quantised ones.

    Quantised models were mostly trained in bfloat16, and their activations may be too large for float16.
    """
    num_bytes: Counter[str] = Counter()
    for tensor in file.tensors.values():
        num_bytes[tensor.type.name] += tensor.num_bytes
    return _DTYPES.get(num_bytes.most_common(1)[0][0], "bfloat16")
