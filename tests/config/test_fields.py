"""What is read off the schema: the words for allowed values must agree with what the schema accepts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from octavo.config import ServerConfig
from octavo.config.fields import settings_of
from octavo.config.vllm import NOT_YET

SETTINGS = settings_of(ServerConfig)


def test_every_setting_can_be_described():
    assert list(SETTINGS) == list(ServerConfig.model_fields)
    assert all(setting.help and setting.allowed and setting.metavar for setting in SETTINGS.values())


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.choices])
def test_choices_are_exactly_what_the_schema_accepts(name):
    for choice in SETTINGS[name].choices:
        assert getattr(ServerConfig(**{name: choice}), name) == choice
    with pytest.raises(ValidationError):
        ServerConfig(**{name: "something else"})


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("port", "a whole number at least 0 and at most 65535"),
        ("gpu_memory_utilization", "a number above 0 and at most 1"),
        ("enable_prefix_caching", "true or false"),
        ("model", "a text"),
        ("served_model_name", "texts"),
        ("kv_cache_memory_bytes", "a size in bytes above 0, as a whole number or like 512MiB or 4GiB"),
        ("max_num_seqs", "a whole number above 0, also written like 8k (8,000) or 8K (8,192)"),
    ],
)
def test_allowed_values_are_put_in_words(name, allowed):
    assert SETTINGS[name].allowed == allowed


def test_names_of_flags_and_variables():
    setting = SETTINGS["max_model_len"]
    assert (setting.flag, setting.variable) == ("--max-model-len", "OCTAVO_MAX_MODEL_LEN")


def test_a_setting_that_exists_is_not_listed_as_missing():
    assert not NOT_YET & set(ServerConfig.model_fields)
