from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException

from octavo.api.errors import HTTPError, answer_http_exception, answer_octavo_error
from octavo.api.middleware import Authentication, BodyLimit, ReadinessGate, RequestContext
from octavo.observe.log_context import log_fields

KEYS = ["first-key", "zweiter-schlüssel"]


def client(**options: Any) -> httpx.AsyncClient:
    app = FastAPI()

    @app.get("/health")
    @app.get("/v1/models")
    async def answer() -> str:
        return "ok"

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a secret of the inside")

    @app.get("/context")
    async def context() -> dict[str, str]:
        return dict(log_fields())

    app.add_exception_handler(HTTPError, answer_octavo_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_middleware(BodyLimit, max_request_bytes=options.get("max_request_bytes", 1000))
    app.add_middleware(ReadinessGate, unavailable=lambda: options.get("unavailable"))
    if "api_keys" in options:
        app.add_middleware(Authentication, api_keys=options["api_keys"])
    app.add_middleware(RequestContext)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


@pytest.mark.parametrize("key", KEYS)
async def test_each_key_opens_the_door(key: str) -> None:
    async with client(api_keys=KEYS) as http:
        assert (await http.get("/v1/models", headers=bearer(key))).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic first-key"}, bearer("first-ke"), bearer("")])
@pytest.mark.parametrize("path", ["/v1/models", "/nowhere", "/metrics", "/openapi.json", "/health/"])
async def test_without_a_known_key_there_is_only_401(headers: Any, path: str) -> None:
    async with client(api_keys=KEYS) as http:
        response = await http.get(path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "invalid_api_key"


async def test_probes_need_no_key() -> None:
    async with client(api_keys=KEYS) as http:
        assert (await http.get("/health")).status_code == 200


async def test_keys_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with client(api_keys=KEYS) as http:
        await http.get("/v1/models", headers=bearer("wrong-key"))
        await http.get("/v1/models", headers=bearer(KEYS[0]))
    assert "key" not in caplog.text.replace("invalid_api_key", "")


async def test_a_sane_request_id_is_echoed_and_others_are_replaced() -> None:
    async with client() as http:
        assert (await http.get("/health", headers={"x-request-id": "abc-1"})).headers["x-request-id"] == "abc-1"
        made = [(await http.get("/health")).headers["x-request-id"] for _ in range(2)]
        assert made[0] != made[1]
        for bad in ("x" * 129, "a b", "ü"):
            echoed = (await http.get("/health", headers={b"x-request-id": bad.encode()})).headers["x-request-id"]
            assert len(echoed) == 32


async def test_log_lines_within_a_request_have_its_id() -> None:
    async with client() as http:
        assert (await http.get("/context", headers={"x-request-id": "abc-1"})).json() == {"request_id": "abc-1"}
    assert log_fields() == {}


async def test_an_unexpected_error_shows_no_inside_but_is_logged_under_its_id(caplog: pytest.LogCaptureFixture) -> None:
    async with client() as http:
        response = await http.get("/broken", headers={"x-request-id": "find-me"})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.json()["error"]["type"] == "server_error"
    (failure,) = [record for record in caplog.records if record.name == "octavo.api.failures"]
    assert "find-me" in failure.getMessage()
    assert "a secret of the inside" in caplog.text


async def test_while_unavailable_only_probes_are_answered() -> None:
    async with client(unavailable="The model is being loaded.") as http:
        response = await http.get("/v1/models")
        assert (await http.get("/health")).status_code == 200
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["message"] == "The model is being loaded."


async def test_the_body_may_have_exactly_the_limit() -> None:
    async with client() as http:
        assert (await http.post("/echo", content=b"x" * 1000)).json() == 1000


async def test_a_declared_length_above_the_limit_is_refused() -> None:
    async with client() as http:
        response = await http.post("/echo", content=b"x" * 1001)
    assert response.status_code == 413
    assert "1,000 bytes" in response.json()["error"]["message"]


async def test_a_body_that_grows_above_the_limit_is_refused() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 50

    async with client() as http:
        assert (await http.post("/echo", content=chunks())).status_code == 413


async def test_routes_and_methods_that_do_not_exist_have_the_error_shape() -> None:
    async with client() as http:
        missing, wrong = await http.get("/nowhere"), await http.delete("/echo")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert "GET /nowhere" in missing.json()["error"]["message"]
    assert wrong.headers["allow"] == "POST"
    assert set(wrong.json()["error"]) == {"message", "type", "param", "code"}
