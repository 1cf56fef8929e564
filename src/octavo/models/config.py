"""What a model is, as its ``config.json`` says: one frozen record for all families.

The families differ in which fields they have and in what a missing one means; each has a reader below that states
just that. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from octavo.errors import ModelError
from octavo.models.config_fields import ConfigFields
from octavo.models.quantization.checkpoint_config import CheckpointQuantization, GgufQuantization, read_quantization
from octavo.models.registry import unsupported_architecture
from octavo.models.rope_config import RopeConfig, read_rope

_ACTIVATIONS = {"silu": "silu", "swish": "silu"}
_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
_LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a decoder-only transformer.

    Attributes:
        attention_bias: the query, key and value projections have a bias; in Llama and Qwen3 the output projection too.
        mlp_bias: the projections of the MLP have a bias.
        max_position_embeddings: positions as the config states them; see ``default_max_model_len``.
        layer_windows: for each layer the number of positions that a token sees, itself included; None is all.
        dtype: type of the checkpoint's weights: float32, bfloat16 or float16; of a quantised checkpoint, of the others.
        quantization: how the checkpoint's matrices are packed; None if they are not.
    """

    architecture: str
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    hidden_act: str
    tie_word_embeddings: bool
    rope: RopeConfig
    max_position_embeddings: int
    layer_windows: tuple[int | None, ...]
    dtype: str
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    quantization: CheckpointQuantization | GgufQuantization | None = None

    @classmethod
    def from_directory(cls, path: Path) -> ModelConfig:
        """Read ``config.json`` of a model directory, or the metadata if ``path`` is a GGUF file.

        Raises:
            ModelError: the file is missing or broken, or says something that is not supported.
        """
        if path.is_file():
            from octavo.models.gguf.config import read_gguf_config  # it makes a ModelConfig, so it imports this module

            return read_gguf_config(path)
        fields = ConfigFields.from_file(path / "config.json")
        architecture = _architecture(fields)
        config = _READERS[architecture](fields, architecture)
        return replace(config, quantization=read_quantization(fields, tied_head=config.tie_word_embeddings))

    @property
    def default_max_model_len(self) -> int:
        """The longest sequence that the model is made for, rotary scaling included."""
        return self.rope.extended_length(self.max_position_embeddings)


def _architecture(fields: ConfigFields) -> str:
    names = fields.raw("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise fields.error("architectures", f"a list with one of {', '.join(_READERS)}")
    supported = [name for name in names if name in _READERS]
    if not supported:
        raise unsupported_architecture(names[0])
    return str(supported[0])


def _read_common(
    fields: ConfigFields,
    architecture: str,
    *,
    default_head_dim: int | None = None,
    default_bos: tuple[int, ...] = (),
    default_eos: tuple[int, ...] = (),
) -> ModelConfig:
    num_attention_heads = fields.integer("num_attention_heads")
    num_key_value_heads = fields.integer("num_key_value_heads", num_attention_heads)
    if num_attention_heads % num_key_value_heads != 0:
        raise fields.error("num_key_value_heads", f"a divisor of num_attention_heads ({num_attention_heads})")
    hidden_size = fields.integer("hidden_size")
    num_hidden_layers = fields.integer("num_hidden_layers")
    max_position_embeddings = fields.integer("max_position_embeddings")
    bos_token_ids = fields.token_ids("bos_token_id", default_bos)
    return ModelConfig(
        architecture=architecture,
        model_type=str(fields.raw("model_type") or ""),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=_head_dim(fields, hidden_size, num_attention_heads, default_head_dim),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        hidden_act=fields.choice("hidden_act", _ACTIVATIONS, default="silu"),
        tie_word_embeddings=fields.boolean("tie_word_embeddings", False),
        rope=read_rope(fields, max_position_embeddings),
        max_position_embeddings=max_position_embeddings,
        layer_windows=(None,) * num_hidden_layers,
        dtype=fields.choice("dtype" if "dtype" in fields else "torch_dtype", _DTYPES, default="float32"),
        bos_token_id=bos_token_ids[0] if bos_token_ids else None,
        eos_token_ids=fields.token_ids("eos_token_id", default_eos),
    )


def _head_dim(fields: ConfigFields, hidden_size: int, num_attention_heads: int, default: int | None) -> int:
    if "head_dim" not in fields and default is None and hidden_size % num_attention_heads != 0:
        raise fields.error("hidden_size", f"a multiple of num_attention_heads ({num_attention_heads})")
    head_dim = fields.integer("head_dim", default or hidden_size // num_attention_heads)
    if head_dim % 2 != 0:
        raise ModelError(
            f"{fields.source}: the heads have {head_dim} dimensions; rotary embedding needs an even number."
        )
    return head_dim


def _read_llama(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Biases are optional everywhere."""
    return replace(
        _read_common(fields, architecture, default_bos=(1,), default_eos=(2,)),
        attention_bias=fields.boolean("attention_bias", False),
        mlp_bias=fields.boolean("mlp_bias", False),
    )


def _read_mistral(fields: ConfigFields, architecture: str) -> ModelConfig:
    """One sliding window for all layers, or for those that layer_types names: 4096 if the field is absent."""
    config = _read_common(fields, architecture, default_bos=(1,), default_eos=(2,))
    window = fields.optional_integer("sliding_window", absent=4096)
    windows = _windows_by_type(fields, window, config.num_hidden_layers) or (window,) * config.num_hidden_layers
    return replace(config, layer_windows=windows)


def _read_qwen2(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Query, key and value always have a bias; the upper layers may have a sliding window."""
    config = _read_common(fields, architecture)
    return replace(config, attention_bias=True, layer_windows=_qwen_windows(fields, config.num_hidden_layers))


def _read_qwen3(fields: ConfigFields, architecture: str) -> ModelConfig:
    """Heads of 128 dimensions unless the field says otherwise; biases are optional; windows as in Qwen2."""
    config = _read_common(fields, architecture, default_head_dim=128)
    return replace(
        config,
        attention_bias=fields.boolean("attention_bias", False),
        layer_windows=_qwen_windows(fields, config.num_hidden_layers),
    )


def _qwen_windows(fields: ConfigFields, num_hidden_layers: int) -> tuple[int | None, ...]:
    if not fields.boolean("use_sliding_window", False):
        return (None,) * num_hidden_layers
    window = fields.optional_integer("sliding_window", absent=4096)
    first = fields.integer("max_window_layers", 28, minimum=0)
    by_depth = tuple(window if layer >= first else None for layer in range(num_hidden_layers))
    return _windows_by_type(fields, window, num_hidden_layers) or by_depth


def _windows_by_type(fields: ConfigFields, window: int | None, num_hidden_layers: int) -> tuple[int | None, ...]:
    """Return what ``layer_types`` says; empty if the field is absent."""
    if "layer_types" not in fields:
        return ()
    types = fields.raw("layer_types")
    is_list = isinstance(types, list) and len(types) == num_hidden_layers
    if not is_list or not all(layer_type in _LAYER_TYPES for layer_type in types):
        raise fields.error("layer_types", f"a list of {num_hidden_layers} entries of {', '.join(_LAYER_TYPES)}")
    return tuple(window if layer_type == "sliding_attention" else None for layer_type in types)


_READERS: dict[str, Callable[[ConfigFields, str], ModelConfig]] = {
    "LlamaForCausalLM": _read_llama,
    "MistralForCausalLM": _read_mistral,
    "Qwen2ForCausalLM": _read_qwen2,
    "Qwen3ForCausalLM": _read_qwen3,
}
