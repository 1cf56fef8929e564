"""Models of the Hugging Face hub, as far as this machine has them already. Nothing is asked over the network."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, errors, snapshot_download

from octavo.doctor.findings import Findings
from octavo.errors import ModelError
from octavo.models.hub import resolve_model
from octavo.models.weights import checkpoint_files


def find_in_cache(check: str, name: str, revision: str | None, weights: bool, findings: Findings) -> Path | None:
    """Return the directory of a hub model in the cache; None, with what there is to tell, if it is not there."""
    if constants.HF_HUB_OFFLINE:  # a server would not ask the hub either
        with findings.catching(check):
            return resolve_model(name, revision=revision, weights=weights)
        return None
    try:
        directory = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except errors.HFValidationError:
        findings.error(check, f"The {check} {name!r} is neither a local directory nor a valid hub name (OWNER/NAME).")
        return None
    except errors.LocalEntryNotFoundError:
        findings.not_checked(
            check,
            f"{name} is no local directory, and the cache {constants.HF_HUB_CACHE} does not hold it. A server would "
            "look for it on the hub and download it.",
        )
        return None
    if _is_whole(directory, weights):
        return directory
    findings.not_checked(
        check, f"the cache {directory} holds only some files of {name}. A server would download the rest."
    )
    return None


def _is_whole(directory: Path, weights: bool) -> bool:
    if not weights:
        return (directory / "config.json").is_file()
    try:
        checkpoint_files(directory)
    except ModelError:
        return False
    return (directory / "config.json").is_file()
