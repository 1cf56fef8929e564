"""Where a model is: the one in the box, a local directory, or a repository of the Hugging Face hub."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from octavo.config.schema import MODEL_IN_THE_BOX
from octavo.errors import ModelError

_CONFIG_FILES = ("*.json", "*.jinja", "tokenizer.model", "*.txt")
_WEIGHT_FILES = ("*.safetensors",)
_TIMEOUT_S = 3.0


def resolve_model(model: str, *, revision: str | None = None, weights: bool = True) -> Path:
    """Return the directory that holds a model, downloading it if it is a hub name.

    Args:
        model: name of the model in the box, local directory, or hub name such as ``Qwen/Qwen3-0.6B``.
        revision: hub branch, tag or commit; the files are those of one commit.
        weights: False leaves out the weights: configuration and tokenizer only.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    if model == MODEL_IN_THE_BOX:
        return _checked(Path(str(resources.files("octavo.models"))) / "box" / MODEL_IN_THE_BOX)
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(path)
    if model.endswith(".gguf"):
        raise ModelError(f"{model}: GGUF files are not supported. Use a directory with config.json and safetensors.")
    if path.exists():
        raise ModelError(f"{model} is a file. Name the directory that holds config.json and the safetensors.")
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        raise ModelError(f"The model directory {model} does not exist.")
    return _checked(_download(model, revision, weights))


def _checked(directory: Path) -> Path:
    if (directory / "config.json").is_file():
        return directory
    present = sorted(path.name for path in directory.iterdir())[:20] if directory.is_dir() else []
    raise ModelError(f"{directory} has no config.json, so it is no model directory; it holds {present or 'nothing'}.")


def _download(name: str, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import HfApi, constants, errors, snapshot_download

    patterns = [*_CONFIG_FILES, *(_WEIGHT_FILES if weights else ())]
    where = f"{name!r} (revision {revision!r})" if revision else repr(name)
    try:
        commit = (
            None if constants.HF_HUB_OFFLINE else HfApi().model_info(name, revision=revision, timeout=_TIMEOUT_S).sha
        )
        if commit is not None:
            return Path(snapshot_download(name, revision=commit, allow_patterns=patterns, etag_timeout=_TIMEOUT_S))
        reason = "HF_HUB_OFFLINE is set"
    except errors.HFValidationError:
        raise ModelError(
            f"The model {name!r} is neither a local directory nor a valid hub name (OWNER/NAME)."
        ) from None
    except errors.GatedRepoError:
        raise ModelError(
            f"The model {where} is gated: accept its terms at https://huggingface.co/{name} and set HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"The hub has the model {name!r}, but not its revision {revision!r}.") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"The model {name!r} is no local directory, and the hub has none of this name that can be read without "
            "(or with the given) HF_TOKEN. Check the name."
        ) from None
    except Exception as error:  # whichever HTTP library the hub client uses: the hub cannot be reached or used
        reason = f"the hub cannot be reached ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"
    return _from_cache(name, revision, patterns, reason)


def _from_cache(name: str, revision: str | None, patterns: list[str], reason: str) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        raise ModelError(
            f"The model {name!r} is no local directory, {reason}, and the cache {constants.HF_HUB_CACHE} does not hold "
            "it. Go online once, or name a local directory with config.json and safetensors."
        ) from None
