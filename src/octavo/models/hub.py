"""Where a model is: in the box, a local directory, a GGUF file, or a repository of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from octavo.config.schema import MODELS_IN_THE_BOX
from octavo.errors import ModelError
from octavo.models.gguf.reader import is_gguf

_CONFIG_FILE = "config.json"
_CONFIG_FILES = ("*.json", "*.jinja", "merges.txt")
_WEIGHT_FILES = ("model*.safetensors",)
# No folder but those like 1_Pooling, which say how an embedding model makes vectors: their names end in "g".
_NOT_IN_FOLDERS = ("*[!g]/*",)
_TIMEOUT_S = 3.0


def resolve_model(model: str, *, revision: str | None = None, weights: bool = True) -> Path:
    """Return the directory or the GGUF file that holds a model, downloading it if it is a hub name.

    Args:
        model: name of a model in the box, local directory or GGUF file, or hub name such as ``Qwen/Qwen3-0.6B``.
        revision: hub branch, tag or commit; the files are those of one commit.
        weights: False leaves out the weights: configuration and tokenizer only.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    return _resolve(model, revision, (*_CONFIG_FILES, *(_WEIGHT_FILES if weights else ())))


def resolve_config(model: str, *, revision: str | None = None) -> Path:
    """Return the ``config.json`` of a model; of a hub repository nothing else is downloaded.

    Args:
        model: as for ``resolve_model``, or a JSON file.
        revision: hub branch, tag or commit.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    path = Path(model).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path
    return _resolve(model, revision, (_CONFIG_FILE,)) / _CONFIG_FILE


def _resolve(model: str, revision: str | None, files: Sequence[str]) -> Path:
    if model in MODELS_IN_THE_BOX:
        return _checked(Path(str(resources.files("octavo.models"))) / "box" / model)
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(path)
    if path.exists():
        return _checked_file(path)
    if model.endswith(".gguf"):
        raise ModelError(f"The GGUF file {model} does not exist. Name a local one: they are not fetched from the hub.")
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        raise ModelError(f"The model directory {model} does not exist.")
    return _checked(_download(model, revision, files))


def _checked(directory: Path) -> Path:
    if (directory / _CONFIG_FILE).is_file():
        return directory
    present = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    gguf_files = [name for name in present if name.endswith(".gguf")]
    hint = f" Name the GGUF file itself, such as {directory / gguf_files[0]}." if gguf_files else ""
    raise ModelError(
        f"{directory} has no config.json, so it is no model directory; it holds {present[:20] or 'nothing'}.{hint}"
    )


def _checked_file(path: Path) -> Path:
    if path.is_file() and is_gguf(path):
        return path
    what = "is broken: it does not begin as a GGUF file" if path.suffix == ".gguf" else "is a file, but no GGUF file"
    raise ModelError(f"{path} {what}. Name a GGUF file, or the directory that holds config.json and the safetensors.")


def _download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, constants, errors

    if constants.HF_HUB_OFFLINE:
        return _snapshot(name, revision, files, offline_because="HF_HUB_OFFLINE is set")
    try:
        # Asked first, since this call takes a timeout: an unreachable hub must not hold up the start.
        HfApi().model_info(name, revision=revision, timeout=_TIMEOUT_S)
    except errors.HFValidationError:
        raise ModelError(
            f"The model {name!r} is neither a local directory nor a valid hub name (OWNER/NAME)."
        ) from None
    except errors.GatedRepoError:
        raise _gated(name) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"The hub has the model {name!r}, but not its revision {revision!r}.") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"The model {name!r} is no local directory, and the hub has none of this name that may be read with the "
            f"given HF_TOKEN, if any. Check the name: {constants.ENDPOINT}/{name}."
        ) from None
    except Exception as error:  # the HTTP library behind the hub client has its own errors, and it has changed before
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        return _snapshot(name, revision, files, offline_because=f"the hub cannot be reached ({cause})")
    try:
        return _snapshot(name, revision, files)
    except errors.GatedRepoError:
        raise _gated(name) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise ModelError(f"The download of {name!r} to {constants.HF_HUB_CACHE} failed: {error}") from error


def _gated(name: str) -> ModelError:
    return ModelError(f"The model {name!r} is gated: accept its terms on its hub page, then set HF_TOKEN.")


def _snapshot(name: str, revision: str | None, files: Sequence[str], *, offline_because: str | None = None) -> Path:
    """Return the directory of one commit's files: downloaded, or as far as the cache has them."""
    from huggingface_hub import constants, errors, snapshot_download

    try:
        directory = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=list(_NOT_IN_FOLDERS),
            etag_timeout=_TIMEOUT_S,
            local_files_only=offline_because is not None,
        )
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        if offline_because is None:
            raise
        raise ModelError(
            f"The model {name!r} is no local directory, {offline_because}, and the cache {constants.HF_HUB_CACHE} does "
            "not hold it. Go online once, or name a local directory with config.json and safetensors."
        ) from None
    return Path(directory)
