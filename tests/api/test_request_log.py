"""The log of requests: lengths and parameters, and words only as far as the settings allow."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

import httpx
import pytest

from octavo.api.generation_record import GenerationRecord
from octavo.api.request_log import RequestLog
from octavo.config import ServerConfig
from octavo.engine.outputs import CompletionOutput, RequestOutput
from octavo.engine.sampling_params import SamplingParams
from octavo.errors import EngineDeadError
from octavo.observe.request_timing import RequestTiming
from tests.server_process import ServerProcess

KEY = "sk-very-private"
TIMING = RequestTiming(
    arrived_at=10.0,
    arrived_at_unix=0.0,
    first_scheduled_at=10.5,
    first_token_at=11.0,
    finished_at=12.0,
    num_prompt_tokens=2,
    num_output_tokens=3,
    max_tokens=3,
)


class LetterTokenizer:
    """Token 97 is ``a``, and so on."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return "".join(map(chr, token_ids))


def record(prompt: Any = "a secret prompt", **changes: Any) -> GenerationRecord:
    made = GenerationRecord("cmpl-1-0", prompt, SamplingParams(temperature=0.5, max_tokens=3, n=2), TIMING, 100)
    output = CompletionOutput(index=0, text="hush, hush", token_ids=[1, 2, 3], finish_reason="length")
    made.add(RequestOutput("cmpl-1-0", None, [5, 6], [output], finished=True))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def logged(caplog: pytest.LogCaptureFixture, made: GenerationRecord, **settings: Any) -> list[logging.LogRecord]:
    caplog.set_level(logging.INFO)
    log = RequestLog(ServerConfig(**settings), LetterTokenizer())  # type: ignore[arg-type]
    log.log_start(made)
    log.log_end(made)
    return caplog.records


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return record.__dict__["fields"]


def test_nothing_is_logged_unless_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, record(), max_log_len=100) == []


def test_a_request_is_its_id_lengths_and_parameters(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = logged(caplog, record(), enable_log_requests=True)
    assert line.levelname == "INFO"
    assert "cmpl-1-0: prompt of 15 characters" in line.getMessage()
    assert fields(line)["sampling_params"]["temperature"] == 0.5
    assert fields(line)["num_prompt_characters"] == 15
    assert "secret" not in f"{line.getMessage()}{fields(line)}"


def test_an_end_is_its_reason_lengths_and_times(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = logged(caplog, record(), enable_log_outputs=True)
    assert line.getMessage() == ("finished cmpl-1-0: length, 3 output tokens, queue 0.500 s, ttft 1.000 s, e2e 2.000 s")
    assert fields(line) == {
        "engine_request_id": "cmpl-1-0",
        "finish_reasons": ["length"],
        "num_prompt_tokens": 2,
        "num_output_tokens": 3,
        "queue_s": 0.5,
        "ttft_s": 1.0,
        "e2e_s": 2.0,
    }


@pytest.mark.parametrize(
    "prompt",
    ["abcdef", [97, 98, 99, 100], {"prompt": "abcdef"}, {"prompt": "x", "prompt_token_ids": [97, 98, 99, 100]}],
)
def test_words_are_cut_to_the_length_that_is_allowed(caplog: pytest.LogCaptureFixture, prompt: Any) -> None:
    start, end = logged(caplog, record(prompt), enable_log_requests=True, enable_log_outputs=True, max_log_len=3)
    assert start.getMessage().endswith("prompt 'abc'")
    assert end.getMessage().endswith("outputs ['hus']")
    assert (fields(start)["prompt"], fields(end)["outputs"]) == ("abc", ["hus"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error": EngineDeadError("x"), "finish_reasons": {}}, "failed"),
        ({"finish_reasons": {0: "stop"}, "is_finished": False}, "stop/abort"),
        ({"finish_reasons": {}, "timing": RequestTiming(10.0, 0.0, num_output_tokens=3)}, "abort"),
        ({"finish_reasons": {1: "stop", 0: "length"}}, "length/stop"),
    ],
)
def test_every_way_to_end_has_a_name(caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str) -> None:
    (line,) = logged(caplog, record(**changes), enable_log_outputs=True)
    assert f"cmpl-1-0: {said}, 3 output tokens" in line.getMessage()


def test_a_servers_log_has_no_keys_no_prompts_and_no_forged_lines() -> None:
    body = {"messages": [{"role": "user", "content": "a secret"}], "max_tokens": 2, "stop": None}
    settings = {"kv_cache_memory_bytes": "64MiB", "max_model_len": 512, "log_level": "debug"}
    with ServerProcess(api_key=[KEY], enable_log_requests=True, enable_log_outputs=True, **settings) as server:
        headers = {"authorization": f"Bearer {KEY}", "x-request-id": "mine-1"}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200
        wrong = {"authorization": "Bearer sk-guessed"}
        path = "/v1/%0A2026-01-31%2012:00:00.000%20INFO%20%20%20%20api%20%20octavo%20%20forged%1B[31m"
        assert httpx.get(f"{server.url}{path}?api_key={KEY}", headers=wrong).status_code == 401
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
            client.sendall(
                b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-request-id: a\x1b[31mb\r\nconnection: close\r\n\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 4")
        log = server.logs
    lines = [line for line in log.splitlines() if "octavo." in line]
    for private in (KEY, "sk-guessed", "secret", answer.json()["choices"][0]["message"]["content"].strip()):
        assert private not in log.replace("octavo-nano", "")
    assert "\x1b" not in log
    assert not any(line.startswith("2026-01-31") for line in log.splitlines())
    assert any("forged" in line and "octavo.api.access" in line for line in lines)
    about_mine = [line for line in lines if "[mine-1]" in line]
    assert [line.split("[mine-1] ")[1].split()[0] for line in about_mine] == ["received", "finished", "POST"]


def test_a_server_can_be_silent_about_http() -> None:
    settings = {"kv_cache_memory_bytes": "64MiB", "max_model_len": 512, "log_level": "debug", "log_format": "json"}
    with ServerProcess(disable_uvicorn_access_log=True, uvicorn_log_level="error", **settings) as server:
        assert httpx.get(f"{server.url}/nowhere").status_code == 404
        assert server.stop() == 0
        records = [json.loads(line) for line in server.logs.splitlines() if line.startswith("{")]
    assert "engine" in {record["process"] for record in records}
    assert not [record for record in records if record["logger"] in ("octavo.api.access", "uvicorn.error")]
