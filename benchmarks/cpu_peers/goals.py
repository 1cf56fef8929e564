"""Which peer counts in which case, how much faster than it this engine wants to be, and whether it is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cpu_peers.cases import CASES, Case
from benchmarks.cpu_peers.variants import OURS, VARIANTS, Variant

_BY_NAME = {variant.name: variant for variant in VARIANTS}
_BATCHED = ("decode-8", "decode-16", "decode-32")
_RATIOS: dict[str, dict[int, float]] = {
    "decode-1": {16: 1.0, 8: 1.2, 4: 1.4},
    **{name: {16: 1.2, 8: 1.8, 4: 2.0} for name in _BATCHED},
    "prefill": {16: 1.1, 8: 1.6, 4: 1.8},
    "http": {16: 1.35, 8: 1.7, 4: 2.0},
}
_SHARES: dict[str, dict[int, float]] = {"decode-1": {16: 0.85, 8: 0.85}, "prefill": {16: 0.85, 8: 0.75, 4: 0.75}}
_MOST = {"second-turn": 0.1, "ready": 5.0, "memory": 400.0}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one variant of this engine does in a case.

    Attributes:
        peer: the best of the peers that count; None if none was measured.
        ratio: to that peer's figure; above 1 this engine is faster.
        goal: the least ratio, or the most of the figure itself.
        same_run: whether both were measured in the same run.
        met: None if it cannot be said.
    """

    peer: str | None
    ratio: float | None
    goal: str
    same_run: bool
    met: bool | None


def median_figures(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    rounds = list(rounds)
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def share_of_limit(
    case: Case, variant: Variant, figures: Mapping[str, float], limits: Mapping[str, float]
) -> float | None:
    """Return how near a figure is to what the machine could do: read in decoding, compute in prefill; else None."""
    if case.name.startswith("decode"):
        return figures["gb_per_s"] / limits["read_gb_per_s"]
    if case.name == "prefill":
        return figures["gflops"] / limits[variant.product] if variant.product in limits else None
    return None


def judge(case: Case, variant: Variant, measured: Mapping[str, Any], limits: Mapping[str, float]) -> Verdict:
    """Judge a variant of this engine by what was measured in a case.

    Args:
        limits: of the machine, in the run of this variant.
    """
    ours = median_figures(measured[variant.name]["rounds"])
    if case.name in _MOST:
        most = _MOST[case.name]
        return Verdict(None, None, f"≤ {most:g}", True, ours[case.main] <= most)
    peers = [name for name in measured if measured[name].get("rounds") and _counts(case, _BY_NAME[name], variant)]
    goal = _RATIOS[case.name][variant.bits]
    if not peers:
        return Verdict(None, None, f"≥ {goal:g}x", True, None)
    figures = {name: median_figures(measured[name]["rounds"]) for name in peers}
    best = max(peers, key=lambda name: figures[name][case.main])
    ratio = ours[case.main] / figures[best][case.main]
    met = ratio >= goal
    if case.name == "http":
        met = met and all(ours[key] < figures[best][key] for key in ("ttft_ms", "itl_ms"))
    words = f"≥ {goal:g}x"
    least_share, share = _SHARES.get(case.name, {}).get(variant.bits), share_of_limit(case, variant, ours, limits)
    if least_share is not None and share is not None:
        met = met and share >= least_share
        words += f", ≥ {least_share:.0%} of the limit"
    return Verdict(best, ratio, words, measured[best]["run"] == measured[variant.name]["run"], met)


def _counts(case: Case, peer: Variant, ours: Variant) -> bool:
    """Whether a peer's variant is one that ours is measured by."""
    if case.name == "http":
        return peer.engine == "llama.cpp"
    if case.name in _BATCHED:
        return peer.engine in ("llama.cpp", "openvino") and peer.bits >= ours.bits
    return peer.engine == "llama.cpp" and peer.bits == ours.bits


def is_ours(name: str) -> bool:
    """Whether a variant is one of this engine."""
    return _BY_NAME[name].engine == OURS


def in_order(measured: Mapping[str, Any]) -> list[Variant]:
    """Return the variants of a case's results, in the order of ``VARIANTS``."""
    return [variant for variant in VARIANTS if variant.name in measured]


def cases_of(results: Mapping[str, Any]) -> list[Case]:
    """Return the cases of which there are results, in the order of ``CASES``."""
    return [case for case in CASES if case.name in results]
