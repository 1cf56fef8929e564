"""A plan as a JSON object, for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from octavo.plan.planner import Plan


def plan_record(plan: Plan) -> dict[str, Any]:
    """Return everything that the table of ``octavo plan`` shows, sizes in bytes."""
    wanted, found, shape = plan.deployment, plan.fit, plan.deployment.shape
    return {
        "model": wanted.model,
        "model_type": shape.model_type,
        "num_parameters": shape.num_parameters,
        "num_active_parameters": shape.num_active_parameters,
        "dtype": wanted.dtype,
        "quantization": wanted.quantization.name if wanted.quantization else None,
        "weight_bytes": found.weight_bytes * wanted.tensor_parallel_size,
        "kv_cache_dtype": wanted.kv_cache_dtype,
        "kv_bytes_per_token": wanted.kv_bytes_per_token,
        "windows": [{"window": window, "layers": count} for window, count in shape.windows.items()],
        "gpu": wanted.hardware.name,
        "num_gpus": wanted.num_gpus,
        "tensor_parallel_size": wanted.tensor_parallel_size,
        "num_replicas": wanted.num_replicas,
        "memory_per_gpu": {
            "total_bytes": found.total_bytes,
            "allowed_bytes": found.allowed_bytes,
            "weight_bytes": found.weight_bytes,
            "kv_cache_bytes": found.kv_cache_bytes,
            "kv_bytes_per_token": found.kv_bytes_per_token,
            "activation_bytes": found.activation_bytes,
            "overhead_bytes": found.overhead_bytes,
            "missing_bytes": found.missing_bytes,
        },
        "fits": plan.fits,
        "max_model_len": found.max_model_len,
        "sequence_len": wanted.asked_len,
        "max_batch": plan.max_batch,
        "max_context": plan.max_context,
        "concurrency": wanted.concurrency,
        "speed": {**asdict(plan.speed), "source": plan.speed_source} if plan.speed else None,
        "cost": {**asdict(plan.cost), "price": msgspec.to_builtins(plan.cost.price)} if plan.cost else None,
        "recommended_command": plan.command,
        "recommended_change": plan.command_change or None,
        "not_supported": list(plan.reasons),
        "advice": [advice.text for advice in plan.advice],
    }
