"""What a model is for, and how it pools, as its files say; whatever is not supported is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import ConfigError, ModelError
from octavo.models.pooling_config import PoolingConfig
from octavo.models.pooling_files import Runner, read_model_kind
from tests.checkpoints import make_checkpoint
from tests.encoder_checkpoints import make_encoder, save_pooling_files


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return make_encoder(tmp_path / "bert", "BertModel")


def change_config(directory: Path, **fields: Any) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return directory


def test_an_encoder_without_files_takes_the_mean(bert: Path) -> None:
    kind = read_model_kind(bert, "auto")
    assert kind.pooling == PoolingConfig("mean", normalize=False)
    assert kind.default_max_model_len == 130


def test_positions_of_roberta_begin_behind_the_padding(tmp_path: Path) -> None:
    kind = read_model_kind(make_encoder(tmp_path, "XLMRobertaModel"), "auto")
    assert kind.default_max_model_len == 128


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
    ],
)
def test_old_and_new_ways_to_name_the_pooling(bert: Path, pooling: dict[str, Any], expected: str) -> None:
    save_pooling_files(bert, pooling=pooling, transformer={"max_seq_length": 20, "do_lower_case": True})
    kind = read_model_kind(bert, "auto")
    assert kind.pooling == PoolingConfig(expected, normalize=True, max_seq_length=20, lowercases=True)  # type: ignore[arg-type]
    assert kind.default_max_model_len == 20


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": 3},
        {"pooling_mode_mean_tokens": "yes"},
    ],
)
def test_other_poolings_are_refused(bert: Path, pooling: dict[str, Any]) -> None:
    save_pooling_files(bert, pooling=pooling)
    with pytest.raises(ModelError, match="1_Pooling"):
        read_model_kind(bert, "auto")


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([{"type": "x.Transformer", "path": ""}], "no Pooling module"),
        ([{"type": "x.Dense", "path": "2_Dense"}], "'Dense', which is not supported"),
        ([{"type": "x.Pooling", "path": "../elsewhere"}], "beside the file"),
        ([{"type": "x.Pooling", "path": ".."}], "beside the file"),
        ([{"path": ""}], "a list of modules"),
        ({"a": 1}, "a list of modules"),
        (["x"], "a list of modules"),
    ],
)
def test_wrong_modules_are_refused(bert: Path, modules: Any, message: str) -> None:
    (bert / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=message):
        read_model_kind(bert, "auto")


def test_modules_that_are_no_json_are_refused(bert: Path) -> None:
    (bert / "modules.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        read_model_kind(bert, "auto")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_act": "tanh"}, "hidden_act"),
        ({"num_attention_heads": 5}, "do not divide the hidden size"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized checkpoints"),
    ],
)
def test_an_encoder_that_is_not_supported_is_refused(bert: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_model_kind(change_config(bert, **fields), "auto")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "has 2 labels"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, "'torch.nn.Tanh' is not supported"),
    ],
)
def test_a_classifier_that_is_no_cross_encoder_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    make_encoder(tmp_path, "BertForSequenceClassification")
    with pytest.raises(ModelError, match=message):
        read_model_kind(change_config(tmp_path, **fields), "auto")


@pytest.mark.parametrize(
    ("runner", "has_files", "pools"),
    [("auto", False, False), ("auto", True, True), ("pooling", False, True), ("generate", True, False)],
)
def test_what_a_decoder_is_for(tmp_path: Path, runner: Runner, has_files: bool, pools: bool) -> None:
    make_checkpoint(tmp_path, "qwen3")
    if has_files:
        save_pooling_files(tmp_path, pooling={"pooling_mode_lasttoken": True})
    assert (read_model_kind(tmp_path, runner).pooling is not None) == pools


def test_a_bare_decoder_makes_vectors(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "llama")
    change_config(tmp_path, architectures=["LlamaModel"])
    kind = read_model_kind(tmp_path, "auto")
    assert kind.config.architecture == "LlamaForCausalLM"
    assert kind.pooling == PoolingConfig("last", normalize=True)


def test_an_encoder_cannot_generate(bert: Path) -> None:
    with pytest.raises(ConfigError, match="BertModel is an encoder"):
        read_model_kind(bert, "generate")
