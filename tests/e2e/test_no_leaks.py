"""Ten thousand requests of which many are given up at random moments: nothing is left behind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.server_process import ServerProcess

NUM_REQUESTS = 10_000
CONCURRENCY = 100
MUST_BE_ZERO = ("octavo_num_requests_running", "octavo_num_requests_waiting", "octavo_kv_cache_used_blocks")


@pytest.mark.timeout(900)
async def test_ten_thousand_requests_with_random_aborts_leave_nothing_behind(random_model: Path) -> None:
    # So few blocks that requests also wait and are preempted.
    settings = {"max_num_seqs": 64, "max_model_len": 256, "kv_cache_memory_bytes": 400 * 16 * 128}
    with ServerProcess(model=str(random_model), served_model_name=["m"], **settings) as server:
        endings = await send_requests(server.url)
        metrics = await settled_metrics(server)
        assert [metrics[name] for name in MUST_BE_ZERO] == [0, 0, 0]
        assert metrics["octavo_num_preemptions_total"] > 0
        assert endings["answered"] > NUM_REQUESTS / 3
        assert endings["given up"] > NUM_REQUESTS / 5
        assert set(endings) == {"answered", "given up"}
        assert metrics["octavo_request_success_total"] == NUM_REQUESTS


async def send_requests(url: str) -> Counter[str]:
    numbers = iter(range(NUM_REQUESTS))
    endings: Counter[str] = Counter()

    async def worker(client: httpx.AsyncClient) -> None:
        for number in numbers:
            endings[await send_one(client, random.Random(number))] += 1

    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(worker(client) for _ in range(CONCURRENCY)))
    return endings


async def send_one(client: httpx.AsyncClient, rng: random.Random) -> str:
    body = {
        "model": "m",
        "prompt": [rng.randrange(250) for _ in range(rng.randint(1, 40))],
        "max_tokens": rng.randint(1, 24),
        "ignore_eos": True,
        "seed": rng.randrange(1000),
        "stream": True,
    }
    gives_up_after = rng.randint(1, 12) if rng.random() < 0.5 else None
    num_chunks = 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            num_chunks += line.startswith("data: {")
            if num_chunks == gives_up_after and num_chunks < body["max_tokens"]:
                return "given up"
        return "answered"


async def settled_metrics(server: ServerProcess) -> dict[str, float]:
    """Read the metrics once the last aborts have arrived, or as they are after ten seconds."""
    for _ in range(100):
        metrics = server.metrics()
        is_settled = metrics["octavo_request_success_total"] == NUM_REQUESTS
        if is_settled and not any(metrics[name] for name in MUST_BE_ZERO):
            break
        await asyncio.sleep(0.1)
    return metrics
