"""The quantization_config of published checkpoints, and how the setting agrees with it."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.errors import ConfigError, ModelError
from octavo.models.config_fields import ConfigFields
from octavo.models.quantization.base import Dense
from octavo.models.quantization.checkpoint_config import CheckpointQuantization, read_quantization
from octavo.models.quantization.choice import UNQUANTIZED, choose_formats
from octavo.models.quantization.packed import Awq, Gptq
from octavo.models.quantization.rounding import RoundedInt4, RoundedInt8

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}


def read(section: dict[str, Any] | None, tied_head: bool = False) -> CheckpointQuantization | None:
    fields = {} if section is None else {"quantization_config": section}
    return read_quantization(ConfigFields(fields, "config.json"), tied_head=tied_head)


def test_no_section_means_not_quantised() -> None:
    assert read(None) is None


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            # As AutoGPTQ writes it into config.json through transformers.
            GPTQ | {"desc_act": True, "sym": True, "damp_percent": 0.1, "true_sequential": True, "version": None},
            CheckpointQuantization(method="gptq", bits=4, group_size=128, zero_offset=1, has_input_order=True),
        ),
        (
            # As GPTQModel writes it.
            GPTQ
            | {"bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2", "pack_dtype": "int32", "lm_head": False}
            | {"meta": {"quantizer": ["gptqmodel:2.2.0"]}, "sym": False, "dynamic": None},
            CheckpointQuantization(method="gptq", bits=8, group_size=None, zero_offset=0),
        ),
        (
            GPTQ | {"lm_head": True, "checkpoint_format": "gptq"},
            CheckpointQuantization(method="gptq", bits=4, group_size=128, zero_offset=1, quantizes_head=True),
        ),
        (
            # As AutoAWQ writes it.
            AWQ | {"version": "gemm", "zero_point": True, "modules_to_not_convert": None},
            CheckpointQuantization(method="awq", bits=4, group_size=128),
        ),
        (
            AWQ | {"version": "GEMM", "modules_to_not_convert": ["lm_head"]},
            CheckpointQuantization(method="awq", bits=4, group_size=128),
        ),
    ],
)
def test_sections_that_quantisers_write_are_understood(
    section: dict[str, Any], expected: CheckpointQuantization
) -> None:
    assert read(section) == expected


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"quant_method": "fp8"}, r"quant_method 'fp8'\. Supported are gptq and awq checkpoints.*int8 or int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"quant_method 'bitsandbytes'\. Supported are"),
        ({"quant_method": "compressed-tensors"}, r"quant_method 'compressed-tensors'\. Supported are"),
        ({"bits": 4}, r"quant_method None\. Supported are"),
        ({"quant_method": ["gptq"]}, r"quant_method \['gptq'\]\. Supported are"),
        (GPTQ | {"bits": 3}, r"quantization_config: field 'bits' is 3; it must be 4 or 8"),
        (GPTQ | {"bits": True}, r"field 'bits' is True"),
        ({"quant_method": "gptq", "group_size": 128}, r"field 'bits' is missing; it must be 4 or 8"),
        (GPTQ | {"group_size": 16}, r"field 'group_size' is 16; it must be -1 or a multiple of 32"),
        (GPTQ | {"group_size": "128"}, r"field 'group_size' is '128'"),
        ({"quant_method": "gptq", "bits": 4}, r"field 'group_size' is missing"),
        (GPTQ | {"desc_act": "yes"}, r"field 'desc_act' is 'yes'; it must be true or false"),
        (GPTQ | {"checkpoint_format": "marlin"}, r"'checkpoint_format' is 'marlin'; it must be one of gptq, gptq_v2"),
        (GPTQ | {"is_marlin_format": True}, r"'is_marlin_format' is True"),
        (GPTQ | {"dynamic": {"-:.*mlp.*": {}}}, r"field 'dynamic' is .* all linear layers must be packed alike"),
        (AWQ | {"bits": 8}, r"field 'bits' is 8; it must be 4\."),
        (AWQ | {"version": "gemv_fast"}, r"field 'version' is 'gemv_fast'; it must be 'gemm'"),
        (AWQ | {"zero_point": False}, r"field 'zero_point' is False; it must be true"),
        (AWQ | {"modules_to_not_convert": ["self_attn"]}, r"'modules_to_not_convert' is \['self_attn'\]"),
    ],
)
def test_what_is_not_supported_is_named_with_what_is(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(section)


def test_packed_head_cannot_be_the_embedding() -> None:
    with pytest.raises(ModelError, match=r"'lm_head' is True; it must be false, since tie_word_embeddings is true"):
        read(GPTQ | {"lm_head": True}, tied_head=True)


def test_dense_checkpoint_is_quantised_as_the_setting_says() -> None:
    assert choose_formats(None, None) == UNQUANTIZED
    int8, int4 = choose_formats("int8", None), choose_formats("int4", None)
    assert (int8.method, int8.linear, int8.head) == ("int8", RoundedInt8(), RoundedInt8())
    assert (int4.method, int4.linear, int4.head) == ("int4", RoundedInt4(), RoundedInt8())


def test_packed_checkpoint_needs_no_setting_but_takes_the_right_one() -> None:
    gptq, awq = read(GPTQ | {"desc_act": True}), read(AWQ)
    for setting in (None, "gptq"):
        formats = choose_formats(setting, gptq)
        assert formats.linear == Gptq(4, 128, zero_offset=1, has_input_order=True)
        assert isinstance(formats.head, Dense)
    assert choose_formats("awq", awq).linear == Awq(4, 128)
    packed_head = choose_formats(None, read(GPTQ | {"lm_head": True}))
    assert packed_head.head == packed_head.linear


@pytest.mark.parametrize("setting", ["int8", "int4", "awq"])
def test_setting_that_contradicts_the_checkpoint_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"quantization={setting} was asked for, but .* already quantized with gptq"):
        choose_formats(setting, read(GPTQ))


@pytest.mark.parametrize("setting", ["gptq", "awq"])
def test_setting_for_packed_checkpoints_is_refused_for_others(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"quantization={setting} was asked for, but .* not quantized.*int8, int4"):
        choose_formats(setting, None)
