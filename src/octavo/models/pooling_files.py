"""Whether a model generates or makes vectors, and how: read off its files. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.models.encoder_config import EncoderConfig, encoder_architecture, read_encoder_config
from octavo.models.pooling_config import PoolingConfig, has_pooling_files, read_pooling_config

Runner = Literal["auto", "generate", "pooling"]

# What sentence-transformers does with an encoder that comes without its files, and vLLM with a decoder.
_ENCODER_DEFAULT = PoolingConfig("mean", normalize=False)
_DECODER_DEFAULT = PoolingConfig("last", normalize=True)
_SCORES = PoolingConfig("cls", normalize=False)


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A model's configuration, and how it makes vectors; ``pooling`` is None if it generates."""

    config: ModelConfig | EncoderConfig
    pooling: PoolingConfig | None

    @property
    def default_max_model_len(self) -> int:
        """The longest sequence that the model was trained on."""
        longest = self.config.default_max_model_len
        trained = None if self.pooling is None else self.pooling.max_seq_length
        return longest if trained is None else min(trained, longest)


def read_model_kind(directory: Path, runner: Runner) -> ModelKind:
    """Read what the model in a directory is, or in a GGUF file.

    Args:
        runner: ``generate`` or ``pooling`` as the user wants it; ``auto`` makes vectors with encoders, with bare
            decoders, and with decoders that come with the files of sentence-transformers.

    Raises:
        ModelError: a file is missing or broken, or asks for something that is not supported.
        ConfigError: the model cannot do what the user wants.
    """
    architecture = encoder_architecture(directory)
    if architecture is not None:
        if runner == "generate":
            raise ConfigError(
                f"runner=generate was asked for, but {architecture} is an encoder, which makes vectors or scores. "
                "Leave the setting out, or use a model that generates."
            )
        config = read_encoder_config(directory, architecture)
        if config.is_cross_encoder:
            return ModelKind(config, _SCORES)
        return ModelKind(config, read_pooling_config(directory, default=_ENCODER_DEFAULT))
    decoder = ModelConfig.from_directory(directory)
    if runner == "generate" or (runner == "auto" and decoder.has_lm_head and not has_pooling_files(directory)):
        return ModelKind(decoder, None)
    if directory.is_file():
        raise ConfigError("runner=pooling was asked for, but GGUF files only generate. Use the model's safetensors.")
    return ModelKind(decoder, read_pooling_config(directory, default=_DECODER_DEFAULT))
