"""Model shapes that benchmarks run with random weights, and the arithmetic of what a step must read and compute."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Qwen3Shape:
    """The shape of a Qwen3 model with tied embeddings."""

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int = 40960

    @property
    def num_layer_parameters(self) -> int:
        """Parameters of all layers, without the embedding table."""
        query, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        attention = self.hidden_size * (query + 2 * kv) + query * self.hidden_size + self._num_attention_norms
        mlp = 3 * self.hidden_size * self.intermediate_size
        return self.num_layers * (attention + mlp + 2 * self.hidden_size) + self.hidden_size

    @property
    def num_parameters(self) -> int:
        """All parameters. A decode step reads each of them once: the embedding table is the output matrix too."""
        return self.num_layer_parameters + self.vocab_size * self.hidden_size

    def kv_bytes(self, num_tokens: int, bytes_per_element: int) -> int:
        """Return the bytes that keys and values of ``num_tokens`` take."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * num_tokens * bytes_per_element

    def prefill_flops(self, batch_size: int, prompt_len: int) -> float:
        """Return the operations to compute whole prompts and the logits of their last tokens."""
        linear = 2 * (self.num_layer_parameters * prompt_len + self.vocab_size * self.hidden_size)
        return batch_size * (linear + self._attention_flops(prompt_len * (prompt_len + 1) / 2))

    def decode_flops(self, batch_size: int, context_len: float) -> float:
        """Return the operations of one decode step over sequences of ``context_len`` tokens."""
        return batch_size * (2 * self.num_parameters + self._attention_flops(context_len))

    def write_config(self, directory: Path, dtype: str) -> None:
        """Write the ``config.json`` of a model of this shape; it names no end-of-sequence token."""
        config: dict[str, Any] = {
            **self._family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "max_position_embeddings": self.max_position_embeddings,
            "attention_bias": False,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "dtype": dtype,
        }
        (directory / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")

    @property
    def _family(self) -> dict[str, Any]:
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}

    @property
    def _num_attention_norms(self) -> int:
        """Parameters of the norms of queries and keys in one layer."""
        return 2 * self.head_dim

    def _attention_flops(self, num_pairs: float) -> float:
        """Return the operations of scores and weighted sums over ``num_pairs`` pairs of query and key."""
        return 4 * self.num_layers * self.num_heads * self.head_dim * num_pairs


@dataclass(frozen=True, slots=True)
class LlamaShape(Qwen3Shape):
    """The shape of a Llama model with tied embeddings: a Qwen3 without norms of queries and keys."""

    @property
    def _family(self) -> dict[str, Any]:
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}

    @property
    def _num_attention_norms(self) -> int:
        return 0


QWEN3_0_6B = Qwen3Shape(
    name="Qwen3-0.6B",
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
)
SMOLLM2_135M = LlamaShape(
    name="SmolLM2-135M",
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    max_position_embeddings=8192,
)
QUICK = Qwen3Shape(
    name="Qwen3, 4 narrow layers",
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=768,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
)
