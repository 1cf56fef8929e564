"""The engine process seen from its client: start it, talk to it, notice when it dies, start it again.

Knows processes, sockets and messages; nothing of prompts or text.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import zmq
import zmq.asyncio

from octavo.config import EngineConfig
from octavo.engine.lora.request import LoRARequest
from octavo.engine.messages import (
    AdapterLoaded,
    ClientMessage,
    EngineFailed,
    EngineLaunch,
    EngineMessage,
    EngineReady,
    Shutdown,
    StepOutput,
)
from octavo.engine.standby import start_engine_process
from octavo.errors import ConfigError, EngineDeadError
from octavo.observe.logging import current_log_format

EngineState = Literal["starting", "ready", "dead", "stopping"]

MAX_RESTARTS = 5
_FIRST_RESTART_DELAY_S = 0.5
_MAX_RESTART_DELAY_S = 30.0
_STABLE_AFTER_S = 60.0
_LAST_WORDS_TIMEOUT_S = 1.0
_END_TIMEOUT_S = 5.0
_MAX_SOCKET_PATH = 100  # the kernel's limit is 108 bytes

logger = logging.getLogger(__name__)


class _EngineProcess:
    """One life of the engine process, with sockets of its own so that no message reaches a successor."""

    def __init__(self, socket_directory: Path, generation: int) -> None:
        self.failure: EngineFailed | None = None
        self.is_ready = False
        self._addresses = [f"ipc://{socket_directory}/{name}-{generation}" for name in ("requests", "outputs")]
        self._context = zmq.asyncio.Context()
        self._requests = zmq.Context(self._context).socket(zmq.PUSH)
        self._outputs = self._context.socket(zmq.PULL)
        self._requests.set_hwm(0)  # without a limit, sending never blocks
        self._outputs.set_hwm(0)
        self._requests.bind(self._addresses[0])
        self._outputs.bind(self._addresses[1])
        self._decoder = msgspec.msgpack.Decoder(EngineMessage)
        self._process: asyncio.subprocess.Process | None = None

    async def launch(
        self,
        config: EngineConfig,
        directory: Path,
        max_model_len: int,
        adapters: list[LoRARequest],
        standby: asyncio.subprocess.Process | None,
    ) -> None:
        launch = EngineLaunch(
            config=EngineConfig.model_validate(
                {name: getattr(config, name) for name in EngineConfig.model_fields}
            ).model_dump_json(),
            directory=str(directory),
            max_model_len=max_model_len,
            requests_address=self._addresses[0],
            outputs_address=self._addresses[1],
            log_level=_current_log_level(),
            log_format=current_log_format(),
            adapters=adapters,
        )
        self._process = standby or await start_engine_process()
        if self._process.stdin is None:
            raise AssertionError("the engine process was started with a pipe")
        self._process.stdin.write(msgspec.json.encode(launch) + b"\n")
        with contextlib.suppress(ConnectionError):  # it died at once: wait() tells
            await self._process.stdin.drain()

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def receive(self) -> EngineMessage:
        message: EngineMessage = self._decoder.decode(await self._outputs.recv())
        if isinstance(message, EngineFailed):
            self.failure = message
        self.is_ready = self.is_ready or isinstance(message, EngineReady)
        return message

    def send(self, message: ClientMessage) -> bool:
        """Send without waiting; returns whether the process is there to receive."""
        try:
            self._requests.send(msgspec.msgpack.encode(message), zmq.NOBLOCK)
        except zmq.Again:  # a socket without peer would wait for one, and with it the whole event loop
            return False
        return True

    async def wait(self) -> int:
        if self._process is None:
            raise AssertionError("the engine process was not launched")
        return await self._process.wait()

    async def cause_of_death(self) -> str:
        """Return why the process ended, in one line."""
        code = await self.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_TIMEOUT_S if code >= 0 else 0.1):
                while self.failure is None:
                    await self.receive()
        if self.failure is not None:
            return self.failure.message
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (the system's out-of-memory killer does that)" if -code == signal.SIGKILL else ""
            return f"the engine process was killed by {name}{hint}"
        return f"the engine process ended with exit code {code}"

    async def end(self) -> None:
        """Ask the process to end, and kill it if it does not; while it loads a model it listens to nobody."""
        if self._process is not None and self._process.returncode is None:
            try:
                async with asyncio.timeout(_END_TIMEOUT_S if self.is_ready and self.send(Shutdown()) else 0):
                    await self.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    self._process.kill()
                await self.wait()
        self._requests.close(linger=0)
        self._context.destroy(linger=0)


class EngineClient:
    """Supervises the engine process of one model.

    A process that dies is started again, with growing delays and at most ``MAX_RESTARTS`` times in a row; one that
    stood for a minute counts as recovered.

    Args:
        on_output: called with each step's output.
        on_death: called with the cause as soon as the process is gone; what was in flight is lost.
        on_adapter: called with what became of each ``LoadAdapter``, and of adapters of a launch that were not loaded.
        adapters: asked for the LoRA adapters that each life of the process begins with.
    """

    def __init__(
        self,
        config: EngineConfig,
        directory: Path,
        max_model_len: int,
        *,
        on_output: Callable[[StepOutput], None],
        on_death: Callable[[str], None],
        on_adapter: Callable[[AdapterLoaded], None] = lambda _: None,
        adapters: Callable[[], list[LoRARequest]] = list,
    ) -> None:
        self.state: EngineState = "starting"
        self.cause = "the engine is starting"
        self._config = config
        self._directory = directory
        self._max_model_len = max_model_len
        self._on_output = on_output
        self._on_death = on_death
        self._on_adapter = on_adapter
        self._adapters = adapters
        self._socket_directory: Path | None = None
        self._process: _EngineProcess | None = None
        self._generation = 0
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        """The engine's process; None while there is none that is ready."""
        return None if self._process is None else self._process.process_id

    async def start(self, standby: asyncio.subprocess.Process | None = None) -> EngineReady:
        """Launch the process; returns when the model is ready.

        Args:
            standby: a process of ``start_engine_process`` for the engine's first life.

        Raises:
            ConfigError: the settings or the model's files are at fault.
            EngineDeadError: the process died for another reason.
        """
        try:
            process, ready = await self._launch(standby)
        except BaseException as error:
            self._remove_sockets()
            self.state = "dead"
            self.cause = str(error) or "the engine was not started"
            raise
        self._supervisor = asyncio.create_task(self._supervise(process))
        return ready

    def send(self, message: ClientMessage) -> None:
        """Send a message to the engine.

        Raises:
            EngineDeadError: there is no engine to receive it.
        """
        if self._process is None or self.state not in ("ready", "stopping"):
            raise EngineDeadError(self.cause)
        if not self._process.send(message):
            raise EngineDeadError("the engine process has just ended")

    async def shutdown(self) -> None:
        """End the process and stop supervising it."""
        self.state = "stopping"
        self.cause = "the server is shutting down"
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process is not None:
            await self._process.end()
            self._process = None
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        if self._socket_directory is not None:
            shutil.rmtree(self._socket_directory, ignore_errors=True)
            self._socket_directory = None

    async def _launch(self, standby: asyncio.subprocess.Process | None = None) -> tuple[_EngineProcess, EngineReady]:
        if self._socket_directory is None:
            self._socket_directory = _make_socket_directory()
        self._generation += 1
        process = _EngineProcess(self._socket_directory, self._generation)
        try:
            await process.launch(self._config, self._directory, self._max_model_len, self._adapters(), standby)
            ready = await self._wait_until_ready(process)
        except BaseException:
            await process.end()
            raise
        for lora_id, error in ready.failed_adapters.items():
            self._on_adapter(AdapterLoaded(lora_id, error))
        self._process = process
        self.state = "ready"
        return process, ready

    async def _wait_until_ready(self, process: _EngineProcess) -> EngineReady:
        first_message = asyncio.create_task(process.receive())
        death = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((first_message, death), return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
            if not first_message.done():
                first_message.cancel()
        if first_message.done() and not first_message.cancelled():
            message = first_message.result()
            if isinstance(message, EngineReady):
                return message
            if isinstance(message, EngineFailed) and message.is_user_error:
                raise ConfigError(message.message)
        raise EngineDeadError(await process.cause_of_death())

    async def _supervise(self, process: _EngineProcess) -> None:
        num_failures = 0
        while True:
            started = time.monotonic()
            cause = await self._serve(process)
            if time.monotonic() - started > _STABLE_AFTER_S:
                num_failures = 0
            restarted = None
            while restarted is None:
                num_failures += 1
                if num_failures > MAX_RESTARTS:
                    self.cause = f"the engine died {num_failures} times in a row and is not started again: {cause}"
                    logger.error("engine died %d times in a row and is not started again: %s", num_failures, cause)
                    return
                delay = min(_FIRST_RESTART_DELAY_S * 2 ** (num_failures - 1), _MAX_RESTART_DELAY_S)
                logger.error("engine died (restart %d of %d in %.1f s): %s", num_failures, MAX_RESTARTS, delay, cause)
                await asyncio.sleep(delay)
                try:
                    restarted, ready = await self._launch()
                except (EngineDeadError, ConfigError) as error:
                    cause = str(error)
            process = restarted
            logger.warning("engine is ready again after %.1f s of loading", ready.load_seconds)

    async def _serve(self, process: _EngineProcess) -> str:
        """Pass on outputs until the process dies; returns the cause."""
        pump = asyncio.create_task(self._pump(process))
        death = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((pump, death), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            death.cancel()
        self.state = "dead"
        self._process = None
        if pump.done() and not pump.cancelled() and (error := pump.exception()) is not None:
            logger.error("outputs of the engine could not be processed", exc_info=error)
            self.cause = f"{type(error).__name__}: {error}"
        else:
            self.cause = await process.cause_of_death()
        self._on_death(self.cause)
        await process.end()
        return self.cause

    async def _pump(self, process: _EngineProcess) -> None:
        while True:
            message = await process.receive()
            if isinstance(message, StepOutput):
                self._on_output(message)
            elif isinstance(message, AdapterLoaded):
                self._on_adapter(message)
            elif isinstance(message, EngineFailed):
                return


def _current_log_level() -> Literal["debug", "info", "warning", "error"]:
    """Return this process's log level, for its child."""
    level = logging.getLogger("octavo").getEffectiveLevel()
    if level <= logging.DEBUG:
        return "debug"
    if level <= logging.INFO:
        return "info"
    return "warning" if level <= logging.WARNING else "error"


def _make_socket_directory() -> Path:
    """Make a directory that only this user can enter, with a path short enough for a socket's name."""
    directory = Path(tempfile.mkdtemp(prefix="octavo-"))
    if len(str(directory)) > _MAX_SOCKET_PATH - len("/requests-1000000"):
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="octavo-", dir="/tmp"))
    return directory
