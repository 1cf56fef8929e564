"""What all families share: sizes, windows, and putting a model together of its layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octavo.errors import ModelError
from octavo.plan.config_json import ConfigJson
from octavo.plan.layer_parts import grouped_query_attention
from octavo.plan.model_shape import AttentionShape, LayerShape, Linear, MlpShape, ModelShape

_FULL, _SLIDING = "full_attention", ("sliding_attention", "chunked_attention")
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers that almost every family has."""

    hidden: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, fields: ConfigJson, *, kv_heads_field: str = "num_key_value_heads") -> Sizes:
        """Read them; every head has its own keys, and the heads share the hidden size, unless fields say otherwise."""
        hidden = fields.integer("hidden_size", "n_embd")
        num_heads = fields.integer("num_attention_heads", "n_head")
        head_dim = fields.integer("head_dim", default=max(hidden // num_heads, 1))
        if "head_dim" not in fields and hidden % num_heads:
            raise ModelError(f"{fields.source}: hidden_size {hidden} is no multiple of {num_heads} attention heads.")
        return cls(
            hidden=hidden,
            num_layers=fields.integer("num_hidden_layers", "n_layer"),
            num_heads=num_heads,
            num_kv_heads=fields.integer(kv_heads_field, default=num_heads),
            head_dim=head_dim,
        )

    @property
    def query_size(self) -> int:
        """Numbers in the queries of one token."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Numbers in the keys of one token, and as many in the values."""
        return self.num_kv_heads * self.head_dim

    def attention(
        self, *, qkv_bias: bool = False, output_bias: bool = False, num_other_parameters: int = 0
    ) -> AttentionShape:
        """Return grouped-query attention of these sizes."""
        return grouped_query_attention(
            self.hidden,
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            qkv_bias=qkv_bias,
            output_bias=output_bias,
            num_other_parameters=num_other_parameters,
        )


def decoder(
    fields: ConfigJson,
    sizes: Sizes,
    *,
    attention: AttentionShape,
    mlp: MlpShape | Callable[[int], MlpShape],
    num_norms: int = 2,
    norm_size: int | None = None,
    num_final_norms: int = 1,
    windows: tuple[int | None, ...] = (),
    num_position_parameters: int = 0,
    embedding_size: int | None = None,
    num_other_parameters: int = 0,
    head_bias: bool = False,
    is_length_stretched: bool = False,
) -> ModelShape:
    """Put a model together.

    Args:
        mlp: the MLP of all layers, or a function of the layer's index.
        num_norms: norms in a layer, apart from those of heads.
        norm_size: parameters of a norm; by default a weight for each number of the hidden state.
        num_final_norms: norms after the last layer.
        windows: window of each layer; empty if no layer has one.
        num_position_parameters: table of learned positions.
        embedding_size: numbers in a token's embedding, if not the hidden size.
        num_other_parameters: whatever else there is outside the layers.
        is_length_stretched: ``max_position_embeddings`` is the length after rotary scaling, whatever its type.
        head_bias: the head has a bias; it has it even where it shares the embedding's matrix.
    """
    norm_size = sizes.hidden if norm_size is None else norm_size
    vocab_size = fields.integer("vocab_size")
    embedding_size = embedding_size or sizes.hidden
    is_tied = fields.boolean("tie_word_embeddings")
    mlp_of = mlp if callable(mlp) else (lambda _: mlp)
    distinct: dict[LayerShape, LayerShape] = {}  # a model has few kinds of layers: keep one record of each

    def layer(index: int) -> LayerShape:
        shape = LayerShape(
            attention=attention,
            mlp=mlp_of(index),
            num_norm_parameters=num_norms * norm_size,
            window=windows[index] if windows else None,
        )
        return distinct.setdefault(shape, shape)

    return ModelShape(
        model_type=str(fields.raw("model_type")),
        vocab_size=vocab_size,
        hidden_size=sizes.hidden,
        num_attention_heads=sizes.num_heads,
        layers=tuple(layer(index) for index in range(sizes.num_layers)),
        num_embedding_parameters=vocab_size * embedding_size + num_position_parameters,
        lm_head=None if is_tied else Linear(in_features=embedding_size, out_features=vocab_size, has_bias=head_bias),
        num_other_parameters=num_final_norms * norm_size + num_other_parameters + head_bias * is_tied * vocab_size,
        max_model_len=_stated_length(fields) if is_length_stretched else _max_model_len(fields),
        dtype=_dtype(fields),
        quantization_config=dict(fields.raw("quantization_config") or {}),
    )


def windows_of(
    fields: ConfigJson, num_layers: int, window: int | None, is_sliding: Callable[[int], bool] = lambda _: True
) -> tuple[int | None, ...]:
    """Return the window of each layer, empty if there is none.

    Args:
        window: positions that a layer with a window sees.
        is_sliding: whether the layer at an index has a window, where ``layer_types`` does not say it.

    Raises:
        ModelError: ``layer_types`` does not name a known type for each layer.
    """
    if window is None:
        return ()
    types = fields.raw("layer_types")
    if types is None:
        return tuple(window if is_sliding(index) else None for index in range(num_layers))
    if not isinstance(types, list) or len(types) != num_layers or not {_FULL, *_SLIDING}.issuperset(types):
        raise ModelError(
            f"{fields.source}: field 'layer_types' is {types!r}; it must be a list of {num_layers} entries of "
            f"{', '.join((_FULL, *_SLIDING))}."
        )
    return tuple(None if layer_type == _FULL else window for layer_type in types)


def optional_window(fields: ConfigJson, default: int | None = None) -> int | None:
    """Return ``sliding_window``: None if it is null, the default if it is absent."""
    if "sliding_window" in fields:
        return fields.integer("sliding_window", minimum=0) or None
    return None if fields.is_null("sliding_window") else default


def _stated_length(fields: ConfigJson) -> int:
    return fields.integer("max_position_embeddings", "n_positions", default=2048)


def _max_model_len(fields: ConfigJson) -> int:
    """Return the longest sequence, rotary scaling included (see ``octavo.models.rope_config``)."""
    length = _stated_length(fields)
    section = fields.section("rope_scaling" if "rope_scaling" in fields else "rope_parameters")
    factor = section.raw("factor")
    if not isinstance(factor, (int, float)):
        return length
    match section.raw("rope_type") or section.raw("type"):
        case "linear" | "dynamic":
            return int(length * factor)
        case "yarn":
            original = (fields if "original_max_position_embeddings" in fields else section).integer(
                "original_max_position_embeddings", default=length
            )
            return int(original * factor)
    return length


def _dtype(fields: ConfigJson) -> str:
    """Return the type of the weights; transformers and this package take float32 if nothing is said."""
    dtype = fields.raw("dtype") or fields.raw("torch_dtype") or "float32"
    if dtype not in _DTYPES:
        raise ModelError(f"{fields.source}: the weights are {dtype!r}; supported are {', '.join(_DTYPES)}.")
    return str(dtype)
