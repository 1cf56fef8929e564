"""Schemathesis over the server's own OpenAPI description: every answer is described there, none is a server error."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conformance.conftest import MODEL_NAME
from tests.server_process import ServerProcess

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MAX_TOKENS = 2


ADAPTER_POSTS = ["POST /v1/load_lora_adapter", "POST /v1/unload_lora_adapter"]
POSTS = [
    *("POST /v1/chat/completions", "POST /v1/completions", "POST /tokenize", "POST /detokenize"),
    *ADAPTER_POSTS,
]
MODEL_GETS = ["/v1/models", "/v1/models/{model}", "/v1/requests", "/v1/requests/{request_id}/timeline"]
GETS = [*MODEL_GETS, "/health", "/live", "/version", "/metrics"]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("route", POSTS)
def test_every_answer_to_a_post_is_as_described(operations: dict[str, Any], route: str, mode: GenerationMode) -> None:
    _check(operations[route].as_strategy(generation_mode=mode), max_examples=30)


@pytest.mark.parametrize("path", GETS)
def test_every_answer_to_a_get_is_as_described(operations: dict[str, Any], path: str) -> None:
    _check(operations[f"GET {path}"].as_strategy(), max_examples=3)


def _check(strategy: SearchStrategy[schemathesis.Case], max_examples: int) -> None:
    @settings(max_examples=max_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def run(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL_NAME  # of another name there is nothing to see but 404
        if isinstance(case.body, dict) and case.path in ("/v1/chat/completions", "/v1/completions"):
            _keep_short(case.body)
        case.call_and_validate(checks=CHECKS, timeout=60)

    run()


def test_the_description_has_every_route(operations: dict[str, Any]) -> None:
    assert set(operations) == {*POSTS, *(f"GET {path}" for path in GETS)}


@pytest.fixture(scope="module")
def operations(server: ServerProcess) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return {f"{operation.method.upper()} {operation.path}": operation for operation in found}


def _keep_short(body: dict[str, Any]) -> None:
    """Ask for few tokens."""
    if isinstance(body.get("n"), int):
        body["n"] = min(body["n"], 2)
    if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
        body["max_tokens"] = MAX_TOKENS
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(body.get(name), int):
            body[name] = min(body[name], MAX_TOKENS)
