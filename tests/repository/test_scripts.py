"""The scripts behind ``make``: one list of steps, a virtual environment that is made once, and clear refusals."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=60
    )


def fake_python(directory: Path, *, version_is_right: bool) -> str:
    """Make a program that is a Python of the right version or not, and has no venv module."""
    path = directory / "python"
    path.write_text(f'#!/bin/sh\ncase "$2" in *version_info*) exit {int(not version_is_right)};; esac\nexit 1\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def what_an_environment_is_made_for() -> str:
    """Return the hash of the files that a virtual environment depends on."""
    native = sorted((ROOT / "src/octavo/kernels/cpu/native").iterdir())
    files = [ROOT / "pyproject.toml", ROOT / "constraints.txt", *native]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.mark.parametrize("target", ["test", "lint", "types"])
def test_make_runs_the_steps_of_ci(target):
    assert run("make", "-n", target).stdout.startswith(".ci/run")


def test_unknown_steps_are_refused_with_the_list():
    done = run(".ci/run", "lint", "tsts")
    assert done.returncode == 2
    assert (
        done.stderr
        == ".ci/run: there is no step 'tsts'; the steps are: format lint types floors tests readme coverage\n"
    )


def test_an_old_python_is_refused(tmp_path):
    python = fake_python(tmp_path, version_is_right=False)
    done = run(".ci/make_venv", "serve", VENV=str(tmp_path / "venv"), PYTHON=python)
    assert done.returncode == 2
    assert f"needs Python 3.11 or newer, and {python} is not" in done.stderr


def test_a_python_without_venv_is_told_the_package_to_install(tmp_path):
    python = fake_python(tmp_path, version_is_right=True)
    done = run(".ci/make_venv", "serve", VENV=str(tmp_path / "venv"), PYTHON=python)
    assert done.returncode == 2
    assert "sudo apt install python3-venv" in done.stderr


@pytest.mark.parametrize(("made_for", "wanted"), [("serve", "serve"), ("dev", "dev"), ("dev", "serve")])
def test_an_environment_that_is_up_to_date_is_left_alone(tmp_path, made_for, wanted):
    (tmp_path / f".made-for-{made_for}").write_text(what_an_environment_is_made_for() + "\n")
    done = run(".ci/make_venv", wanted, VENV=str(tmp_path), PYTHON="/no/python")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_environment_for_serving_is_not_enough_for_the_checks(tmp_path):
    (tmp_path / ".made-for-serve").write_text(what_an_environment_is_made_for() + "\n")
    assert run(".ci/make_venv", "dev", VENV=str(tmp_path), PYTHON="/no/python").returncode == 2
