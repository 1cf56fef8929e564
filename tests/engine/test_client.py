"""The engine process seen from its client: start, death, restart and end, with scripted processes and a real one."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import zmq

from octavo import SamplingParams
from octavo.config import EngineConfig, ServerConfig
from octavo.engine import client as client_module
from octavo.engine.client import EngineClient
from octavo.engine.messages import (
    AbortRequests,
    AddRequests,
    EngineFailed,
    EngineLaunch,
    EngineMessage,
    EngineRequest,
    ResetPrefixCache,
    StepOutput,
)
from octavo.errors import ConfigError, EngineDeadError

SCRIPT = Path(__file__).parent / "scripted_engine.py"
TIMEOUT_S = 60
REQUEST = EngineRequest(
    request_id="r", prompt_token_ids=[1], sampling_params=SamplingParams(), max_tokens=1, eos_token_ids=[], seed=0
)


class Stage:
    """A client whose engine processes follow scripts, and what the client reports."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pid_file = directory / "pids"
        self._directory = directory
        self._monkeypatch = monkeypatch
        self.outputs: asyncio.Queue[StepOutput] = asyncio.Queue()
        self.deaths: asyncio.Queue[str] = asyncio.Queue()
        self.client = self.make_client(EngineConfig())

    def make_client(self, config: EngineConfig) -> EngineClient:
        self.client = EngineClient(
            config,
            self._directory,
            100,
            on_output=self.outputs.put_nowait,
            on_death=self.deaths.put_nowait,
        )
        return self.client

    def cast(self, *modes: str) -> None:
        """Say what the next processes do: one mode each, the last for all that follow."""
        starts = self._directory / "starts"
        starts.unlink(missing_ok=True)
        lines = [f"count=$(cat {starts} 2>/dev/null || echo 0)", f"echo $((count + 1)) > {starts}", "case $count in"]
        lines += [f"  {number}) mode={mode} ;;" for number, mode in enumerate(modes)]
        lines += [f"  *) mode={modes[-1]} ;;", "esac", f'exec {self._python} {SCRIPT} {self.pid_file} "$mode"']
        program = self._directory / "python"
        program.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
        program.chmod(0o755)
        self._monkeypatch.setattr(sys, "executable", str(program))

    _python = sys.executable

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.pid_file.read_text().split()]

    async def next_output(self) -> StepOutput:
        return await asyncio.wait_for(self.outputs.get(), TIMEOUT_S)

    async def next_death(self) -> str:
        return await asyncio.wait_for(self.deaths.get(), TIMEOUT_S)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 (a state has no event)
                await asyncio.sleep(0.005)


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(client_module, "_FIRST_RESTART_DELAY_S", 0.01)
    monkeypatch.setattr(client_module, "_LAST_WORDS_TIMEOUT_S", 5.0)
    sockets = tmp_path / "s"
    sockets.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(sockets))
    stage = Stage(tmp_path, monkeypatch)
    yield stage
    await stage.client.shutdown()
    assert list(sockets.iterdir()) == [], "sockets were left behind"


async def test_messages_reach_the_engine_and_its_outputs_come_back(stage: Stage):
    stage.cast("obey")
    ready = await stage.client.start()
    assert (ready.max_model_len, stage.client.state) == (100, "ready")
    stage.client.send(AddRequests([REQUEST, REQUEST]))
    assert (await stage.next_output()).stats.num_running == 2
    stage.client.send(AbortRequests(["r"]))
    stage.client.send(ResetPrefixCache())
    assert (await stage.next_output()).stats.num_waiting == 1


async def test_shutdown_ends_the_process_in_good_order(stage: Stage, is_alive: Callable[[int], bool]):
    stage.cast("obey")
    await stage.client.start()
    await stage.client.shutdown()
    assert not is_alive(stage.pids[0])
    assert stage.client.state == "stopping"
    assert stage.deaths.empty(), "an end that was asked for is no death"
    with pytest.raises(EngineDeadError, match="shutting down"):
        stage.client.send(ResetPrefixCache())


async def test_a_process_that_does_not_end_is_killed(
    stage: Stage, is_alive: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client_module, "_END_TIMEOUT_S", 0.05)
    stage.cast("deaf")
    await stage.client.start()
    await stage.client.shutdown()
    assert not is_alive(stage.pids[0])


