"""The training loop: Muon for the matrices, AdamW for the rest, warm-up, plateau and a linear decay to nothing."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.train_nano.batches import MicroBatch, StepData
from tools.train_nano.model import Nano


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run; the defaults are those of the shipped model."""

    seed: int = 0
    steps: int = 4000
    step_tokens: int = 5000
    micro_tokens: int = 2048
    max_length: int = 2048
    matrix_lr: float = 6e-3
    other_lr: float = 3e-3
    weight_decay: float = 0.01
    warmup_steps: int = 60
    decay_share: float = 0.35
    device: str = "cpu"

    def lr_scale(self, step: int) -> float:
        """The schedule: linear warm-up, constant, then linear decay to zero over the last `decay_share`."""
        remaining = (self.steps - step) / (self.steps * self.decay_share)
        return min(1.0, (step + 1) / self.warmup_steps, remaining)


class Trainer:
    """A model, its optimisers, and how far they have come."""

    def __init__(self, model: Nano, recipe: Recipe) -> None:
        self.model, self.recipe = model.to(recipe.device), recipe
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

    def run(self, data: Iterable[StepData], checkpoint: Path, checkpoint_every: int = 250) -> None:
        """Train on all of `data`, writing `checkpoint` now and then and at the end."""
        started, window = time.monotonic() - self.seconds, time.monotonic()
        window_tokens, window_loss, window_steps = 0, 0.0, 0
        for step_data in data:
            window_loss += self._step(step_data)
            window_tokens, window_steps = window_tokens + step_data.read, window_steps + 1
            self.seconds = time.monotonic() - started
            if self.step % 50 == 0:
                rate = window_tokens / (time.monotonic() - window)
                loss = window_loss / window_steps
                print(f"step {self.step}  loss {loss:.4f}  {rate:.0f} tokens/s  {self.seconds:.0f} s", flush=True)
                window, window_tokens, window_loss, window_steps = time.monotonic(), 0, 0.0, 0
            if self.step % checkpoint_every == 0 or self.step == self.recipe.steps:
                self.save(checkpoint)

    def _step(self, data: StepData) -> float:
        scale = self.recipe.lr_scale(self.step)
        total = torch.zeros((), device=self.recipe.device)
        for micro_batch in data.micro_batches:
            loss = self._loss(micro_batch) / data.learned
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.model.embed_tokens.parameters(), 1.0)
        for optimiser, lr in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = lr * scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step, self.tokens_read = self.step + 1, self.tokens_read + data.read
        self.tokens_learned += data.learned
        return float(total)

    def _loss(self, batch: MicroBatch) -> Tensor:
        """Summed cross-entropy of the tokens to be learned; only their rows meet the output head."""
        tokens = torch.from_numpy(batch.tokens).to(self.recipe.device)
        targets = torch.from_numpy(batch.targets).to(self.recipe.device).flatten()
        wanted = targets >= 0
        with torch.autocast(self.recipe.device, torch.bfloat16):
            hidden = self.model.model(tokens).flatten(0, 1)[wanted]
            logits = self.model.logits(hidden)
        return F.cross_entropy(logits.float(), targets[wanted], reduction="sum")

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
