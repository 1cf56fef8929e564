from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from octavo.api.http_counts import CountRequests
from octavo.api.middleware import Authentication
from octavo.observe.http_metrics import HTTPMetrics


async def _answer(request: Request) -> Response:
    return PlainTextResponse("yes")


async def _fail(request: Request) -> Response:
    raise RuntimeError("told to")


@pytest.fixture
def metrics() -> HTTPMetrics:
    return HTTPMetrics()


@pytest.fixture
def client(metrics: HTTPMetrics) -> TestClient:
    routes = [Route("/a", _answer, methods=["GET", "POST"]), Route("/things/{name:path}", _answer)]
    routes += [Route("/health", _answer), Route("/fail", _fail)]
    app = Starlette(routes=routes)
    app.add_middleware(Authentication, api_keys=["k"])
    app.add_middleware(CountRequests, metrics=metrics, routes=[route.path for route in routes])
    return TestClient(app, raise_server_exceptions=False, headers={"authorization": "Bearer k"})


def counts(metrics: HTTPMetrics) -> dict[tuple[str, ...], float]:
    counter, durations = metrics.collect()
    by_labels = {tuple(sample.labels.values()): sample.value for sample in counter.samples}
    observed = {tuple(s.labels.values()): s.value for s in durations.samples if s.name.endswith("_count")}
    for route in observed:
        assert observed[route] == sum(value for labels, value in by_labels.items() if labels[:2] == route)
    return by_labels


def test_requests_are_counted_by_route_method_and_kind_of_status(client: TestClient, metrics: HTTPMetrics):
    for method, path in (("GET", "/a"), ("POST", "/a"), ("GET", "/a"), ("DELETE", "/a"), ("GET", "/fail")):
        client.request(method, path)
    assert counts(metrics) == {
        ("/a", "GET", "2xx"): 2,
        ("/a", "POST", "2xx"): 1,
        ("/a", "DELETE", "4xx"): 1,
        ("/fail", "GET", "5xx"): 1,
    }


def test_clients_cannot_make_series(client: TestClient, metrics: HTTPMetrics):
    for path in ("/things/1", "/things/2/3", "/nowhere/1", "/nowhere/2"):
        client.request("GET", path)
    client.request("BREW", "/a")
    found = counts(metrics)
    assert found.pop(("none", "GET", "4xx")) == 2
    assert found.pop(("/a", "other", "4xx")) == 1
    assert found == {("/things/{name}", "GET", "2xx"): 2}


def test_a_request_that_never_came_to_its_route_is_counted_there(client: TestClient, metrics: HTTPMetrics):
    client.get("/a", headers={"authorization": "Bearer wrong"})
    assert counts(metrics) == {("/a", "GET", "4xx"): 1}


def test_probes_are_not_counted(client: TestClient, metrics: HTTPMetrics):
    client.get("/health")
    assert counts(metrics) == {}


def test_the_names_are_those_of_vllm(client: TestClient, metrics: HTTPMetrics):
    client.get("/a")
    registry = CollectorRegistry()
    registry.register(metrics)
    text = generate_latest(registry).decode()
    assert 'http_requests_total{handler="/a",method="GET",status="2xx"} 1.0' in text
    assert 'http_request_duration_seconds_bucket{handler="/a",le="+Inf",method="GET"} 1.0' in text