async def test_a_client_that_was_not_started_says_so_and_can_be_shut_down(stage: Stage):
    with pytest.raises(EngineDeadError, match="starting"):
        stage.client.send(ResetPrefixCache())
    await stage.client.shutdown()


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("refuse", ConfigError, "told to refuse"),
        ("break", EngineDeadError, "told to break"),
    ],
)
async def test_a_start_that_fails_raises_what_the_process_said(
    stage: Stage, mode: str, error: type[Exception], message: str, is_alive: Callable[[int], bool]
):
    stage.cast(mode)
    with pytest.raises(error, match=message):
        await stage.client.start()
    assert (stage.client.state, stage.client.cause) == ("dead", message)
    assert len(stage.pids) == 1, "a start that fails is not tried again"
    assert not is_alive(stage.pids[0])


async def test_a_start_that_fails_without_a_word_tells_the_exit_code(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "_LAST_WORDS_TIMEOUT_S", 0.01)
    stage.cast("exit-3")
    with pytest.raises(EngineDeadError, match="exit code 3"):
        await stage.client.start()


async def test_a_start_that_is_cancelled_leaves_no_process(stage: Stage, is_alive: Callable[[int], bool]):
    stage.cast("loading")
    starting = asyncio.create_task(stage.client.start())
    await stage.until(lambda: stage.pid_file.exists() and bool(stage.pids))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, TIMEOUT_S)
    assert not is_alive(stage.pids[0])
    assert stage.client.state == "dead"


async def test_a_killed_engine_is_dead_at_once_and_started_again(stage: Stage, caplog: pytest.LogCaptureFixture):
    stage.cast("obey")
    await stage.client.start()
    os.kill(stage.pids[0], signal.SIGKILL)
    cause = await stage.next_death()
    assert "SIGKILL" in cause
    assert "out-of-memory" in cause
    assert (stage.client.state, stage.client.cause) == ("dead", cause)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR][-1].endswith(cause)
    await stage.until(lambda: stage.client.state == "ready")
    stage.client.send(AddRequests([REQUEST]))
    assert (await stage.next_output()).stats.num_running == 1, "the new process knows nothing of the old one's requests"
    assert len(stage.pids) == 2


async def test_sending_to_a_process_that_has_just_been_killed_does_not_wait(stage: Stage):
    """The event loop cannot have noticed the death here, since it does not run: a send must refuse, not block."""
    stage.cast("obey")
    await stage.client.start()
    os.kill(stage.pids[0], signal.SIGKILL)

    def send_until_refused() -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            stage.client.send(ResetPrefixCache())

    with pytest.raises(EngineDeadError, match="just ended"):
        send_until_refused()
    assert stage.client.state == "ready"


async def test_the_engines_own_words_are_the_cause(stage: Stage):
    stage.cast("fail-on-request", "obey")
    await stage.client.start()
    stage.client.send(AddRequests([REQUEST]))
    assert await stage.next_death() == "told to fail"


async def test_outputs_that_cannot_be_read_end_the_engine(stage: Stage, is_alive: Callable[[int], bool]):
    stage.cast("babble", "obey")
    await stage.client.start()
    stage.client.send(AddRequests([REQUEST]))
    assert "Error" in await stage.next_death()
    await stage.until(lambda: stage.client.state == "ready")
    assert [is_alive(pid) for pid in stage.pids] == [False, True]


async def test_restarts_are_bounded_and_the_cause_is_the_last_thing_logged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(client_module, "MAX_RESTARTS", 3)
    stage.cast("obey", "break")
    await stage.client.start()
    os.kill(stage.pids[0], signal.SIGKILL)
    await stage.until(lambda: "not started again" in stage.client.cause)
    assert len(stage.pids) == 1 + 3
    assert stage.client.state == "dead"
    assert "told to break" in stage.client.cause
    assert caplog.messages[-1] == "engine died 4 times in a row and is not started again: told to break"
    with pytest.raises(EngineDeadError, match="told to break"):
        stage.client.send(ResetPrefixCache())
    assert stage.deaths.qsize() == 1, "only the first process had requests to lose"


async def test_a_restart_may_fail_and_the_next_one_succeed(stage: Stage):
    stage.cast("obey", "refuse", "break", "obey")
    await stage.client.start()
    os.kill(stage.pids[0], signal.SIGKILL)
    await stage.next_death()
    await stage.until(lambda: stage.client.state == "ready")
    assert len(stage.pids) == 4


