"""``--lora-modules`` in all its spellings, and what it implies."""

from __future__ import annotations

import json

import pytest

from octavo.config import ServerConfig
from octavo.config.lora_modules import LoraModule, parse_lora_modules
from octavo.config.sources import load_config
from octavo.errors import ConfigError

A = LoraModule("a", "/x")


@pytest.mark.parametrize(
    "values",
    [["a=/x"], ['{"name": "a", "path": "/x"}'], ['[{"name": "a", "path": "/x"}]'], [" a=/x "]],
)
def test_an_adapter_has_a_name_and_a_path(values):
    assert parse_lora_modules(values) == [A]


def test_json_may_name_the_parent_and_several_adapters():
    value = json.dumps([{"name": "a", "path": "/x", "base_model_name": "m"}, {"name": "b", "path": "/y=z"}])
    assert parse_lora_modules([value, "c=/y=z"]) == [
        LoraModule("a", "/x", "m"),
        LoraModule("b", "/y=z"),
        LoraModule("c", "/y=z"),
    ]


@pytest.mark.parametrize(
    "value",
    ["a", "=x", "a=", "", "{", '{"name": "a"}', '{"name": "a", "path": 1}', "[1]", '{"name":"a","path":"b","c":"d"}'],
)
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match="is not"):
        parse_lora_modules([value])


def test_adapters_imply_that_lora_is_enabled():
    assert ServerConfig(lora_modules=["a=/x"]).enable_lora
    assert not ServerConfig().enable_lora
    with pytest.raises(ConfigError, match="enable_lora is false"):
        load_config(ServerConfig, {"lora_modules": ["a=/x"], "enable_lora": False}, config_file=None, environ={})


@pytest.mark.parametrize(
    "text",
    [
        "a=/x,b=/y",
        '{"name": "a", "path": "/x"}, b=/y',
        ' a=/x , {"name": "b", "path": "/y"} ,',
        '[{"name": "a", "path": "/x"}, {"name": "b", "path": "/y"}]',
        '{"name": "a", "path": "/x"},{"path": "/y", "name": "b"}',
    ],
)
def test_a_variable_holds_several_in_any_form(text: str):
    config = load_config(ServerConfig, {}, config_file=None, environ={"OCTAVO_LORA_MODULES": text})
    assert parse_lora_modules(config.lora_modules) == [LoraModule("a", "/x"), LoraModule("b", "/y")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"name": "a"', "is not JSON"),
        ('a=/x,{"name": "a", "path": /x}', "is not JSON"),
        ('{"name": "a", "path": "/x"} b=/y', "'b=/y' follows the JSON .*; put a comma between values"),
        ("[" * 100_000, "is not JSON"),
        ('[{"name": "a", "way": "/x"}]', "an adapter has name, path"),
    ],
)
def test_a_wrong_variable_is_named(text: str, problem: str):
    with pytest.raises(ConfigError, match=f"(?s)variable OCTAVO_LORA_MODULES: .*{problem}") as raised:
        load_config(ServerConfig, {}, config_file=None, environ={"OCTAVO_LORA_MODULES": text})
    assert "\n" not in str(raised.value)


def test_commas_of_other_lists_always_divide():
    config = load_config(ServerConfig, {}, config_file=None, environ={"OCTAVO_API_KEY": "{a,b"})
    assert config.api_key == ["{a", "b"]


def test_an_adapter_is_not_named_like_the_model():
    flags = {"lora_modules": ["a=/x"], "served_model_name": ["m", "a"]}
    with pytest.raises(ConfigError, match="'a' is the name of the model"):
        load_config(ServerConfig, flags, config_file=None, environ={})


def test_the_variable_of_vllm_allows_updating():
    environ = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    assert load_config(ServerConfig, {}, config_file=None, environ=environ).enable_runtime_lora_updating
    environ |= {"OCTAVO_ENABLE_RUNTIME_LORA_UPDATING": "false"}
    assert not load_config(ServerConfig, {}, config_file=None, environ=environ).enable_runtime_lora_updating
