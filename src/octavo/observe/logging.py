"""The log: one readable line an event on stderr, the same from every process and from the HTTP server's own loggers.

2026-01-31 12:00:00.123 INFO  engine  octavo.engine.core  ready in 2.1 s
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s {process}  %(name)s  %(message)s"
_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
_ACCESS_LOGGER = "uvicorn.access"
_UVICORN_LOGGERS = ("uvicorn", "uvicorn.error", _ACCESS_LOGGER)
# Libraries that report every request or file at "info"; what they do belongs to our own debugging only.
_CHATTY_LOGGERS = ("asyncio", "filelock", "httpcore", "httpx", "huggingface_hub", "urllib3")


def set_up_logging(level: Level, process_name: str) -> None:
    """Send all logs of this process to stderr, one line each; calling it again replaces the earlier set-up.

    Args:
        level: the least level that is logged. Lines of the HTTP server's access log are of level ``debug``.
        process_name: what this process is, e.g. ``api`` or ``engine``; part of every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT.format(process=process_name.replace("%", "%%")), _DATE_FORMAT))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _UVICORN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    access_logger = logging.getLogger(_ACCESS_LOGGER)
    access_logger.filters = [_as_debug]
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def _as_debug(record: logging.LogRecord) -> bool:
    """Make a record one of level ``debug``, and drop it where that is not logged."""
    record.levelno = logging.DEBUG
    record.levelname = logging.getLevelName(logging.DEBUG)
    return logging.getLogger().isEnabledFor(logging.DEBUG)
