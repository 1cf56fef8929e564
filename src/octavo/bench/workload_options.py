"""The options of a workload under the names that vLLM gave them, and which of them belong to which dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.bench.serve_settings import DatasetName, Workload, dataset_name
from octavo.errors import ConfigError

_RANDOM = {
    "random_input_len": "input_len",
    "random_output_len": "output_len",
    "random_range_ratio": "range_ratio",
}
_FIELDS: Mapping[DatasetName, Mapping[str, str]] = {
    "random": _RANDOM,
    "shared-prefix": {
        "prefix_repetition_num_prefixes": "num_prefixes",
        "prefix_repetition_prefix_len": "prefix_len",
        "prefix_repetition_suffix_len": "input_len",
        "prefix_repetition_output_len": "output_len",
    },
    "multi-turn": {**_RANDOM, "num_turns": "num_turns", "think_time": "think_time_s"},
    "jsonl": {"dataset_path": "dataset_path", "custom_output_len": "output_len"},
    "trace": {
        "dataset_path": "dataset_path",
        "trace_speed": "trace_speed",
        "trace_start": "trace_start_s",
        "max_model_len": "max_model_len",
    },
}
OPTIONS = tuple(dict.fromkeys(option for names in _FIELDS.values() for option in names))
_DEFAULTS: Mapping[DatasetName, Mapping[str, Any]] = {
    "shared-prefix": {"input_len": 256},
    "jsonl": {"output_len": 256},
}


def make_workload(name: str, options: Mapping[str, Any]) -> Workload:
    """Return the workload that options describe; those that are None were not given.

    Raises:
        ConfigError: there is no such dataset, an option belongs to another one, or a value is out of range.
    """
    dataset = dataset_name(name)
    names = _FIELDS[dataset]
    given = {option: value for option, value in options.items() if value is not None}
    foreign = [_flag(option) for option in given if option not in names]
    if foreign:
        own = ", ".join(_flag(option) for option in names)
        raise ConfigError(f"{', '.join(foreign)} is not for dataset {dataset}: that one has {own}")
    values = {names[option]: value for option, value in given.items()}
    return Workload(dataset_name=dataset, **{**_DEFAULTS.get(dataset, {}), **values})


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
