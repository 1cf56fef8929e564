"""Ten thousand requests of which many are given up at random moments: nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server_process import ServerProcess

NUM_REQUESTS = 10_000
CONCURRENCY = 100
MUST_BE_ZERO = ("octavo_num_requests_running", "octavo_num_requests_waiting", "octavo_kv_cache_used_blocks")
BYTES_OF_BLOCK = 16 * 2 * 16 * 4  # tokens, key and value, head_dim, float32


@pytest.mark.timeout(900)
async def test_ten_thousand_requests_with_random_aborts_leave_nothing_behind(random_model: Path) -> None:
    # So few rows and blocks that requests also wait and are preempted.
    settings = {"max_num_seqs": 64, "max_model_len": 256, "kv_cache_memory_bytes": 100 * BYTES_OF_BLOCK}
    with ServerProcess(model=str(random_model), served_model_name=["m"], **settings) as server:
        endings = await send_requests(server.url)
        metrics = await settled_metrics(server)
        assert [metrics[name] for name in MUST_BE_ZERO] == [0, 0, 0]
        assert metrics["octavo_num_preemptions_total"] > 0
        assert metrics["octavo_request_success_total"] == NUM_REQUESTS
        assert endings.keys() == {"answered", "given up"}
        assert min(endings.values()) > NUM_REQUESTS * 0.4


async def send_requests(url: str) -> Counter[str]:
    numbers = iter(range(NUM_REQUESTS))
    endings: Counter[str] = Counter()

    async def worker() -> None:
        for number in numbers:
            endings[await send_one(url, random.Random(number))] += 1

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return endings


async def send_one(url: str, rng: random.Random) -> str:
    """Ask for a stream on a connection of its own and read it, or hang up in the middle.

    A slow reader gets several tokens in a chunk, in the end the whole answer in two. So who gives up
    does it after the response's first line or its first chunk, which comes out the same on every machine.
    """
    gives_up = rng.random() < 0.5
    max_tokens = rng.randint(60, 200) if gives_up else rng.randint(1, 24)
    body = {
        "model": "m",
        "prompt": [rng.randrange(250) for _ in range(rng.randint(1, 40))],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "seed": rng.randrange(1000),
        "logprobs": 0,
        "stream": True,
    }
    num_wanted_chunks = rng.randint(0, 1) if gives_up else max_tokens + 1
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(http_request(body))
        await writer.drain()
        assert b" 200 " in await reader.readline()
        num_chunks = 0
        while num_chunks < num_wanted_chunks:
            line = await reader.readline()
            assert line, "the server closed the connection in the middle of an answer"
            assert b'"error"' not in line, line
            num_chunks += line.startswith(b"data: {")
            if line.startswith(b"data: [DONE]"):
                return "answered"
        return "given up"
    finally:
        writer.close()


def http_request(body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content


async def settled_metrics(server: ServerProcess) -> dict[str, float]:
    """Read the metrics once the last aborts have arrived, or as they are after twenty seconds."""
    for _ in range(200):
        metrics = server.metrics()
        is_settled = metrics["octavo_request_success_total"] == NUM_REQUESTS
        if is_settled and not any(metrics[name] for name in MUST_BE_ZERO):
            break
        await asyncio.sleep(0.1)
    return metrics
