"""What a step needs beside weights and KV cache: activations, logits, and the buffers of the running sequences.

It follows what Octavo's engine holds at the worst moment of the two steps that it profiles on a GPU
(``octavo.engine.profiling``); other engines are in the same range.
"""

from __future__ import annotations

from octavo.plan.memory import blocks_of_sequence
from octavo.plan.model_shape import ModelShape

# Of each logit while a token is sampled: float32 logits as they came, with the temperature and filtered, the float32
# distribution, and in float64 the same and its cumulative sum.
_BYTES_PER_LOGIT = 4 * 4 + 2 * 8
# Queries that the reference attention masks at a time; the mask is made as bool and then in the type of the scores.
_MASKED_QUERIES = 512
_INT32_BYTES = 4


def activation_bytes(
    shape: ModelShape,
    *,
    element_bytes: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    max_model_len: int,
    tensor_parallel_size: int = 1,
) -> int:
    """Return the most that activations take on one GPU in any step.

    That is the widest point of a layer for a full step, the keys and values of one longest sequence gathered for its
    prefill, or the logits of all running sequences, whichever is most.
    """
    num_tokens = min(max_num_batched_tokens, max_num_seqs * max_model_len)
    # Residual and input of the layer, residual and input of the part of it that runs; then the output of that part, and
    # as much again while it is made.
    hidden = 4 * shape.hidden_size
    mlp = 2 * max(layer.mlp.width for layer in shape.layers) / tensor_parallel_size
    attention = 2 * max(layer.attention.linears[0].out_features for layer in shape.layers) / tensor_parallel_size
    gathered = max(layer.attention.kv_elements_per_token for layer in shape.layers) * max_model_len
    num_logits = min(max_num_seqs, max_num_batched_tokens) * shape.vocab_size
    layer = num_tokens * element_bytes * (hidden + mlp)
    prefill = element_bytes * (num_tokens * (hidden + attention) + gathered / tensor_parallel_size)
    prefill += min(num_tokens, _MASKED_QUERIES) * max_model_len * (1 + element_bytes)
    return int(max(layer, prefill, num_logits * _BYTES_PER_LOGIT))


def state_bytes(*, max_num_seqs: int, max_model_len: int, block_size: int) -> int:
    """Return what the runner keeps of the sequences: their tokens and their block tables, for each possible row."""
    return max_num_seqs * (max_model_len + blocks_of_sequence(max_model_len, block_size)) * _INT32_BYTES
