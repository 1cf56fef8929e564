"""A real Prometheus that scrapes servers every second, by the configuration that is shipped."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tests.server_process import free_port

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "deploy/observability"


@cache
def program(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``, fetched if this machine has none; fails with the reason."""
    done = subprocess.run([ROOT / ".ci/install_prometheus"], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return str(Path(done.stdout.strip()) / name)


def adapted_config(instances: Sequence[str]) -> dict[str, Any]:
    """Return the shipped configuration with other targets, and with seconds instead of quarters of a minute."""
    config: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(config["global"], "1s")
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": list(instances)}]
    return config


class PrometheusProcess:
    """Prometheus scraping the servers at ``server_urls``; use it as a context manager.

    Attributes:
        instances: what the servers are called in the label ``instance``.
    """

    def __init__(self, server_urls: Sequence[str], directory: Path) -> None:
        self.instances = [urlsplit(url).netloc for url in server_urls]
        self._directory = directory
        self._url = f"http://127.0.0.1:{free_port()}"
        shutil.copy(OBSERVABILITY / "alerts.yml", directory)
        (directory / "prometheus.yml").write_text(yaml.safe_dump(adapted_config(self.instances)), encoding="utf-8")
        self._http = httpx.Client(base_url=self._url, timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrometheusProcess:
        arguments = {
            "config.file": self._directory / "prometheus.yml",
            "storage.tsdb.path": self._directory / "data",
            "web.listen-address": urlsplit(self._url).netloc,
        }
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [program("prometheus"), *(f"--{name}={value}" for name, value in arguments.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; one that does not parse fails with Prometheus' message."""
        return list(self._get("query", {"query": expression})["result"])

    def rule_groups(self) -> dict[str, list[dict[str, Any]]]:
        """Return the alert rules of each group with their state, and how their last evaluation went."""
        return {group["name"]: group["rules"] for group in self._get("rules", {})["groups"]}

    def num_scrapes(self) -> int:
        """Return how many times every server was scraped with success."""
        found = self.query('sum_over_time(up{job="octavo"}[1h])')
        return min(int(item["value"][1]) for item in found) if len(found) == len(self.instances) else 0

    def wait_for_scrapes(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until every server was scraped ``count`` times more than now."""
        wanted = self.num_scrapes() + count
        self.wait_until(lambda: self.num_scrapes() >= wanted, timeout_s)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until ``condition()`` is true."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not come true within {timeout_s} s:\n{self._log_path.read_text()}")
            time.sleep(0.1)

    @property
    def _log_path(self) -> Path:
        return self._directory / "prometheus.log"

    def _wait_ready(self) -> None:
        assert self._process is not None
        process = self._process

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"prometheus ended with code {process.returncode}:\n{self._log_path.read_text()}")
            try:
                return self._http.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        self.wait_until(is_ready)

    def _get(self, what: str, params: Mapping[str, str]) -> dict[str, Any]:
        answer = self._http.get(f"/api/v1/{what}", params=params).json()
        assert answer["status"] == "success", answer["error"]
        data: dict[str, Any] = answer["data"]
        return data

    def _stop(self) -> None:
        self._http.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
