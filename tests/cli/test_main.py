"""The ``octavo`` command as a whole: help, version, exit codes, completion."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from octavo.cli import app, main
from octavo.cli.app import COMMANDS
from octavo.errors import ConfigError, EngineDeadError, ModelError, OctavoError, QueueFullError, RequestError
from octavo.kernels.cpu import native_status
from octavo.version import __version__


def test_help_lists_the_commands(octavo):
    ran = octavo("--help")
    assert ran.exit_code == 0
    for name, summary in COMMANDS.items():
        assert f"{name}  " in ran.out
        assert summary in ran.out


def test_without_arguments_it_helps(octavo):
    assert octavo() == octavo("--help")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(octavo, name):
    ran = octavo(name, "--help")
    assert ran.exit_code == 0
    assert ran.out.startswith(f"Usage: octavo {name}")


def test_version(octavo):
    assert octavo("--version").out == f"octavo {__version__}\n"


def test_verbose_version_says_which_native_kernels_there_are(octavo):
    lines = octavo("--version", "--verbose").out.splitlines()
    assert lines == octavo("--verbose", "--version").out.splitlines()
    assert lines[0] == f"octavo {__version__}"
    assert [line.partition(" ")[0] for line in lines[1:]] == ["python", "torch", "native", "batch-invariant"]
    assert native_status().active_isa in lines[3] or native_status().missing_because in lines[3]


def test_verbose_alone_is_refused(octavo):
    ran = octavo("--verbose", "serve")
    assert (ran.exit_code, ran.errors) == (2, ["--verbose goes with --version"])


def test_an_unknown_command_is_answered_with_the_nearest_one(octavo):
    ran = octavo("srve")
    assert (ran.exit_code, ran.errors) == (
        2,
        [f"there is no srve; did you mean serve? (commands: {', '.join(COMMANDS)})"],
    )


def test_an_unknown_flag_before_the_command_is_refused(octavo):
    ran = octavo("--verison", "serve")
    assert (ran.exit_code, ran.errors) == (2, ["there is no --verison; did you mean --version?"])


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (ConfigError("x"), 2),
        (ModelError("x"), 2),
        (RequestError("x"), 2),
        (EngineDeadError("x"), 1),
        (QueueFullError("x"), 1),
        (OctavoError("x"), 1),
        (typer.BadParameter("x"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_no_traceback(octavo, monkeypatch, error, exit_code):
    def fail(wanted: bool) -> None:
        if wanted:
            raise error

    verbose = typer.Option(False, "--verbose")
    monkeypatch.setattr(app._top, "__defaults__", (typer.Option(False, "--version", callback=fail), verbose))
    ran = octavo("--version", "serve")
    assert ran.exit_code == exit_code
    assert [line for line in ran.errors if "x" not in line] == []


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{sys.executable} -m octavo serve --help | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_the_module_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "octavo", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"octavo {__version__}\n"


def test_vllms_module_is_serve():
    module = "octavo.entrypoints.openai.api_server"
    done = subprocess.run(
        [sys.executable, "-m", module, "--model", "m", "--max_modellen", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "octavo: error: there is no --max_modellen; did you mean --max-model-len?\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("octavo ", list(COMMANDS)),
        ("octavo bench ", ["serve", "sweep", "throughput", "latency", "compare"]),
        ("octavo serve --max-num", ["--max-num-seqs", "--max-num-batched-tokens", "--max-num-queued-reqs"]),
        ("octavo serve --dtype b", ["bfloat16"]),
        ("octavo chat --u", ["--url"]),
    ],
)
def test_shells_complete_commands_flags_and_choices(words, expected):
    environ = {**os.environ, "_OCTAVO_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environ["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    program = "import sys; from octavo.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.split() == expected


def test_completion_can_be_shown_for_the_current_shell():
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "octavo", "--show-completion", "bash"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "COMPLETE" in done.stdout


def test_main_reads_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["octavo", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"octavo {__version__}\n"
