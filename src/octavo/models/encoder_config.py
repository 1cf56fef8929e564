"""What an encoder of the BERT family is, as its ``config.json`` says. Nothing here imports torch.

The families differ in the names of their fields, in where their positions begin, and in whether tokens have a type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octavo.errors import ModelError
from octavo.models.config_fields import ConfigFields
from octavo.models.quantization.checkpoint_config import CheckpointQuantization

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
_ABSOLUTE = {"absolute": "absolute"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """The shape of a bidirectional transformer with learned absolute positions.

    Attributes:
        hidden_act: ``gelu`` (exact), ``gelu_tanh`` (its usual approximation) or ``relu``.
        first_position: row of the position table that the first token of a sequence takes.
        skips_padding: tokens with ``pad_token_id`` take no position of their own, as in RoBERTa.
        type_vocab_size: kinds of tokens, to tell the two texts of a pair apart; 0 if the model has none.
        is_cross_encoder: the model has a head that scores a pair of texts.
        score_function: what turns the head's number into a score: ``sigmoid`` or ``identity``.
        dtype: type of the checkpoint's weights.
    """

    architecture: str
    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    hidden_act: str
    max_position_embeddings: int
    type_vocab_size: int
    pad_token_id: int
    dtype: str
    first_position: int = 0
    skips_padding: bool = False
    is_cross_encoder: bool = False
    score_function: str = "identity"
    quantization: CheckpointQuantization | None = None

    @classmethod
    def from_fields(cls, fields: ConfigFields, architecture: str) -> EncoderConfig:
        """Read the fields of a ``config.json`` whose architecture is one of ``ENCODERS``.

        Raises:
            ModelError: a field is missing or wrong, or says something that is not supported.
        """
        if fields.boolean("is_decoder", False):
            raise fields.error("is_decoder", "false: this model is an encoder")
        fields.choice("position_embedding_type", _ABSOLUTE, default="absolute")
        if "quantization_config" in fields:
            raise ModelError(f"{fields.source}: quantized checkpoints of {architecture} are not supported.")
        config = ENCODERS[architecture](fields, architecture)
        if config.hidden_size % config.num_attention_heads != 0:
            raise ModelError(
                f"{fields.source}: {config.num_attention_heads} attention heads do not divide the hidden size of "
                f"{config.hidden_size}."
            )
        if config.default_max_model_len < 1:
            raise fields.error("max_position_embeddings", f"more than {config.first_position}")
        return config

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def default_max_model_len(self) -> int:
        """The longest sequence that there are positions for."""
        return self.max_position_embeddings - self.first_position


def encoder_architecture(path: Path) -> str | None:
    """Return the encoder architecture that the ``config.json`` of a model directory names; None if it names none.

    Raises:
        ModelError: the file is missing or broken.
    """
    if path.is_file():  # a GGUF file
        return None
    names = ConfigFields.from_file(path / "config.json").raw("architectures")
    return next((name for name in names if name in ENCODERS), None) if isinstance(names, list) else None


def read_encoder_config(path: Path, architecture: str) -> EncoderConfig:
    """Read the ``config.json`` of a model directory as that of an encoder.

    Raises:
        ModelError: the file is broken, or says something that is not supported.
    """
    return EncoderConfig.from_fields(ConfigFields.from_file(path / "config.json"), architecture)


def _read_bert(fields: ConfigFields, architecture: str) -> EncoderConfig:
    return EncoderConfig(
        architecture=architecture,
        model_type=str(fields.raw("model_type") or ""),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=fields.integer("num_hidden_layers"),
        num_attention_heads=fields.integer("num_attention_heads"),
        layer_norm_eps=fields.number("layer_norm_eps", 1e-12),
        hidden_act=fields.choice("hidden_act", _ACTIVATIONS, default="gelu"),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        type_vocab_size=fields.integer("type_vocab_size", 2),
        pad_token_id=fields.integer("pad_token_id", 0, minimum=0),
        dtype=_dtype(fields),
    )


def _read_roberta(fields: ConfigFields, architecture: str) -> EncoderConfig:
    """Positions begin behind that of the padding token."""
    pad_token_id = fields.integer("pad_token_id", 1, minimum=0)
    config = replace(_read_bert(fields, architecture), pad_token_id=pad_token_id)
    return replace(config, first_position=pad_token_id + 1, skips_padding=True)


def _read_distilbert(fields: ConfigFields, architecture: str) -> EncoderConfig:
    """Fields with names of their own, and no token types."""
    if fields.boolean("sinusoidal_pos_embds", False):
        raise fields.error("sinusoidal_pos_embds", "false")
    return EncoderConfig(
        architecture=architecture,
        model_type=str(fields.raw("model_type") or ""),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("dim"),
        intermediate_size=fields.integer("hidden_dim"),
        num_hidden_layers=fields.integer("n_layers"),
        num_attention_heads=fields.integer("n_heads"),
        layer_norm_eps=1e-12,
        hidden_act=fields.choice("activation", _ACTIVATIONS, default="gelu"),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        type_vocab_size=0,
        pad_token_id=fields.integer("pad_token_id", 0, minimum=0),
        dtype=_dtype(fields),
    )


def _scoring(reader: Callable[[ConfigFields, str], EncoderConfig]) -> Callable[[ConfigFields, str], EncoderConfig]:
    """Return a reader that also reads what the head of a cross-encoder is."""

    def read(fields: ConfigFields, architecture: str) -> EncoderConfig:
        num_labels = _num_labels(fields)
        if num_labels != 1:
            raise ModelError(
                f"{fields.source}: {architecture} has {num_labels} labels. Only cross-encoders, which have one, are "
                "supported."
            )
        return replace(reader(fields, architecture), is_cross_encoder=True, score_function=_score_function(fields))

    return read


def _num_labels(fields: ConfigFields) -> int:
    labels = fields.raw("id2label")
    return len(labels) if isinstance(labels, dict) else fields.integer("num_labels", 2)


def _score_function(fields: ConfigFields) -> str:
    """Return what sentence-transformers would apply to the head's number: the sigmoid unless the model says otherwise.

    Newer models say it in the section ``sentence_transformers``, older ones in a field of their own.
    """
    section: Any = fields.raw("sentence_transformers")
    name = section.get("activation_fn") if isinstance(section, dict) else None
    name = name or fields.raw("sbert_ce_default_activation_function") or "Sigmoid"
    function = {"Sigmoid": "sigmoid", "Identity": "identity"}.get(str(name).rpartition(".")[2])
    if function is None:
        raise ModelError(
            f"{fields.source}: the scores' activation {name!r} is not supported: Sigmoid and Identity are."
        )
    return function


def _dtype(fields: ConfigFields) -> str:
    return fields.choice("dtype" if "dtype" in fields else "torch_dtype", _DTYPES, default="float32")


ENCODERS: dict[str, Callable[[ConfigFields, str], EncoderConfig]] = {
    "BertModel": _read_bert,
    "BertForMaskedLM": _read_bert,
    "BertForSequenceClassification": _scoring(_read_bert),
    "RobertaModel": _read_roberta,
    "RobertaForMaskedLM": _read_roberta,
    "RobertaForSequenceClassification": _scoring(_read_roberta),
    "XLMRobertaModel": _read_roberta,
    "XLMRobertaForMaskedLM": _read_roberta,
    "XLMRobertaForSequenceClassification": _scoring(_read_roberta),
    "DistilBertModel": _read_distilbert,
    "DistilBertForMaskedLM": _read_distilbert,
}
"""Encoder architectures and the readers of their ``config.json``."""
