"""What the model is given in a step: the plan's tokens end to end, and where each of them stands.

All of it but the tokens themselves follows from the plan, so it is computed on the host, where a small operation costs
a tenth of what it costs on tensors, and crosses to the device in one piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.engine.batch_state import BatchState
    from octavo.engine.step import StepPlan


def make_step_inputs(
    plan: StepPlan, state: BatchState, block_size: int, kv_caches: Sequence[LayerKVCache]
) -> tuple[Tensor, ForwardContext]:
    """Return the token ids ``[num_tokens]`` int64 of a step, and their context.

    Args:
        state: what the rows of the plan hold; must have been told of the plan.
    """
    num_seqs = len(plan.rows)
    rows, starts, counts = np.array([plan.rows, plan.starts, plan.counts])
    ends = starts + counts
    query_starts = np.zeros(num_seqs + 1, dtype=np.int64)
    np.cumsum(counts, out=query_starts[1:])
    num_tokens = int(query_starts[-1])
    if num_tokens == num_seqs:
        token_rows, positions = rows, starts
    else:
        token_rows = np.repeat(rows, counts)
        positions = np.arange(num_tokens) + np.repeat(starts - query_starts[:-1], counts)
    blocks = state.block_tables_host[token_rows, positions // block_size]
    seq_lens = ends.tolist()
    of_tokens = np.empty((4, num_tokens), dtype=np.int64)
    of_tokens[0] = token_rows
    of_tokens[1] = positions
    np.multiply(blocks, block_size, out=of_tokens[2])
    of_tokens[2] += positions % block_size
    of_tokens[3] = state.prompt_lens[token_rows]
    token_rows_there, positions_there, slots, prompt_lens = state.to_device(of_tokens)
    max_blocks = blocks_of_sequence(max(seq_lens), block_size)
    context = ForwardContext(
        positions=positions_there,
        slots=slots,
        block_tables=state.block_tables[state.to_device(rows), :max_blocks],
        query_starts=state.to_device(query_starts.astype(np.int32)),
        seq_lens=state.to_device(ends.astype(np.int32)),
        prompt_lens=prompt_lens,
        query_lens_host=plan.counts,
        seq_lens_host=seq_lens,
        kv_caches=kv_caches,
    )
    return state.token_ids[token_rows_there, positions_there].long(), context


def sampled_places(plan: StepPlan) -> list[int]:
    """Return which of the step's tokens, counted end to end, are followed by a sampled one."""
    ends = np.cumsum(plan.counts)
    places: list[int] = (ends[plan.samples] - 1).tolist()
    return places
