"""One server process from start to end: HTTP answers while the engine comes up, and while it finishes what it has."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from octavo.api.observed_llm import ObservedLLM
from octavo.api.readiness import Readiness
from octavo.config import ServerConfig
from octavo.config.lora_modules import parse_lora_modules
from octavo.engine.async_llm import AsyncLLM
from octavo.engine.start_up import give_back_freed_memory, uncollected
from octavo.errors import ConfigError
from octavo.observe.logging import set_up_logging
from octavo.observe.metrics import EngineMetrics
from octavo.observe.tracing import Tracing, TracingError, start_tracing

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from octavo.engine.messages import EngineReady

logger = logging.getLogger(__name__)

_FLUSH_TIMEOUT_S = 5
_TRACE_FLUSH_TIMEOUT_S = 5.0
# Longer than the pools of clients and proxies keep an idle connection: who reuses one should be the one to close it.
_KEEP_ALIVE_S = 75


class _StopSignals:
    """The first SIGTERM or SIGINT asks for an orderly end, the second for one at once."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.last_signal = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._take, number)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _take(self, number: int) -> None:
        self.last_signal = number
        (self.second if self.first.is_set() else self.first).set()


async def run_server(config: ServerConfig, listener: socket.socket, standby: asyncio.subprocess.Process) -> int:
    """Serve on a bound socket until a signal; return the exit code.

    Args:
        standby: a process for the engine (``engine/standby.py``).

    Raises:
        ConfigError, ModelError: the engine cannot start with these settings or this model.
        EngineDeadError: the engine ended while it started.
    """
    set_up_logging(
        config.log_level,
        "api",
        config.log_format,
        access_log=not config.disable_uvicorn_access_log,
        http_server_level=config.uvicorn_log_level,
    )
    with _tracing(config) as tracing:
        return await _run(config, listener, tracing, standby)


async def _run(
    config: ServerConfig, listener: socket.socket, tracing: Tracing | None, standby: asyncio.subprocess.Process
) -> int:
    names = config.served_model_name or [config.model]
    metrics = None if config.disable_log_stats else EngineMetrics(names[0], prefix=config.metrics_prefix)
    with uncollected():
        llm = _make_llm(config, metrics, tracing)
    stop = _StopSignals()
    with stop.watched():
        starting = asyncio.create_task(llm.start(standby))
        await asyncio.sleep(0)  # the engine knows what to load before this process imports its own half
        try:
            readiness = Readiness(llm)
            with uncollected():
                app = _make_app(config, llm, metrics, readiness, tracing)
            return await _Server(config, listener, llm, app, readiness, stop).run(starting)
        finally:
            await _cancel(starting)
            await llm.shutdown()


def _make_app(
    config: ServerConfig, llm: AsyncLLM, metrics: EngineMetrics | None, readiness: Readiness, tracing: Tracing | None
) -> FastAPI:
    from octavo.api.app import create_app

    app = create_app(llm, config, metrics, readiness)
    if tracing is not None:
        from octavo.api.tracing import TraceRequests

        names = config.served_model_name or [config.model]
        app.add_middleware(TraceRequests, tracing=tracing, names=names, max_request_bytes=config.max_request_bytes)
    return app


@contextlib.contextmanager
def _tracing(config: ServerConfig) -> Iterator[Tracing | None]:
    """Send traces while the context is open, if the settings ask for them; at its end, what still waits is sent."""
    if config.otlp_traces_endpoint is None:
        yield None
        return
    try:
        tracing = start_tracing(config.otlp_traces_endpoint, with_content=config.otlp_traces_content)
    except TracingError as error:
        raise ConfigError(str(error)) from error
    try:
        yield tracing
    finally:
        if not tracing.shutdown(_TRACE_FLUSH_TIMEOUT_S):
            logger.warning("the last traces could not be sent within %.0f s", _TRACE_FLUSH_TIMEOUT_S)


def _make_llm(config: ServerConfig, metrics: EngineMetrics | None, tracing: Tracing | None) -> AsyncLLM:
    """Return a plain engine unless somebody wants to know of single requests."""
    lora_modules = [(module.name, module.path) for module in parse_lora_modules(config.lora_modules)]
    if tracing is None and not config.enable_log_requests and not config.enable_log_outputs:
        return AsyncLLM(config, metrics=metrics, lora_modules=lora_modules)
    num_traced_chars = sys.maxsize if tracing is not None and tracing.with_content else 0
    return ObservedLLM(config, metrics=metrics, lora_modules=lora_modules, num_traced_chars=num_traced_chars)


class _Server:
    """The HTTP server around an engine that is starting."""

    def __init__(
        self,
        config: ServerConfig,
        listener: socket.socket,
        llm: AsyncLLM,
        app: FastAPI,
        readiness: Readiness,
        stop: _StopSignals,
    ) -> None:
        self._config = config
        self._listener = listener
        self._llm = llm
        self._readiness = readiness
        self._stop = stop
        self._http = _http_server(app)

    async def run(self, starting: asyncio.Task[EngineReady]) -> int:
        """Serve until a signal, and end in good order."""
        serving = asyncio.create_task(self._http.serve(sockets=[self._listener]))
        stopping = asyncio.create_task(self._stop.first.wait())
        try:
            await _wait_for_any(starting, stopping, serving)
            if starting.done():
                starting.result()
                give_back_freed_memory()  # what reading the tokenizer took
                self._announce()
            await _wait_for_any(stopping, serving)
            exit_code = await self._drain()
            self._http.should_exit = True
            await serving
            return exit_code
        finally:
            self._http.force_exit = self._http.should_exit = True
            await _cancel(stopping)
            await asyncio.gather(serving, return_exceptions=True)

    async def _drain(self) -> int:
        """Let running requests finish, unless a second signal comes first."""
        self._readiness.is_stopping = True
        draining = asyncio.create_task(self._llm.shutdown(self._config.shutdown_timeout))
        hurry = asyncio.create_task(self._stop.second.wait())
        try:
            await _wait_for_any(draining, hurry)
            if draining.done():
                draining.result()
                return 0
            await _cancel(draining)
            await self._llm.shutdown()
            return 128 + self._stop.last_signal
        finally:
            await _cancel(draining, hurry)

    def _announce(self) -> None:
        host, port = self._listener.getsockname()[:2]
        shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        url = f"http://{shown_host}:{port}"
        key = " -H 'authorization: Bearer YOUR_KEY'" if self._config.api_key else ""
        path, body = self._example()
        sys.stdout.write(
            f"Octavo serves {self._config.model} at {url}\nTry it:\n"
            f"  curl {url}{path} -H 'content-type: application/json'{key} -d '{body}'\n"
        )
        sys.stdout.flush()

    def _example(self) -> tuple[str, str]:
        """Return path and body of a request that suits the model."""
        if self._llm.pooler is None:
            return "/v1/chat/completions", '{"messages": [{"role": "user", "content": "Hello!"}]}'
        if self._llm.pooler.builder.is_cross_encoder:
            return "/v1/rerank", '{"query": "Which planet is red?", "documents": ["Mars", "Venus"]}'
        return "/v1/embeddings", '{"input": "Hello!"}'


def _http_server(app: FastAPI) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals to ``_StopSignals``."""
            yield

    return Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_FLUSH_TIMEOUT_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
    )


async def _wait_for_any(*tasks: asyncio.Task[object]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
