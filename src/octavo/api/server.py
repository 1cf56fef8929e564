"""``octavo serve``: from a configuration to a running server and an exit code.

Imports little, so that a port that is taken is told at once; the rest is loaded when the port is ours.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys

from octavo.config import ServerConfig
from octavo.engine.standby import standby_engine
from octavo.engine.start_up import uncollected
from octavo.errors import ConfigError, EngineDeadError, ModelError

EXIT_ENGINE_DIED = 1
EXIT_WRONG_SETTING = 2
_BACKLOG = 2048


def serve(config: ServerConfig) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code: 0 after an orderly end, 2 if a setting or the model is
    wrong (one line on standard error says what), 1 if the engine cannot be started for another reason.
    """
    try:
        with bind(config.host, config.port) as listener:
            return asyncio.run(_serve(config, listener))
    except (ConfigError, ModelError) as error:
        return _fail(error, EXIT_WRONG_SETTING)
    except EngineDeadError as error:
        return _fail(error, EXIT_ENGINE_DIED)


async def _serve(config: ServerConfig, listener: socket.socket) -> int:
    """Let the engine process and this one import their halves side by side."""
    async with standby_engine() as standby:
        with uncollected():
            from octavo.api.lifecycle import run_server

        return await run_server(config, listener, standby)


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address; what connects waits until the server accepts it.

    Raises:
        ConfigError: the port is taken, or the address is not one of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise ConfigError(f"host {host!r} is not an address of this machine: {error.strerror}.") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without it a streamed token may wait 40 ms until the one before it is acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(_bind_message(host, port, error)) from None
    return listener


def _bind_message(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is already in use; stop what uses it, or choose another one with --port."
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs rights that this user lacks; choose one above 1023 with --port."
    return f"cannot listen on {host}:{port}: {error.strerror}."


def _fail(error: Exception, exit_code: int) -> int:
    sys.stderr.write(f"octavo: error: {error}\n")
    sys.stderr.flush()
    return exit_code
