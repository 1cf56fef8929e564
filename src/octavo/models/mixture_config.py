"""The numbers of a mixture of experts and of the router that chooses among them. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scoring = Literal["softmax", "sigmoid", "softmax_of_chosen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureConfig:
    """Mixtures of experts (arXiv:1701.06538) in the place of MLPs.

    Attributes:
        layers: for each layer whether it has a mixture; the others have a dense MLP.
        expert_size: intermediate size of an expert.
        num_experts_per_tok: how many experts a token is sent to.
        shared_size: intermediate size of the MLP that every token passes as well; 0 if there is none.
        scoring: how a router's logits become weights: a softmax or a sigmoid over all experts, or a softmax over those
            that were chosen.
        normalizes: the weights of a token's experts are divided by their sum.
        scaling_factor: of the weights, in the end.
        num_groups, num_groups_per_tok: experts form groups, and a token chooses among the experts of its best groups.
        has_choice_bias: a bias of each expert counts in the choice, not in the weights (arXiv:2408.15664).
    """

    layers: tuple[bool, ...]
    num_experts: int
    num_experts_per_tok: int
    expert_size: int
    shared_size: int = 0
    scoring: Scoring = "softmax"
    normalizes: bool = True
    scaling_factor: float = 1.0
    num_groups: int = 1
    num_groups_per_tok: int = 1
    has_choice_bias: bool = False
