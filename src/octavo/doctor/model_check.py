"""The model's files: found without a download, read as far as a server reads them before it loads weights."""

from __future__ import annotations

from pathlib import Path

from octavo.config.schema import MODELS_IN_THE_BOX, ServerConfig
from octavo.doctor.checkpoint import check_checkpoint
from octavo.doctor.findings import Findings
from octavo.engine.generation_config import GenerationDefaults
from octavo.engine.model_files import ModelFiles, read_model_files
from octavo.errors import ConfigError, ModelError
from octavo.models.hub import resolve_model
from octavo.models.loading import check_load_format
from octavo.models.pooling_files import ModelKind, read_model_kind
from octavo.text import load_chat_template


def check_model(config: ServerConfig, findings: Findings) -> ModelKind | None:
    """Check a model's files, its tokenizer, its chat template and its weights' headers against each other.

    Returns:
        what the model is; None if its ``config.json`` could not be read.
    """
    source = None
    if config.chat_template is not None:
        with findings.catching("chat template"):
            source = load_chat_template(config.chat_template)
    directory = _find("model", config.model, config.revision, config.load_format != "dummy", findings)
    tokenizer_directory = directory
    if config.tokenizer is not None:
        tokenizer_directory = _find("tokenizer", config.tokenizer, None, False, findings)
    if directory is None:
        return None
    with findings.catching("generation_config.json"):
        GenerationDefaults.from_directory(directory)
    try:
        kind = read_model_kind(directory, config.runner)
    except (ModelError, ConfigError) as error:
        findings.error("config.json" if isinstance(error, ModelError) else "runner", str(error))
        return None
    with findings.catching("load_format"):
        check_load_format(directory, config.load_format)
    if config.load_format != "dummy":
        check_checkpoint(directory, kind, findings)
    if tokenizer_directory is not None:
        files = _read(config, directory, tokenizer_directory, findings)
        if files is not None:
            _check_tokenizer(files, findings)
        if files is not None and kind.pooling is None:
            _check_chat_template(files, source, findings)
    return kind


def _find(check: str, name: str, revision: str | None, weights: bool, findings: Findings) -> Path | None:
    """Return the directory of a model; None if there is none, or if it would have to be downloaded."""
    if not _is_hub_name(name):
        with findings.catching(check):
            return resolve_model(name, revision=revision, weights=weights)
        return None
    from octavo.doctor.hub_cache import find_in_cache

    return find_in_cache(check, name, revision, weights, findings)


def _is_hub_name(name: str) -> bool:
    is_path = name.startswith(("/", "./", "../", "~")) or name in (".", "..") or name.endswith(".gguf")
    return name not in MODELS_IN_THE_BOX and not is_path and not Path(name).expanduser().exists()


def _read(config: ServerConfig, directory: Path, tokenizer_directory: Path, findings: Findings) -> ModelFiles | None:
    """Read the files as a server does. A ``max_model_len`` that is too large must not hide a broken tokenizer."""
    local = config.model_copy(update={"model": str(directory), "tokenizer": str(tokenizer_directory)})
    try:
        return read_model_files(local)
    except ConfigError as error:
        findings.error("max_model_len", str(error))
    except ModelError as error:
        findings.error("tokenizer", str(error))
        return None
    with findings.catching("tokenizer"):
        return read_model_files(local.model_copy(update={"max_model_len": None}))
    return None


def _check_chat_template(files: ModelFiles, source: str | None, findings: Findings) -> None:
    if source is not None:
        with findings.catching("chat template"):
            files.tokenizer.make_chat_template(source, origin="--chat-template")
    elif files.tokenizer.chat_template is None:
        findings.warning(
            "chat template",
            "the model has no chat template, so /v1/chat/completions will refuse every request. Give one with "
            "--chat-template, or use /v1/completions.",
        )


def _check_tokenizer(files: ModelFiles, findings: Findings) -> None:
    if files.tokenizer.vocab_size > files.model_config.vocab_size:
        findings.warning(
            "tokenizer",
            f"the tokenizer has {files.tokenizer.vocab_size} tokens, but the model only "
            f"{files.model_config.vocab_size}; texts with the others are refused. Use the tokenizer of this model.",
        )
