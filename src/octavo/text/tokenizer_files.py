"""The small files beside tokenizer.json, read into one record; every fault in them is named with its file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ModelError

_NAMED_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_OTHER_FORMATS = ("tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model", "qwen.tiktoken")


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What a model's files say about its tokenizer, beside tokenizer.json.

    Attributes:
        special_tokens: name to token: ``bos_token``, ``eos_token``, …
        extra_special_tokens: special tokens without a name.
        eos_token_ids: ids that end a sequence, by generation_config.json; None if it does not say.
        config_eos_token_ids: the same by config.json.
        chat_templates: name to source; the usual one is named ``default``.
        chat_template_origin: the file that the chat templates are from.
    """

    special_tokens: dict[str, str]
    extra_special_tokens: list[str]
    eos_token_ids: list[int] | None
    config_eos_token_ids: list[int] | None
    chat_templates: dict[str, str]
    chat_template_origin: Path


def read_tokenizer_settings(directory: Path) -> TokenizerSettings:
    """Read tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json and the chat template.

    Raises:
        ModelError: a file is broken; the message names it and the place.
    """
    config_path, map_path = directory / "tokenizer_config.json", directory / "special_tokens_map.json"
    config, token_map = read_json_object(config_path), read_json_object(map_path)
    origin, templates = _read_chat_templates(directory, config)
    return TokenizerSettings(
        special_tokens=_named_tokens(map_path, token_map) | _named_tokens(config_path, config),
        extra_special_tokens=_unnamed_tokens(map_path, token_map) + _unnamed_tokens(config_path, config),
        eos_token_ids=_read_eos_token_ids(directory / "generation_config.json"),
        config_eos_token_ids=_read_eos_token_ids(directory / "config.json"),
        chat_templates=templates,
        chat_template_origin=origin,
    )


def read_tokenizer_json(directory: Path) -> str:
    """Return the text of tokenizer.json.

    Raises:
        ModelError: there is none (the message says what to do with the formats that are there), or it is unreadable.
    """
    path = directory / "tokenizer.json"
    if path.is_file():
        return _read_text(path)
    found = [name for name in _OTHER_FORMATS if (directory / name).is_file()]
    there_is = (
        f"only {', '.join(found)}, a format that is not read" if found else "no tokenizer in another format either"
    )
    advice = (
        "Write one with transformers: AutoTokenizer.from_pretrained(DIRECTORY).save_pretrained(DIRECTORY)"
        if found
        else "Copy it from the model's page, or name the directory that has it"
    )
    raise ModelError(f"{directory} has no tokenizer.json ({there_is}). {advice}.")


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one if there is no such file.

    Raises:
        ModelError: the file is unreadable, not JSON, or not an object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ModelError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must contain a JSON object, not {type(content).__name__}")
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _token_text(path: Path, name: str, value: Any) -> str:
    """Return the token of an entry that is a string or a saved AddedToken."""
    token = value.get("content") if isinstance(value, dict) else value
    if not isinstance(token, str):
        raise ModelError(f"{path}: {name} must be a token, not {value!r}")
    return token


def _named_tokens(path: Path, config: dict[str, Any]) -> dict[str, str]:
    given = {name: config.get(name) for name in _NAMED_SPECIAL_TOKENS}
    return {name: _token_text(path, name, value) for name, value in given.items() if value is not None}


def _unnamed_tokens(path: Path, config: dict[str, Any]) -> list[str]:
    tokens: list[str] = []
    for name in "additional_special_tokens", "extra_special_tokens":
        values = config.get(name) or []
        tokens += [
            _token_text(path, name, value) for value in (values.values() if isinstance(values, dict) else values)
        ]
    return tokens


def _read_eos_token_ids(path: Path) -> list[int] | None:
    value = read_json_object(path).get("eos_token_id")
    if value is None:
        return None
    token_ids = value if isinstance(value, list) else [value]
    if not all(type(token_id) is int and token_id >= 0 for token_id in token_ids):
        raise ModelError(f"{path}: eos_token_id must be a token id or a list of them, not {value!r}")
    return token_ids


def _read_chat_templates(directory: Path, config: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """Return the file that holds the chat templates, and these by name; chat_template.jinja comes before the others."""
    jinja_path, json_path = directory / "chat_template.jinja", directory / "chat_template.json"
    if jinja_path.is_file():
        return jinja_path, {"default": _read_text(jinja_path)}
    path, value = json_path, read_json_object(json_path).get("chat_template")
    if value is None:
        path, value = directory / "tokenizer_config.json", config.get("chat_template")
    if value is None:
        return path, {}
    if isinstance(value, str):
        return path, {"default": value}
    if isinstance(value, list) and all(
        isinstance(entry, dict) and {"name", "template"} <= entry.keys() for entry in value
    ):
        return path, {str(entry["name"]): str(entry["template"]) for entry in value}
    raise ModelError(f"{path}: chat_template must be a string or a list of objects with name and template")
