"""Files that are written whole or not at all."""

from __future__ import annotations

import pytest

from octavo.bench.files import check_targets, write_whole
from octavo.errors import ConfigError


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_where_nothing_can_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    check_targets(None, tmp_path / "file", tmp_path / "new")
    with pytest.raises(ConfigError, match="is a directory; name a file"):
        check_targets(tmp_path)
    for parent in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(ConfigError, match="there is no directory"):
            check_targets(None, parent / "x.json")
