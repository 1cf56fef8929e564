"""Every process logs readable lines on stderr, the HTTP server's loggers included."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ([A-Z]+) +(\S+)  (\S+)  (.*)")


def log(level: str, statements: str) -> list[tuple[str, str, str, str]]:
    """Run statements in a fresh process and return its log as (level, process, module, message)."""
    program = f"import logging\nfrom octavo.observe.logging import set_up_logging\nset_up_logging({level!r}, 'api')\n"
    done = subprocess.run([sys.executable, "-c", program + statements], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    lines = [LINE.fullmatch(line) for line in done.stderr.splitlines()]
    return [line.groups() for line in lines if line is not None]


def test_a_line_has_level_process_module_and_message():
    assert log("info", "logging.getLogger('octavo.engine.core').info('%d blocks', 3)") == [
        ("INFO", "api", "octavo.engine.core", "3 blocks")
    ]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_only_what_is_severe_enough_is_logged(level, count):
    statements = "for name in ('debug', 'info', 'warning', 'error'): getattr(logging.getLogger('octavo'), name)('x')"
    assert len(log(level, statements)) == count


def test_setting_up_twice_does_not_log_twice():
    assert len(log("info", "set_up_logging('info', 'engine')\nlogging.getLogger('octavo').info('x')")) == 1


@pytest.mark.parametrize(("level", "expected"), [("info", []), ("debug", ["DEBUG"])])
def test_the_access_log_is_for_debugging(level, expected):
    statements = (
        "import uvicorn\n"
        "uvicorn.Config(app=None, log_config=None)\n"
        "logging.getLogger('uvicorn.access').info('GET /health 200')\n"
    )
    assert [line[0] for line in log(level, statements)] == expected


def test_errors_of_the_http_server_have_our_format():
    (line,) = log("info", "logging.getLogger('uvicorn.error').error('it broke')")
    assert line == ("ERROR", "api", "uvicorn.error", "it broke")


def test_clients_do_not_report_every_request():
    assert log("info", "logging.getLogger('httpx').info('HTTP Request: GET /')") == []


def test_it_needs_nothing_beyond_the_standard_library():
    program = "import json, sys, octavo.observe.logging; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", program]))
    assert not {"rich", "uvicorn", "pydantic", "torch"} & set(loaded)
