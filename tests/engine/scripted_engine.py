"""A program in the place of the engine process: it speaks the protocol, loads no model, and misbehaves as it is told.

Arguments: the file to which its process id is appended, and one word:

- ``obey``: answers each message with the counts of requests that came (as running) and were aborted (as waiting);
- ``deaf``: becomes ready and then ignores everything; ``loading``: never becomes ready;
- ``refuse``, ``break``: fail at start by the user's fault, or by another one; ``exit-3``: ends without a word;
- ``fail-on-request``: tells why and ends at the first request; ``babble``: answers it with what is no message.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import zmq

from octavo.engine.messages import (
    AbortRequests,
    AddRequests,
    ClientMessage,
    EngineFailed,
    EngineLaunch,
    EngineMessage,
    EngineReady,
    EngineStats,
    Shutdown,
    StepOutput,
)

_LIFETIME_S = 120  # whatever happens to the test


def main(pid_file: str, mode: str) -> int:
    signal.alarm(_LIFETIME_S)
    with Path(pid_file).open("a") as file:
        file.write(f"{os.getpid()}\n")
    if mode == "exit-3":
        return 3
    launch = msgspec.json.decode(sys.stdin.buffer.readline(), type=EngineLaunch)
    context = zmq.Context()
    inbox, outbox = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    inbox.connect(launch.requests_address)
    outbox.connect(launch.outputs_address)
    try:
        return _run(mode, launch, inbox, outbox)
    finally:
        context.destroy(linger=5000)


def _run(mode: str, launch: EngineLaunch, inbox: zmq.Socket[bytes], outbox: zmq.Socket[bytes]) -> int:
    def say(message: EngineMessage) -> None:
        outbox.send(msgspec.msgpack.encode(message))

    if mode == "loading":
        signal.pause()
    if mode in ("refuse", "break"):
        say(EngineFailed(f"told to {mode}", is_user_error=mode == "refuse"))
        return 1
    # What the process was told goes back in fields that say nothing else here.
    say(EngineReady(1, 1, launch.max_model_len, device=launch.log_level, dtype=launch.config, kv_cache_dtype="float32"))
    if mode == "deaf":
        signal.pause()
    decoder = msgspec.msgpack.Decoder(ClientMessage)
    num_added = num_aborted = 0
    while True:
        message = decoder.decode(inbox.recv())
        if isinstance(message, Shutdown):
            return 0
        if isinstance(message, AddRequests):
            num_added += len(message.requests)
            if mode == "fail-on-request":
                say(EngineFailed("told to fail", is_user_error=False))
                return 1
            if mode == "babble":
                outbox.send(b"\xff no message")
        elif isinstance(message, AbortRequests):
            num_aborted += len(message.request_ids)
        say(StepOutput([], EngineStats(num_running=num_added, num_waiting=num_aborted)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
