"""``GET /metrics``: the engine's numbers, those of HTTP, of the processes, of the machine and of its GPUs."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from octavo.api.errors import ErrorResponse
from octavo.engine.async_llm import AsyncLLM
from octavo.observe.gpu_metrics import GpuMetrics
from octavo.observe.http_metrics import HTTPMetrics
from octavo.observe.metrics import EngineMetrics
from octavo.observe.process_metrics import EngineProcessMetrics, HostMetrics

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
    401: {
        "description": "The API key is missing or wrong.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}}},
    },
}


def server_registry(
    llm: AsyncLLM, prefix: str, engine_metrics: EngineMetrics | None, http_metrics: HTTPMetrics
) -> CollectorRegistry:
    """Return everything that a server measures.

    Args:
        prefix: of the names that are ours; those of HTTP and of this process are the ones that all programs use.
        engine_metrics: None if none are kept.
    """
    registry = CollectorRegistry() if engine_metrics is None else engine_metrics.registry
    registry.register(http_metrics)
    registry.register(EngineProcessMetrics(lambda: llm.engine_process_id, prefix=prefix))
    registry.register(HostMetrics(prefix=prefix))
    registry.register(GpuMetrics(prefix=prefix))
    ProcessCollector(registry=registry)
    return registry


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """What scrapers ask."""
    router = APIRouter()

    @router.get("/metrics", responses=_RESPONSES)
    async def prometheus_metrics() -> Response:
        """Give the metrics in Prometheus' text format."""
        # In a thread, so that tokens keep flowing while a driver or a disk is slow to tell.
        text = await asyncio.to_thread(generate_latest, registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return router
