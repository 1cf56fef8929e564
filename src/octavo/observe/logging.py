"""The log: one readable line or one JSON object an event on stderr, the same from every process and library.

2026-01-31 12:00:00.123 INFO    api  octavo.api.access  [req-1] GET /v1/models 200 1.2 ms
{"timestamp":"2026-01-31T12:00:00.123+00:00","level":"info","logger":"octavo.api.access","process":"api",…}

Whatever a client sends may come up in a message; no message can begin a second line or move the cursor of a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from octavo.observe.log_context import log_fields

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
ServerLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]

ACCESS_LOGGER = "octavo.api.access"
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s {process}  %(name)s  %(message)s"
_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
_UVICORN_LOGGER = "uvicorn"
_UVICORN_ACCESS_LOGGER = "uvicorn.access"
_UVICORN_LOGGERS = (_UVICORN_LOGGER, "uvicorn.error", _UVICORN_ACCESS_LOGGER)
_TRACE_LEVEL = 5  # uvicorn's own, below debug
# Libraries that report every request or file at "info"; what they do belongs to our own debugging only.
_CHATTY_LOGGERS = ("asyncio", "filelock", "httpcore", "httpx", "huggingface_hub", "opentelemetry", "urllib3")
# Control characters, lone surrogates, and what ends a line or turns its direction in Unicode.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def set_up_logging(
    level: Level,
    process_name: str,
    log_format: LogFormat = "text",
    *,
    access_log: bool = True,
    http_server_level: ServerLevel | None = None,
) -> None:
    """Send all logs and warnings of this process to stderr; calling it again replaces the earlier set-up.

    Args:
        level: the least level that is logged. Lines of the HTTP server's access log are of level ``debug``.
        process_name: what this process is, e.g. ``api`` or ``engine``; part of every line.
        access_log: whether requests are logged at all.
        http_server_level: the least level of the HTTP library's own messages, if it is not ``level``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(process_name) if log_format == "json" else _TextFormatter(process_name))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger(_UVICORN_ACCESS_LOGGER).filters = [_as_debug]
    if http_server_level is not None:
        level_number = _TRACE_LEVEL if http_server_level == "trace" else http_server_level.upper()
        logging.getLogger(_UVICORN_LOGGER).setLevel(level_number)
    for name in (ACCESS_LOGGER, _UVICORN_ACCESS_LOGGER):
        logging.getLogger(name).disabled = not access_log
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def current_log_format() -> LogFormat:
    """Return the format that this process logs in, for its children."""
    is_json = any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers)
    return "json" if is_json else "text"


def printable(text: str) -> str:
    """Return a text with all characters escaped that would end a line, hide in it, or speak to a terminal."""
    return _UNSAFE.sub(_escape, text)


class _TextFormatter(logging.Formatter):
    """One line an event; the lines of a traceback below it are indented, so that none looks like an event."""

    def __init__(self, process_name: str) -> None:
        super().__init__(_FORMAT.format(process=process_name.replace("%", "%%")), _DATE_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is the library's)
        request_id = log_fields().get("request_id")
        prefix = f"[{request_id}] " if request_id else ""
        record.message = printable(prefix + record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


class _JsonFormatter(logging.Formatter):
    """One JSON object a line. ``extra={"fields": {…}}`` of a log call adds members to it."""

    def __init__(self, process_name: str) -> None:
        super().__init__()
        self._process_name = process_name

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        members: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process_name,
            "message": record.getMessage(),
            **log_fields(),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            members["stack"] = record.stack_info
        added: dict[str, object] = getattr(record, "fields", {})
        return _as_json(members | {name: value for name, value in added.items() if name not in members})


def _as_json(members: dict[str, object]) -> str:
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"), default=repr)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _indented(text: str) -> str:
    # split("\n") alone: other line ends are part of a line, and are escaped as such
    return "\n".join(f"    {printable(line)}" for line in text.split("\n"))


def _as_debug(record: logging.LogRecord) -> bool:
    """Make a record one of level ``debug``, and drop it where that is not logged."""
    record.levelno = logging.DEBUG
    record.levelname = logging.getLevelName(logging.DEBUG)
    return logging.getLogger().isEnabledFor(logging.DEBUG)
