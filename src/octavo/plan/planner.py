"""The whole plan of a deployment: memory, limits, speed, cost, command, or what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.plan.advice import Advice, advise
from octavo.plan.command import not_supported, serve_command
from octavo.plan.deployment import Deployment
from octavo.plan.fit import Fit
from octavo.plan.prices import Cost, Price, cost_of, price_of
from octavo.plan.roofline import RooflineStepTime
from octavo.plan.speed import Speed, estimate_speed
from octavo.plan.step_time import StepTimeModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What follows from a deployment.

    Attributes:
        fits: whether the model, its longest sequence and the asked concurrency fit.
        max_batch: sequences of ``deployment.asked_len`` that fit in one replica at the same time.
        max_context: longest sequence of which as many fit as were asked for (one, if nothing was).
        speed: of one replica; None if nothing fits, or if nobody knows how fast the machine is.
        speed_source: what the speed was taken from, in words.
        cost: None if there is no price or no speed.
        command: of the deployment; if it does not fit, of the first advice that this version can follow, or else of the
            first; None if there is none.
        command_change: the advice that the command follows; empty if it needs none.
        reasons: what this version cannot do of what the command stands for.
        advice: what makes it fit; empty if it does.
    """

    deployment: Deployment
    fit: Fit
    fits: bool
    max_batch: int
    max_context: int
    speed: Speed | None
    speed_source: str
    cost: Cost | None
    command: str | None
    command_change: str
    reasons: tuple[str, ...]
    advice: tuple[Advice, ...]


def make_plan(
    deployment: Deployment,
    *,
    prices: Sequence[Price],
    step_time: StepTimeModel | None = None,
    speed_source: str = "",
) -> Plan:
    """Plan a deployment.

    Args:
        step_time: how long steps take; None is the roofline of the GPU, and nothing on a CPU.
        speed_source: where ``step_time`` is from.
    """
    found = deployment.fit()
    fits = deployment.is_met_by(found)
    advice = () if fits else advise(deployment)
    max_batch = found.max_batch(deployment.asked_len)
    speed = None
    if step_time is None and not deployment.hardware.is_cpu:
        roofline = _roofline(deployment)
        step_time = roofline
        speed_source = (
            f"roofline at {roofline.bandwidth_efficiency:.0%} of bandwidth and {roofline.flops_efficiency:.0%} of "
            "FLOPs; an estimate, not a measurement"
        )
    if fits and step_time is not None:
        speed = estimate_speed(
            step_time,
            batch=min(deployment.max_num_seqs, found.max_batch(deployment.request_len)),
            input_len=deployment.request_input_len,
            output_len=deployment.request_output_len,
            max_num_batched_tokens=deployment.max_num_batched_tokens,
        )
    price = price_of(deployment.hardware, prices)
    cost = None
    if speed is not None and price is not None:
        cost = cost_of(price, speed, num_gpus=deployment.num_gpus, num_replicas=deployment.num_replicas)
    chosen = Advice("", deployment) if fits else _most_possible(advice)
    chosen_fit = chosen.deployment.fit() if chosen else None
    return Plan(
        deployment=deployment,
        fit=found,
        fits=fits,
        max_batch=max_batch,
        max_context=found.max_context(deployment.concurrency or 1),
        speed=speed,
        speed_source=speed_source if speed else "",
        cost=cost,
        command=serve_command(chosen.deployment, chosen_fit) if chosen and chosen_fit else None,
        command_change=chosen.text if chosen else "",
        reasons=not_supported(chosen.deployment, chosen_fit) if chosen and chosen_fit else (),
        advice=advice,
    )


def _most_possible(advice: Sequence[Advice]) -> Advice | None:
    possible = (one for one in advice if not not_supported(one.deployment, one.deployment.fit()))
    return next(possible, advice[0] if advice else None)


def _roofline(deployment: Deployment) -> RooflineStepTime:
    return RooflineStepTime(
        deployment.shape,
        deployment.hardware,
        dtype=deployment.dtype,
        quantization=deployment.quantization,
        kv_bytes_per_element=deployment.kv_bytes_per_element,
        kv_bytes_per_scale=deployment.kv_bytes_per_scale,
        tensor_parallel_size=deployment.tensor_parallel_size,
    )
