from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.deploy.prometheus_process import PrometheusProcess
from tests.deploy.traffic import send_traffic
from tests.server_process import ServerProcess


@pytest.fixture(scope="package")
def scraped(tmp_path_factory) -> Iterator[PrometheusProcess]:
    """A Prometheus that has seen traffic of two servers, the first with our metric names, the other with vLLM's."""
    with ExitStack() as running:
        servers = [ServerProcess(), ServerProcess(metrics_prefix="vllm:")]
        for server in servers:
            running.push(server)  # both load their model at the same time
            server.start()
        for server in servers:
            server.wait_ready()
        prometheus = PrometheusProcess([server.url for server in servers], tmp_path_factory.mktemp("prometheus"))
        running.enter_context(prometheus)
        send_traffic(servers, prometheus)
        yield prometheus