async def test_an_engine_that_stood_for_long_has_all_its_restarts_again(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "MAX_RESTARTS", 1)
    monkeypatch.setattr(client_module, "_STABLE_AFTER_S", 0.0)
    stage.cast("obey")
    await stage.client.start()
    for _ in range(3):
        os.kill(stage.pids[-1], signal.SIGKILL)
        await stage.next_death()
        await stage.until(lambda: stage.client.state == "ready")
    assert len(stage.pids) == 4


async def test_a_shutdown_while_the_engine_starts_again_leaves_no_process(
    stage: Stage, is_alive: Callable[[int], bool]
):
    stage.cast("obey", "loading")
    await stage.client.start()
    os.kill(stage.pids[0], signal.SIGKILL)
    await stage.until(lambda: len(stage.pids) == 2)
    await asyncio.wait_for(stage.client.shutdown(), TIMEOUT_S)
    assert not any(is_alive(pid) for pid in stage.pids)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(5, "debug"), ("DEBUG", "debug"), ("INFO", "info"), (25, "warning"), ("WARNING", "warning"), (50, "error")],
)
async def test_the_engine_logs_as_much_as_its_client(stage: Stage, level: int | str, expected: str):
    logger = logging.getLogger("octavo")
    before = logger.level
    logger.setLevel(level)
    try:
        stage.cast("obey")
        assert (await stage.client.start()).device == expected
    finally:
        logger.setLevel(before)


async def test_the_engine_is_told_its_own_settings_and_none_of_the_servers(stage: Stage):
    stage.cast("obey")
    client = stage.make_client(ServerConfig(seed=17, api_key=["a-secret"]))
    told = (await client.start()).dtype
    assert EngineConfig.model_validate_json(told).seed == 17
    assert "a-secret" not in told


async def test_a_long_temporary_directory_does_not_stop_the_sockets(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    stage.cast("obey")
    client = stage.make_client(EngineConfig())
    await client.start()
    assert list(deep.iterdir()) == []
    await client.shutdown()


# --- With the real engine process -----------------------------------------------------------------------------------


async def test_a_model_that_does_not_fit_is_refused_at_start(checkpoint: Path):
    config = EngineConfig(model=str(checkpoint), kv_cache_memory_bytes=1000)
    client = EngineClient(config, checkpoint, 1024, on_output=lambda _: None, on_death=lambda _: None)
    with pytest.raises(ConfigError, match="one sequence of max_model_len=1024 needs"):
        await client.start()


def test_the_process_says_why_it_refuses_and_ends_with_exit_code_2(checkpoint: Path, tmp_path: Path):
    addresses = [f"ipc://{tmp_path}/requests", f"ipc://{tmp_path}/outputs"]
    launch = EngineLaunch(
        config=EngineConfig(kv_cache_memory_bytes=1000).model_dump_json(),
        directory=str(checkpoint),
        max_model_len=1024,
        requests_address=addresses[0],
        outputs_address=addresses[1],
        log_level="info",
    )
    with zmq.Context() as context, context.socket(zmq.PULL) as outputs:
        outputs.bind(addresses[1])
        process = subprocess.Popen([sys.executable, "-m", "octavo.engine.process"], stdin=subprocess.PIPE)
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(msgspec.json.encode(launch) + b"\n")
            process.stdin.flush()
            assert outputs.poll(TIMEOUT_S * 1000)
            message = msgspec.msgpack.decode(outputs.recv(), type=EngineMessage)
            assert process.wait(TIMEOUT_S) == 2
    assert isinstance(message, EngineFailed)
    assert message.is_user_error
    assert "--kv-cache-memory-bytes" in message.message


_PARENT = """
import asyncio, sys
from octavo import AsyncLLM
from octavo.config import EngineConfig
async def main():
    llm = AsyncLLM(EngineConfig(model=sys.argv[1], kv_cache_memory_bytes="8MiB", cpu_threads=1))
    await llm.start()
    print(llm._client._process._process.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_an_engine_ends_with_its_parent_however_that_ended(checkpoint: Path, tmp_path: Path):
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(checkpoint)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        engine = os.pidfd_open(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    try:
        assert select.select([engine], [], [], TIMEOUT_S)[0], "the engine process outlived its parent"
    finally:
        os.close(engine)
