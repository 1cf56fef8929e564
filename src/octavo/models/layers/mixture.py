"""Mixtures of experts: a router, and many small MLPs of which each token passes a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from octavo.models.config import ModelConfig
from octavo.models.layers.elementwise import in_whole_vectors
from octavo.models.layers.linear import Linear
from octavo.models.layers.mlp import GatedMLP
from octavo.models.layers.parameters import CheckpointTensor, Placement
from octavo.models.mixture_config import MixtureConfig
from octavo.models.quantization.base import Dense


class Router(nn.Module):
    """Chooses the experts of each token and their weights. Its matrix is never quantised.

    Args:
        bias: the logits have a bias.
    """

    def __init__(self, mixture: MixtureConfig, hidden_size: int, placement: Placement, *, bias: bool = False) -> None:
        super().__init__()
        self.mixture = mixture
        dense = replace(placement, linear_format=Dense())
        self.logits = Linear(hidden_size, mixture.num_experts, bias=bias, placement=dense)
        self.choice_bias = (
            placement.parameter(mixture.num_experts, dtype=torch.float32) if mixture.has_choice_bias else None
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Route ``[num_tokens, hidden_size]``.

        Returns:
            Weights in float32 and experts in int64, both ``[num_tokens, num_experts_per_tok]``.
        """
        mixture = self.mixture
        logits: Tensor = self.logits(x).float()
        if mixture.scoring == "softmax_of_chosen":
            values, experts = logits.topk(mixture.num_experts_per_tok)
            return values.softmax(-1), experts
        scores = in_whole_vectors(torch.sigmoid, logits) if mixture.scoring == "sigmoid" else logits.softmax(-1)
        ranks = scores if self.choice_bias is None else scores + self.choice_bias
        if mixture.num_groups > 1:
            ranks = self._within_best_groups(ranks)
        experts = ranks.topk(mixture.num_experts_per_tok).indices
        weights = scores.gather(1, experts)
        if mixture.normalizes:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights * mixture.scaling_factor, experts

    def _within_best_groups(self, ranks: Tensor) -> Tensor:
        """Leave only experts of the best groups: by their two best experts if there is a bias, else by the best one."""
        mixture = self.mixture
        grouped = ranks.view(len(ranks), mixture.num_groups, -1)
        best = grouped.topk(1 if self.choice_bias is None else 2).values.sum(-1)
        chosen = torch.zeros_like(best, dtype=torch.bool)
        chosen.scatter_(1, best.topk(mixture.num_groups_per_tok).indices, True)
        return grouped.masked_fill(~chosen.unsqueeze(-1), -torch.inf).flatten(1)

    def checkpoint_tensors(self, name: str, choice_bias: str = "e_score_correction_bias") -> Iterator[CheckpointTensor]:
        """Declare the matrix, and the biases if there are any."""
        yield from self.logits.checkpoint_tensors(name)
        if self.choice_bias is not None:
            yield CheckpointTensor.into(f"{name}.{choice_bias}", self.choice_bias)


class MixtureOfExperts(nn.Module):
    """``shared(x)``, if there is such an MLP, and the weighted sum of what the chosen experts make of ``x``.

    Args:
        make_expert: returns one expert; None makes a ``GatedMLP`` of the configured size.
        router_bias: the router's logits have a bias.
        router_name: what the checkpoint calls the router.
        expert_names: what it calls the gate, up and down projections of an expert.
    """

    def __init__(
        self,
        config: ModelConfig,
        placement: Placement,
        *,
        make_expert: Callable[[], nn.Module] | None = None,
        router_bias: bool = False,
        router_name: str = "gate",
        expert_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    ) -> None:
        super().__init__()
        mixture = config.mixture
        assert mixture is not None, "a family with mixtures has read their numbers"
        self.router_name = router_name
        self.expert_names = expert_names
        self.router = Router(mixture, config.hidden_size, placement, bias=router_bias)
        if make_expert is None:

            def make_expert() -> GatedMLP:
                return GatedMLP(config, placement, intermediate_size=mixture.expert_size)

        self.experts = nn.ModuleList(make_expert() for _ in range(mixture.num_experts))
        self.shared = (
            GatedMLP(config, placement, bias=config.mlp_bias, intermediate_size=mixture.shared_size)
            if mixture.shared_size
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[num_tokens, hidden_size]`` to the same; each expert computes all of its tokens at once.

        A token's experts are added in the order of their numbers, so its sum does not depend on the batch.
        """
        weights, chosen = self.router(x)
        output: Tensor = torch.zeros_like(x) if self.shared is None else self.shared(x)
        order = chosen.flatten().argsort(stable=True)
        tokens = order // chosen.shape[1]
        sorted_weights = weights.flatten()[order].unsqueeze(1).to(x.dtype)
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        start = 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                rows = tokens[start : start + count]
                output.index_add_(0, rows, expert(x[rows]) * sorted_weights[start : start + count])
            start += count
        return output

    def checkpoint_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare router, experts and the shared MLP."""
        yield from self.router.checkpoint_tensors(f"{name}.{self.router_name}")
        yield from self.expert_tensors(f"{name}.experts")
        if self.shared is not None:
            yield from self.shared.checkpoint_tensors(f"{name}.shared_experts")

    def expert_tensors(self, name: str) -> Iterator[CheckpointTensor]:
        """Declare the experts, one by one."""
        for index, expert in enumerate(cast("Iterable[GatedMLP]", self.experts)):
            yield from expert.checkpoint_tensors(f"{name}.{index}", *self.expert_names)
