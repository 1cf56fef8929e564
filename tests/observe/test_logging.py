"""Every process logs readable lines on stderr, the HTTP server's loggers included."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import datetime

import pytest

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ([A-Z]+) +(\S+)  (\S+)  (.*)")


# What a client could send to be taken for more than it is: more lines, colours, other line ends, turned text.
HOSTILE = "a\n2026-01-31 12:00:00.000 INFO    api  octavo  forged\r\x1b[31mred\x9b2J\x00\u2028line\u202eturned\x85"
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def run(level: str, statements: str, settings: str = "") -> list[str]:
    """Run statements in a fresh process and return the lines of its log."""
    program = (
        "import logging\n"
        "from octavo.observe.log_context import log_context\n"
        "from octavo.observe.logging import set_up_logging\n"
        f"set_up_logging({level!r}, 'api'{settings})\n"
        "log = logging.getLogger('octavo')\n"
        f"HOSTILE = {HOSTILE!r}\n"
    )
    done = subprocess.run([sys.executable, "-c", program + statements], capture_output=True, check=True)
    assert done.stdout == b""
    return done.stderr.decode().removesuffix("\n").split("\n") if done.stderr else []


def log(level: str, statements: str, settings: str = "") -> list[tuple[str, str, str, str]]:
    """Run statements in a fresh process and return its log as (level, process, module, message)."""
    lines = [LINE.fullmatch(line) for line in run(level, statements, settings)]
    return [line.groups() for line in lines if line is not None]


def log_json(statements: str) -> list[dict[str, object]]:
    """Run statements in a fresh process that logs JSON; every line of it must be an object."""
    return [json.loads(line) for line in run("info", statements, ", 'json'")]


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


def test_the_access_log_can_be_switched_off_and_the_http_library_made_silent():
    statements = "for name in ('octavo.api.access', 'uvicorn.error', 'octavo'): logging.getLogger(name).error('x')"
    assert [line[2] for line in log("info", statements)] == ["octavo.api.access", "uvicorn.error", "octavo"]
    settings = ", access_log=False, http_server_level='critical'"
    assert [line[2] for line in log("info", statements, settings)] == ["octavo"]


def test_the_http_library_may_say_more_than_the_rest():
    statements = "for name in ('uvicorn.error', 'octavo'): logging.getLogger(name).debug('x')"
    lines = log("info", statements, ", http_server_level='trace'")
    assert [line[2] for line in lines] == ["uvicorn.error"]


def test_lines_of_a_request_carry_its_id():
    statements = "with log_context(request_id='abc-1'): log.info('inside')\nlog.info('outside')"
    assert [line[3] for line in log("info", statements)] == ["[abc-1] inside", "outside"]


def test_tasks_of_a_request_carry_its_id_and_other_tasks_do_not():
    statements = (
        "import asyncio\n"
        "async def work(): await asyncio.sleep(0); log.info('working')\n"
        "async def request(name):\n"
        "    with log_context(request_id=name): await asyncio.create_task(work())\n"
        "async def main(): await asyncio.gather(request('a'), request('b'), work())\n"
        "asyncio.run(main())\n"
    )
    assert sorted(line[3] for line in log("info", statements)) == ["[a] working", "[b] working", "working"]


@pytest.mark.parametrize("statement", ["log.info(HOSTILE)", "log.info('%s', HOSTILE)"])
def test_a_message_is_one_line_without_control_characters(statement):
    (line,) = run("info", statement)
    assert LINE.fullmatch(line)
    assert UNSAFE.search(line) is None
    assert r"a\n2026-01-31" in line
    assert r"\x1b[31mred" in line


def test_no_line_of_a_traceback_looks_like_an_event():
    lines = run("info", "try: raise ValueError(HOSTILE)\nexcept ValueError: log.exception('it failed')")
    assert [bool(LINE.fullmatch(line)) for line in lines] == [True] + [False] * (len(lines) - 1)
    assert len(lines) > 3
    assert UNSAFE.search("".join(lines)) is None
    assert any("forged" in line for line in lines)


def test_json_has_one_object_a_record():
    (record,) = log_json("logging.getLogger('octavo.engine.core').warning('%d blocks', 3)")
    moment = datetime.fromisoformat(record.pop("timestamp"))
    assert moment.utcoffset() is not None
    assert abs(moment.timestamp() - time.time()) < 60
    assert record == {"level": "warning", "logger": "octavo.engine.core", "process": "api", "message": "3 blocks"}


def test_json_has_the_ids_of_the_context_and_the_fields_of_the_call():
    statements = (
        "with log_context(trace_id='t', span_id='s'):\n"
        "    with log_context(request_id='r'):\n"
        "        log.info('done', extra={'fields': {'status': 200, 'level': 'forged', 'request_id': 'forged'}})\n"
    )
    (record,) = log_json(statements)
    found = {name: record[name] for name in ("trace_id", "span_id", "request_id", "status", "level")}
    assert found == {"trace_id": "t", "span_id": "s", "request_id": "r", "status": 200, "level": "info"}


def test_json_has_an_exception_as_one_text():
    statements = "try: raise ValueError('why')\nexcept ValueError: log.exception('it failed')"
    (record,) = log_json(statements)
    assert record["message"] == "it failed"
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ValueError: why")


def test_json_keeps_hostile_text_as_it_is_without_its_effect():
    (line,) = run("info", "with log_context(request_id=HOSTILE): log.info(HOSTILE)", ", 'json'")
    assert UNSAFE.search(line) is None
    assert (json.loads(line)["message"], json.loads(line)["request_id"]) == (HOSTILE, HOSTILE)


def test_json_can_be_written_of_broken_unicode_and_of_any_object():
    (record,) = log_json("log.info('\\ud800 and 你好', extra={'fields': {'path': __import__('pathlib').Path('/x')}})")
    assert record["message"] == "\ud800 and 你好"
    assert "/x" in record["path"]


def test_warnings_of_libraries_are_events_too():
    (record,) = log_json("import warnings; warnings.warn('old')")
    assert record["logger"] == "py.warnings"
    assert "UserWarning: old" in record["message"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_children_can_be_told_the_format(log_format):
    statements = "from octavo.observe.logging import current_log_format\nlog.info(current_log_format())"
    assert log_format in run("info", statements, f", {log_format!r}")[0]


def test_it_needs_nothing_beyond_the_standard_library():
    program = "import json, sys, octavo.observe.logging; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", program]))
    assert not {"rich", "uvicorn", "pydantic", "torch"} & set(loaded)
