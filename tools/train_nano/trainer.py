"""The training loop: Muon for the matrices, AdamW for the rest, warm-up, plateau and a linear decay to nothing.

Several processes of one thread each share a step's micro-batches and sum their gradients: on a CPU this beats threads
within operations, by a little on an idle machine and by far on a busy one.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from tools.train_nano.batches import MicroBatch, StepData
from tools.train_nano.model import Nano


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run; the defaults are those of the shipped model."""

    seed: int = 0
    steps: int = 3300
    polish_steps: int = 400
    step_tokens: int = 6000
    micro_tokens: int = 1536
    max_length: int = 2048
    matrix_lr: float = 6e-3
    other_lr: float = 3e-3
    weight_decay: float = 0.01
    warmup_steps: int = 60
    decay_from: float = 0.483
    slow_decay_from: float = 0.788
    slow_decay_scale: float = 0.23
    polish_scale: float = 0.25
    device: str = "cpu"

    @property
    def total_steps(self) -> int:
        """All steps: those of the main schedule, then the polish."""
        return self.steps + self.polish_steps

    def lr_scale(self, step: int) -> float:
        """The schedule: linear warm-up, constant, a linear decay to `slow_decay_scale`, and a slower one to zero; then
        the polish, which decays from `polish_scale` to zero once more."""
        progress = step / self.steps
        if progress >= 1.0:
            return self.polish_scale * (self.total_steps - step) / self.polish_steps
        if progress < self.decay_from:
            return min(1.0, (step + 1) / self.warmup_steps)
        if progress < self.slow_decay_from:
            done = (progress - self.decay_from) / (self.slow_decay_from - self.decay_from)
            return 1.0 - done * (1.0 - self.slow_decay_scale)
        return self.slow_decay_scale * (1.0 - progress) / (1.0 - self.slow_decay_from)


def share(batches: list[MicroBatch], rank: int, world: int) -> list[MicroBatch]:
    """The micro-batches that process `rank` of `world` takes: the longest go first, each to whom has least to do."""
    loads = [0.0] * world
    mine = []
    for batch in sorted(batches, key=_cost, reverse=True):
        idlest = loads.index(min(loads))
        loads[idlest] += _cost(batch)
        if idlest == rank:
            mine.append(batch)
    return mine


def _cost(batch: MicroBatch) -> float:
    return batch.tokens.size * (1 + batch.tokens.shape[1] / 1500)


@dataclass(frozen=True)
class Learned:
    """A micro-batch on the device: `tokens` `[rows, length]`, which of them to learn from `[rows * length]`, and what
    follows these."""

    tokens: Tensor
    wanted: Tensor
    following: Tensor

    @classmethod
    def of(cls, batch: MicroBatch, device: str) -> "Learned":
        """Bring `batch` to `device`."""
        targets = torch.from_numpy(batch.targets).to(device).flatten()
        wanted = targets >= 0
        return cls(torch.from_numpy(batch.tokens).to(device), wanted, targets[wanted])

    def logits(self, model: Nano) -> Tensor:
        """What `model` says to the tokens to be learned, `[learned, vocab]`: only their rows meet the output head."""
        with torch.autocast(self.tokens.device.type, torch.bfloat16):
            return model.logits(model.model(self.tokens).flatten(0, 1)[self.wanted]).float()


def next_token_loss(model: Nano, batch: Learned) -> Tensor:
    """Cross-entropy with the text itself."""
    return F.cross_entropy(batch.logits(model), batch.following, reduction="sum")


Loss = Callable[[Nano, Learned], Tensor]


class Trainer:
    """A model, its optimisers, and how far they have come; process `rank` of `world` alike ones.

    `loss` is what is made small, summed over the tokens to be learned of a micro-batch; it may be changed on the way.
    """

    def __init__(
        self, model: Nano, recipe: Recipe, rank: int = 0, world: int = 1, *, loss: Loss = next_token_loss
    ) -> None:
        self.model, self.recipe, self.loss = model.to(recipe.device), recipe, loss
        self.rank, self.world = rank, world
        matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
        others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
        muon = torch.optim.Muon(
            matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(others, lr=recipe.other_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.optimisers: list[tuple[torch.optim.Optimizer, float]] = [
            (muon, recipe.matrix_lr),
            (adamw, recipe.other_lr),
        ]
        self.step = 0
        self.tokens_read = 0
        self.tokens_learned = 0
        self.seconds = 0.0

    def run(self, data: Iterable[StepData], checkpoint: Path, checkpoint_every: int = 100) -> None:
        """Train on all of `data`; the first process reports, and writes `checkpoint` now and then and at the end."""
        started, window = time.monotonic() - self.seconds, time.monotonic()
        window_tokens, losses = 0, []
        for step_data in data:
            losses.append(self._step(step_data))
            window_tokens += step_data.read
            self.seconds = time.monotonic() - started
            if self.rank:
                continue
            if self.step % 20 == 0:
                rate, loss = window_tokens / (time.monotonic() - window), sum(losses) / len(losses)
                print(f"step {self.step}  loss {loss:.4f}  {rate:.0f} tokens/s  {self.seconds:.0f} s", flush=True)
                window, window_tokens, losses = time.monotonic(), 0, []
            if self.step % checkpoint_every == 0 or self.step == self.recipe.total_steps:
                self.save(checkpoint)

    def _step(self, data: StepData) -> float:
        total = torch.zeros((), device=self.recipe.device)
        for micro_batch in share(data.micro_batches, self.rank, self.world):
            loss = self.loss(self.model, Learned.of(micro_batch, self.recipe.device)) / data.learned
            loss.backward()
            total += loss.detach()
        self._sum_gradients(total)
        scale = self.recipe.lr_scale(self.step)
        for optimiser, lr in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step, self.tokens_read = self.step + 1, self.tokens_read + data.read
        self.tokens_learned += data.learned
        return float(total)

    def _sum_gradients(self, total: Tensor) -> None:
        """Add up gradients and loss over all processes, in place."""
        if self.world == 1:
            return
        parameters = list(self.model.parameters())
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([total.reshape(1), *(gradient.flatten() for gradient in gradients)])
        torch.distributed.all_reduce(flat)
        total.copy_(flat[0])
        for parameter, part in zip(parameters, flat[1:].split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def save(self, path: Path) -> None:
        """Write everything needed to resume, never leaving a half-written file."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "progress": [self.step, self.tokens_read, self.tokens_learned, self.seconds],
        }
        draft = path.with_suffix(".part")
        torch.save(state, draft)
        os.replace(draft, path)

    def load(self, path: Path) -> None:
        """Resume from what `save` wrote."""
        state = torch.load(path, map_location=self.recipe.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for (optimiser, _), saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.tokens_read, self.tokens_learned, self.seconds = state["progress"]
