"""Where settings come from, which source wins, and what is said about each wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config import EngineConfig, ServerConfig
from octavo.config.sources import load_config, make_engine_config
from octavo.errors import ConfigError
from octavo.kernels.cpu.loading import ISA_VARIABLE


def load(
    flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, file: Path | None = None
) -> ServerConfig:
    return load_config(ServerConfig, flags or {}, config_file=file, environ=environ or {})


def problems_of(**sources: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(**sources)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


@pytest.fixture
def write_yaml(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "octavo.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_without_any_source_the_defaults_hold():
    assert load() == ServerConfig()


def test_a_flag_goes_before_the_environment_and_the_environment_before_the_file(write_yaml):
    file = write_yaml("port: 1\nseed: 1\nblock-size: 8\n")
    config = load({"port": "3"}, {"OCTAVO_PORT": "2", "OCTAVO_SEED": "2"}, file)
    assert (config.port, config.seed, config.block_size) == (3, 2, 8)


@pytest.mark.parametrize("key", ["max-model-len", "max_model_len"])
def test_keys_of_the_file_have_dashes_or_underscores(write_yaml, key):
    assert load(file=write_yaml(f"{key}: 8k")).max_model_len == 8000


def test_lists_are_written_as_each_source_writes_lists(write_yaml):
    assert load({"served_model_name": ["a", "b"]}).served_model_name == ["a", "b"]
    assert load(environ={"OCTAVO_SERVED_MODEL_NAME": "a, b"}).served_model_name == ["a", "b"]
    assert load(file=write_yaml("served-model-name: [a, b]")).served_model_name == ["a", "b"]
    assert load(file=write_yaml("served-model-name: a")).served_model_name == ["a"]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("no", False), ("off", False)])
def test_switches_in_the_environment_are_words_or_digits(text, value):
    assert load(environ={"OCTAVO_ENABLE_PREFIX_CACHING": text}).enable_prefix_caching is value


def test_an_empty_variable_and_an_empty_key_count_as_not_set(write_yaml):
    assert load(environ={"OCTAVO_MODEL": ""}, file=write_yaml("revision:\n")) == ServerConfig()


def test_an_empty_file_sets_nothing(write_yaml):
    assert load(file=write_yaml("# nothing yet\n")) == ServerConfig()


def test_settings_of_a_server_are_passed_over_when_an_engine_is_configured(write_yaml):
    file = write_yaml("port: 9000\nseed: 7\n")
    config = load_config(EngineConfig, {}, config_file=file, environ={"OCTAVO_HOST": "0.0.0.0"})
    assert config == EngineConfig(seed=7)


def test_every_problem_is_named_with_its_source_its_value_and_what_is_allowed(write_yaml):
    file = write_yaml("block-size: 4096\n")
    lines = problems_of(flags={"port": "80a", "dtype": "float3"}, environ={"OCTAVO_MAX_MODEL_LEN": "8x"}, file=file)
    assert sorted(lines) == [
        "flag --dtype: 'float3' is not right; it must be one of auto, float32, bfloat16, float16; "
        "did you mean float32?",
        "flag --port: '80a' is not right; it must be a whole number at least 0 and at most 65535",
        f"key block-size in {file}: 4096 is not right; it must be a whole number at least 1 and at most 1024",
        "variable OCTAVO_MAX_MODEL_LEN: '8x' is not right; it must be a whole number above 0, also written like "
        "8k (8,000) or 8K (8,192)",
    ]


def test_unknown_names_come_with_the_nearest_valid_one(write_yaml):
    file = write_yaml("max-model-length: 3\nmax_num_seq: 2\n")
    assert problems_of(environ={"OCTAVO_PROT": "1"}, file=file) == [
        f"key max-model-length in {file}: there is no max-model-length; did you mean max-model-len?",
        f"key max_num_seq in {file}: there is no max_num_seq; did you mean max_num_seqs?",
        "variable OCTAVO_PROT: there is no OCTAVO_PROT; did you mean OCTAVO_PORT?",
    ]


def test_what_vllm_has_and_octavo_does_not_is_refused_by_name(write_yaml):
    (line,) = problems_of(file=write_yaml("lora-dtype: auto\n"))
    assert "vLLM's lora-dtype does not exist in Octavo yet" in line


def test_one_setting_under_both_spellings_is_refused(write_yaml):
    (line,) = problems_of(file=write_yaml("max-model-len: 3\nmax_model_len: 4\n"))
    assert "twice" in line


@pytest.mark.parametrize("source", ["flags", "environ", "file"])
def test_a_secret_is_never_repeated(write_yaml, source):
    secret = "sk-very-secret"
    sources = {
        "flags": {"flags": {"api_key": {secret: 1}}},
        "environ": {"environ": {"OCTAVO_API_KEY": secret, "OCTAVO_PORT": "x"}},
        "file": {"file": write_yaml(f"api-key: [[{secret}]]")},
    }
    with pytest.raises(ConfigError) as caught:
        load(**sources[source])  # type: ignore[arg-type]
    assert secret not in str(caught.value)
    assert caught.value.__suppress_context__


def test_variables_of_kubernetes_service_links_are_not_ours():
    links = {
        "OCTAVO_SERVICE_HOST": "10.0.0.1",
        "OCTAVO_SERVICE_PORT_HTTP": "80",
        "OCTAVO_PORT": "tcp://10.0.0.1:80",
        "OCTAVO_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load(environ=links) == ServerConfig()


def test_the_instruction_set_is_no_setting():
    assert load(environ={ISA_VARIABLE: "avx2"}) == ServerConfig()


def test_the_variable_of_vllm_asks_for_batch_invariance():
    assert load(environ={"VLLM_BATCH_INVARIANT": "1"}).batch_invariant is True
    assert load().batch_invariant is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [("port: [", "line 1"), ("- port\n- 3\n", "must be a mapping"), ("\tport: 3", "line 1")],
)
def test_a_file_that_is_no_mapping_is_refused(write_yaml, text, reason):
    (line,) = problems_of(file=write_yaml(text))
    assert reason in line


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert problems_of(file=tmp_path / "none.yaml") == [
        f"configuration file {tmp_path / 'none.yaml'}: No such file or directory"
    ]
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    (line,) = problems_of(file=tmp_path / "binary.yaml")
    assert "not UTF-8" in line


def test_what_does_not_exist_yet_is_refused_in_the_words_of_the_schema_all_at_once():
    first, second = sorted(problems_of(flags={"tensor_parallel_size": "2", "trust_remote_code": True}))
    assert first.startswith("flag --tensor-parallel-size: 2 is not supported: ")
    assert second.startswith("flag --trust-remote-code: true is not supported: ")


def test_another_quantization_is_refused_naming_those_there_are():
    (line,) = problems_of(flags={"quantization": "awq_marlin"})
    assert line == ("flag --quantization: 'awq_marlin' is not right; it must be one of int8, int4, gptq, awq, gguf")


@settings(deadline=None)  # the machine may be busy
@given(
    port=st.integers(0, 65535),
    seqs=st.integers(1, 10**6),
    caching=st.booleans(),
    names=st.lists(st.from_regex(r"[a-z][a-z0-9/.-]{0,10}", fullmatch=True), max_size=3),
)
def test_flags_environment_and_file_mean_the_same(tmp_path_factory, port, seqs, caching, names):
    values = {"port": port, "max_num_seqs": seqs, "enable_prefix_caching": caching, "served_model_name": names}
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    environ = {
        f"OCTAVO_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }
    assert load(values) == load(environ=environ) == load(file=file) == ServerConfig(**values)


def test_arguments_of_the_python_api_get_the_same_messages():
    assert make_engine_config(model="m", max_model_len=128) == EngineConfig(model="m", max_model_len=128)
    with pytest.raises(ConfigError) as caught:
        make_engine_config(max_model_length=3, dtype="int8", enforce_eager=True)
    assert str(caught.value).splitlines() == [
        "argument max_model_length: there is no max_model_length; did you mean max_model_len?",
        "argument enforce_eager: vLLM's enforce_eager does not exist in Octavo yet",
        "argument dtype: 'int8' is not right; it must be one of auto, float32, bfloat16, float16",
    ]
