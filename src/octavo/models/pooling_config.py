"""How a model makes one vector of a text, as the files of sentence-transformers say. Nothing here imports torch.

``modules.json`` lists the steps (transformer, pooling, normalisation), each with a directory for its settings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octavo.errors import ModelError
from octavo.models.config_fields import ConfigFields

PoolingType = Literal["cls", "mean", "last"]

MODULES_FILE = "modules.json"
_TRANSFORMER_FILE = "sentence_bert_config.json"
_TYPES: dict[str, PoolingType] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


@dataclass(frozen=True, slots=True)
class PoolingConfig:
    """From the vectors of a text's tokens to one vector.

    Attributes:
        pooling_type: which token's vector is taken, or the mean of all.
        normalize: the vector is scaled to length 1.
        max_seq_length: longest text in tokens that the model was trained on; None if the files do not say.
        lowercases: texts are written in lower case before they are tokenized.
    """

    pooling_type: PoolingType
    normalize: bool
    max_seq_length: int | None = None
    lowercases: bool = False


def has_pooling_files(directory: Path) -> bool:
    """Whether a model directory says that the model makes vectors."""
    return (directory / MODULES_FILE).is_file()


def read_pooling_config(directory: Path, *, default: PoolingConfig) -> PoolingConfig:
    """Read ``modules.json`` and the files that it points to.

    Args:
        default: what holds where there is no ``modules.json``.

    Raises:
        ModelError: a file is broken, or asks for a step that is not supported.
    """
    if not has_pooling_files(directory):
        return default
    pooling_type, normalize, transformer = None, False, directory
    for kind, path in _modules(directory):
        match kind:
            case "Transformer":
                transformer = path
            case "Pooling":
                pooling_type = _pooling_type(ConfigFields.from_file(path / "config.json"))
            case "Normalize":
                normalize = True
            case _:
                raise ModelError(
                    f"{directory / MODULES_FILE} has a module {kind!r}, which is not supported: Transformer, Pooling "
                    "and Normalize are."
                )
    if pooling_type is None:
        raise ModelError(f"{directory / MODULES_FILE} has no Pooling module, so the model makes no vector of a text.")
    max_seq_length, lowercases = None, False
    if (transformer / _TRANSFORMER_FILE).is_file():
        fields = ConfigFields.from_file(transformer / _TRANSFORMER_FILE)
        max_seq_length = fields.optional_integer("max_seq_length")
        lowercases = fields.boolean("do_lower_case", False)
    return PoolingConfig(pooling_type, normalize, max_seq_length, lowercases)


def _modules(directory: Path) -> list[tuple[str, Path]]:
    """Return class name and directory of each module, in order."""
    path = directory / MODULES_FILE
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    modules = []
    for entry in entries if isinstance(entries, list) else [None]:
        kind, name = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        # A path is a directory beside the file, or nothing; never one somewhere else.
        if not isinstance(kind, str) or not isinstance(name, str) or name in (".", "..") or Path(name).name != name:
            raise ModelError(f"{path} must be a list of modules, each with a 'type' and a 'path' beside the file.")
        modules.append((kind.rpartition(".")[2], directory / name))
    return modules


def _pooling_type(fields: ConfigFields) -> PoolingType:
    modes = fields.raw("pooling_mode")
    if modes is None:
        modes = [mode for name, mode in _OLD_NAMES.items() if fields.boolean(name, False)]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _TYPES:
        raise ModelError(f"{fields.source}: pooling by {modes!r} is not supported: one of {', '.join(_TYPES)} is.")
    return _TYPES[modes[0]]
