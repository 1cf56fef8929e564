"""The settings of speculative decoding: every wrong one is refused in one line."""

from __future__ import annotations

import pytest

from octavo.cli.app import LazyGroup
from octavo.cli.config_flags import given_flags
from octavo.config import EngineConfig
from octavo.config.sources import load_config, make_engine_config
from octavo.errors import ConfigError


def load(**flags: object) -> EngineConfig:
    return load_config(EngineConfig, flags, config_file=None, environ={})


def test_json_and_dotted_flags_say_the_same():
    dotted = given_flags(None, {"speculative_config__method": "ngram", "speculative_config__prompt_lookup_max": "4"})
    whole = load(speculative_config='{"method": "ngram", "prompt_lookup_max": 4}')
    assert load(**dotted) == whole
    assert whole.speculative_config.ngram_bounds == (2, 4)


def test_a_variable_holds_json():
    environ = {"OCTAVO_SPECULATIVE_CONFIG": '{"method": "suffix"}'}
    config = load_config(EngineConfig, {}, config_file=None, environ=environ)
    assert config.speculative_config.method == "suffix"
    assert EngineConfig.model_validate_json(config.model_dump_json()) == config


def test_a_model_alone_is_a_draft_model():
    config = make_engine_config(speculative_config={"model": "small", "num_speculative_tokens": 3})
    assert config.speculative_config.method == "draft_model"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("ngram", "'ngram' is not JSON; write an object like"),
        ("[1]", "it must be a JSON object"),
        ({}, "there is no method in it; methods are ngram, suffix, draft_model"),
        ({"method": "eagle"}, "method 'eagle' is not supported; methods are ngram, suffix, draft_model"),
        ({"method": "ngram", "num_speculative_token": 3}, "did you mean num_speculative_tokens?"),
        (
            {"method": "ngram", "num_speculative_tokens": 0},
            "num_speculative_tokens: 0 is not right; it must be a whole",
        ),
        ({"method": "ngram", "prompt_lookup_min": 4, "prompt_lookup_max": 3}, "prompt_lookup_min=4 is more than"),
        ({"method": "suffix", "prompt_lookup_max": 3}, "prompt_lookup_max belongs to method ngram, not to suffix"),
        ({"method": "ngram", "model": "x"}, "method ngram takes no model"),
    ],
)
def test_what_is_wrong_is_said(value: object, message: str):
    with pytest.raises(ConfigError) as error:
        load(speculative_config=value)
    assert str(error.value).startswith("flag --speculative-config: ")
    assert message in str(error.value)


def test_the_model_in_the_box_has_a_draft_of_its_own():
    assert load(speculative_config={"method": "draft_model"}).speculative_config.model == "octavo-nano-draft"
    named = load(speculative_config={"method": "draft_model", "model": "other"})
    assert named.speculative_config.model == "other"


def test_other_models_need_a_draft_to_be_named():
    with pytest.raises(ConfigError, match="flag --speculative-config: method draft_model needs a key model"):
        load(model="other", speculative_config={"method": "draft_model"})


def test_an_object_is_given_whole_or_in_parts():
    with pytest.raises(ConfigError, match="give all keys in one way"):
        given_flags(None, {"speculative_config": "{}", "speculative_config__method": "ngram"})


@pytest.mark.parametrize("key", ["num_speculative_tokens", "num-speculative-tokens"])
def test_dotted_flags_are_written_with_dashes_or_underscores(key: str):
    command = LazyGroup(name="octavo").get_command(None, "validate")
    context = command.make_context(
        "validate", [f"--speculative-config.{key}", "3", "octavo-nano"], resilient_parsing=True
    )
    assert context.params["speculative_config__num_speculative_tokens"] == "3"
