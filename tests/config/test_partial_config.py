"""Settings of which some are wrong: the others hold, and the wrong ones are named with what is said about them."""

from __future__ import annotations

import pytest

from octavo.config import ServerConfig
from octavo.config.sources import load_config, load_partial_config
from octavo.errors import ConfigError


def test_what_is_right_holds_and_what_is_wrong_has_its_default(tmp_path):
    file = tmp_path / "server.yaml"
    file.write_text("block-size: 8\nseed: x\nno-such: 1\n", encoding="utf-8")
    partial = load_partial_config(
        ServerConfig, {"port": "9000", "host": 7}, config_file=file, environ={"OCTAVO_MAX_NUM_SEQS": "0"}
    )
    assert partial.config == ServerConfig(block_size=8, port=9000)
    assert partial.config.model_fields_set == {"block_size", "port"}
    assert partial.wrong == {"seed", "host", "max_num_seqs"}
    assert len(partial.problems) == 4


def test_a_wrong_flag_does_not_give_way_to_the_file(tmp_path):
    file = tmp_path / "server.yaml"
    file.write_text("port: 9000\n", encoding="utf-8")
    partial = load_partial_config(ServerConfig, {"port": "x"}, config_file=file, environ={})
    assert (partial.config.port, partial.wrong) == (ServerConfig().port, {"port"})


def test_a_file_that_cannot_be_read_hides_nothing_else(tmp_path):
    sources = {"config_file": tmp_path / "none.yaml", "environ": {"OCTAVO_PORT": "x"}}
    partial = load_partial_config(ServerConfig, {"seed": "3"}, **sources)
    assert partial.config == ServerConfig(seed=3)
    assert [problem.split(":")[0] for problem in partial.problems] == [
        f"configuration file {tmp_path / 'none.yaml'}",
        "variable OCTAVO_PORT",
    ]
    with pytest.raises(ConfigError) as caught:
        load_config(ServerConfig, {"seed": "3"}, **sources)
    assert str(caught.value).splitlines() == list(partial.problems)


def test_when_all_is_right_nothing_is_told():
    partial = load_partial_config(ServerConfig, {"port": 1}, config_file=None, environ={})
    assert (partial.config, partial.problems, partial.wrong) == (ServerConfig(port=1), (), frozenset())
