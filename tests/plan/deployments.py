"""Deployments that several tests plan."""

from __future__ import annotations

from typing import Any

from octavo.models.registry import ARCHITECTURES
from octavo.plan.deployment import Deployment
from octavo.plan.families import read_model_shape
from octavo.plan.hardware import gpu_named
from octavo.plan.request import PlanRequest, deployment_of


def deployment(config: dict[str, Any], gpu: str, **asked: Any) -> Deployment:
    """Settle a deployment of a model on GPUs of the catalogue."""
    return deployment_of(
        "some/model",
        read_model_shape(config),
        gpu_named(gpu),
        PlanRequest(**asked),
        served_architectures=ARCHITECTURES,
    )
