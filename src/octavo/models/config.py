"""What a model is, as its ``config.json`` says: one frozen record for all families.

The families differ in which fields they have and in what a missing one means; each has a reader in ``config_readers``
that states just that. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from octavo.errors import ModelError
from octavo.models.config_fields import ConfigFields
from octavo.models.latent_attention_config import LatentAttentionConfig
from octavo.models.mixture_config import MixtureConfig
from octavo.models.quantization.checkpoint_config import CheckpointQuantization, GgufQuantization, read_quantization
from octavo.models.registry import (
    ARCHITECTURES,
    BARE_DECODERS,
    ENCODER_ARCHITECTURES,
    unsupported_architecture,
)
from octavo.models.rope_config import RopeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a decoder-only transformer.

    Attributes:
        attention_bias: the query, key and value projections have a bias; in Llama and Qwen3 the output projection too.
        mlp_bias: the projections of the MLP have a bias.
        hidden_act: silu or gelu_tanh.
        max_position_embeddings: positions as the config states them; see ``default_max_model_len``.
        layer_windows: for each layer the number of positions that a token sees, itself included; None is all.
        local_rope: rotation in the layers with a window, if it is not that of the others.
        query_scale: factor of the dot products of queries and keys; None is ``head_dim ** -0.5``.
        attention_soft_cap, logits_soft_cap: bound attention scores and logits to ``cap * tanh(x / cap)``.
        norm_weight_offset: what is added to the checkpoint's norm weights: Gemma stores them less 1.
        embedding_scale: factor of the embeddings.
        mixture: the mixtures of experts; None if all layers have one dense MLP.
        latent_attention: the sizes of multi-head latent attention. ``num_key_value_heads`` and ``head_dim`` are then
            those of the cache: one head that holds the latent vector and the rotated key.
        is_length_stretched: ``max_position_embeddings`` is the length that rotary scaling leads to, of any type.
        dtype: type of the checkpoint's weights: float32, bfloat16 or float16; of a quantised checkpoint, of the others.
        quantization: how the checkpoint's matrices are packed; None if they are not.
        has_lm_head: False for a checkpoint of the bare decoder, as those of embedding models are.
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
    is_length_stretched: bool = False
    local_rope: RopeConfig | None = None
    query_scale: float | None = None
    attention_soft_cap: float | None = None
    logits_soft_cap: float | None = None
    norm_weight_offset: float = 0.0
    embedding_scale: float = 1.0
    mixture: MixtureConfig | None = None
    latent_attention: LatentAttentionConfig | None = None
    has_lm_head: bool = True

    @classmethod
    def from_directory(cls, path: Path) -> ModelConfig:
        """Read ``config.json`` of a model directory, or the metadata if ``path`` is a GGUF file.

        Raises:
            ModelError: the file is missing or broken, or says something that is not supported.
        """
        if path.is_file():
            from octavo.models.gguf.config import read_gguf_config  # it makes a ModelConfig, so it imports this module

            return read_gguf_config(path)
        from octavo.models.config_readers import READERS  # they make ModelConfigs, so they import this module

        fields = ConfigFields.from_file(path / "config.json")
        name = _architecture(fields)
        architecture = BARE_DECODERS.get(name, name)
        config = READERS[architecture](fields, architecture)
        quantization = read_quantization(fields, tied_head=config.tie_word_embeddings)
        return replace(config, quantization=quantization, has_lm_head=name not in BARE_DECODERS)

    @property
    def cached_parts(self) -> int:
        """Tensors in which a layer caches: keys and values, or the one from which latent attention makes both."""
        return 2 if self.latent_attention is None else 1

    @property
    def default_max_model_len(self) -> int:
        """The longest sequence that the model is made for, rotary scaling included."""
        if self.is_length_stretched:
            return self.max_position_embeddings
        return self.rope.extended_length(self.max_position_embeddings)


def _architecture(fields: ConfigFields) -> str:
    names = fields.raw("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise fields.error("architectures", f"a list with one of {', '.join(ARCHITECTURES)}")
    supported = [name for name in names if name in ARCHITECTURES or name in BARE_DECODERS]
    if not supported and names[0] in ENCODER_ARCHITECTURES:
        raise ModelError(
            f"{fields.source}: {names[0]} is an encoder, which makes vectors or scores and generates no text."
        )
    if not supported:
        raise unsupported_architecture(names[0])
    return str(supported[0])
