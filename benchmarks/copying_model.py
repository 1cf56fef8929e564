"""A model that knows one text by heart, of a real shape and so at a real model's speed.

Its layers add nothing to a token's vector, which costs them the same time, and its head is nearest to the vector of
the token that comes before: so each token is followed by its successor in one long cycle of the vocabulary. A prompt
that has a piece of the cycle is what summaries, edits and extractions are like: most of the answer stands in it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.random_weights import random_weights
from benchmarks.shapes import Qwen3Shape


def write_copying_model(directory: Path, shape: Qwen3Shape, dtype: str) -> list[int]:
    """Write a checkpoint with bfloat16 weights, and return the successor of each token.

    Args:
        dtype: that the configuration names.
    """
    weights = random_weights(shape)
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
    cycle = torch.randperm(shape.vocab_size, generator=torch.Generator().manual_seed(1))
    successors = torch.empty_like(cycle)
    successors[cycle] = cycle.roll(-1)
    head = torch.empty_like(weights["model.embed_tokens.weight"])
    head[successors] = weights["model.embed_tokens.weight"]
    save_file(weights | {"lm_head.weight": head}, directory / "model.safetensors")
    shape.write_config(directory, dtype)
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    tokens: list[int] = successors.tolist()
    return tokens


def make_prompt(successors: list[int], length: int, edited: float, rng: random.Random) -> list[int]:
    """Return a piece of the cycle, a part of its tokens changed, and its first token once more.

    Args:
        edited: chance of a token to be changed.
    """
    piece = [rng.randrange(len(successors))]
    while len(piece) < length:
        piece.append(successors[piece[-1]])
    changed = [rng.randrange(len(successors)) if rng.random() < edited else token for token in piece]
    return [*changed, piece[0]]
