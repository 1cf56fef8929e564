"""What a client of an engine knows of a model without torch: where it is, config, tokenizer, greatest length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.models.config import ModelConfig
from octavo.models.encoder_config import EncoderConfig
from octavo.models.gguf.split import open_gguf
from octavo.models.hub import resolve_model
from octavo.models.pooling_files import ModelKind, read_model_kind
from octavo.text import Tokenizer
from octavo.text.gguf import tokenizer_from_gguf


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files, read as far as its weights.

    Attributes:
        directory: that holds the model, or its GGUF file.
        kind: what the model is, and whether it generates or makes vectors.
        max_model_len: longest prompt plus output, in tokens.
    """

    directory: Path
    kind: ModelKind
    tokenizer: Tokenizer
    max_model_len: int

    @property
    def model_config(self) -> ModelConfig | EncoderConfig:
        """The shape of the model."""
        return self.kind.config


def read_model_files(config: EngineConfig) -> ModelFiles:
    """Find the model that a configuration names and read everything but its weights.

    Raises:
        ModelError: the model is missing, broken or not supported.
        ConfigError: ``max_model_len`` is more than the model was made for.
    """
    directory = resolve_model(config.model, revision=config.revision, weights=config.load_format != "dummy")
    kind = read_model_kind(directory, config.runner)
    longest = kind.config.default_max_model_len
    if config.max_model_len is not None and config.max_model_len > longest:
        raise ConfigError(
            f"max_model_len={config.max_model_len} is more than the {longest} tokens that the model was made for. Use "
            f"--max-model-len {longest} or less."
        )
    return ModelFiles(
        directory=directory,
        kind=kind,
        tokenizer=read_tokenizer(config, directory),
        max_model_len=config.max_model_len or kind.default_max_model_len,
    )


def read_tokenizer(config: EngineConfig, directory: Path) -> Tokenizer:
    """Read the tokenizer of the model in ``directory``, or the one that the configuration names instead.

    Raises:
        ModelError: it is missing, broken or not supported.
    """
    path = resolve_model(config.tokenizer, weights=False) if config.tokenizer else directory
    if path.is_file():
        return tokenizer_from_gguf(open_gguf(path).metadata, path)
    return Tokenizer.from_directory(path)
