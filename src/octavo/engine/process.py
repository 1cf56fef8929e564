"""The engine process: builds an engine core and runs its loop between two ZeroMQ sockets.

Started by ``octavo.engine.standby`` as ``python -m octavo.engine.process``. It begins to import torch and waits for its
launch, one line of JSON on standard input. The pipe stays open as a sign of life: when it closes, the parent is gone
and so is this process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq

from octavo.config import EngineConfig
from octavo.engine.messages import (
    AbortRequests,
    AdapterLoaded,
    AddRequests,
    ClientMessage,
    EngineFailed,
    EngineLaunch,
    EngineMessage,
    LoadAdapter,
    ResetPrefixCache,
    Shutdown,
    StepOutput,
    UnloadAdapter,
)
from octavo.engine.pages_ahead import weight_pages
from octavo.engine.pooling.messages import AddPoolingRequests
from octavo.engine.start_up import give_back_freed_memory, uncollected
from octavo.errors import OctavoError
from octavo.models.pooling_files import read_model_kind
from octavo.observe.logging import set_up_logging

if TYPE_CHECKING:
    from octavo.engine.any_core import AnyCore
    from octavo.engine.builder import BuiltEngine
    from octavo.engine.lora.request import LoRARequest
    from octavo.engine.pooling.builder import BuiltPoolingEngine

_LINGER_MS = 2000
logger = logging.getLogger(__name__)


def main() -> int:
    """Run one engine process to its end; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever sends them to all processes of a service:
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to end
    with uncollected():
        # Loads torch meanwhile. What might be wrong with it is told by _build, which imports it again.
        threading.Thread(target=import_module, args=("octavo.engine.any_core",), daemon=True).start()
        line = sys.stdin.buffer.readline()
    if not line:  # the parent is gone
        os._exit(1)
    launch = msgspec.json.decode(line, type=EngineLaunch)
    set_up_logging(launch.log_level, "engine", launch.log_format)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    context = zmq.Context()
    inbox = context.socket(zmq.PULL)
    outbox = context.socket(zmq.PUSH)
    for socket, address in ((inbox, launch.requests_address), (outbox, launch.outputs_address)):
        socket.set_hwm(0)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        socket.connect(address)
    try:
        with uncollected():
            built = _build(launch, outbox)
        if built is None:
            return 2
        give_back_freed_memory()
        _run(built, inbox, outbox)
    except Exception as error:  # the last line of defence: whatever it is, the parent must learn the cause
        logger.exception("the engine failed")
        _send(outbox, EngineFailed(f"{type(error).__name__}: {error}", is_user_error=False))
        return 1
    finally:
        context.destroy(linger=_LINGER_MS)
    return 0


def _build(launch: EngineLaunch, outbox: zmq.Socket[bytes]) -> BuiltEngine | BuiltPoolingEngine | None:
    """Build the engine and announce it, or announce why it cannot be built and return None."""
    started = time.monotonic()
    directory = Path(launch.directory)
    config = EngineConfig.model_validate_json(launch.config)
    pages = weight_pages(config, directory)
    from octavo.engine.any_core import build_any_engine

    try:
        kind = read_model_kind(directory, config.runner)
        with pages.lent():
            built = build_any_engine(config, directory, kind, launch.max_model_len, launch.adapters)
    except OctavoError as error:
        _send(outbox, EngineFailed(str(error), is_user_error=True))
        return None
    built.ready.load_seconds = time.monotonic() - started
    _send(outbox, built.ready)
    return built


def _run(built: BuiltEngine | BuiltPoolingEngine, inbox: zmq.Socket[bytes], outbox: zmq.Socket[bytes]) -> None:
    """Alternate between taking messages and computing steps until told to shut down."""
    core: AnyCore = built.core
    decoder = msgspec.msgpack.Decoder(ClientMessage)
    while True:
        while not core.has_work or inbox.poll(0):
            while not core.has_work and not inbox.poll(0) and built.use_idle_time():
                pass
            message = decoder.decode(inbox.recv())
            if isinstance(message, Shutdown):
                return
            _handle(core, message, outbox)
            if not core.has_work:  # an abort was the last thing to do: no step will tell the new counts
                _send(outbox, StepOutput([], core.stats()))
        _send(outbox, _timed_step(core))


def _timed_step(core: AnyCore) -> StepOutput:
    """Compute one step and write down when: the core itself has no clock."""
    started_at = time.monotonic()
    output = core.step()
    output.started_at, output.ended_at = started_at, time.monotonic()
    return output


def _handle(core: AnyCore, message: ClientMessage, outbox: zmq.Socket[bytes]) -> None:
    if isinstance(message, AddRequests | AddPoolingRequests):
        for request in message.requests:
            core.add(request)
    elif isinstance(message, AbortRequests):
        core.abort(message.request_ids)
    elif isinstance(message, ResetPrefixCache):
        core.reset_prefix_cache()
    elif isinstance(message, LoadAdapter):
        _send(outbox, _load_adapter(core, message.adapter))
    elif isinstance(message, UnloadAdapter):
        core.unload_adapter(message.lora_id)


def _load_adapter(core: AnyCore, adapter: LoRARequest) -> AdapterLoaded:
    try:
        core.load_adapter(adapter)
    except OctavoError as error:
        return AdapterLoaded(adapter.lora_int_id, str(error))
    return AdapterLoaded(adapter.lora_int_id)


def _send(outbox: zmq.Socket[bytes], message: EngineMessage) -> None:
    outbox.send(msgspec.msgpack.encode(message))


def _end_with_parent() -> None:
    """Wait until standard input closes, then end this process whatever it does."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
