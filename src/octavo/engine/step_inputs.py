"""What the model is given in a step: the plan's tokens end to end, and where each of them stands.

All of it but the tokens themselves follows from the plan, so it is computed on the host, where a small operation costs
a tenth of what it costs on tensors, and crosses to the device in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from octavo.engine.batch_state import BatchState
    from octavo.engine.step import StepPlan


@dataclass(frozen=True, slots=True)
class StepArrays:
    """A plan's numbers as arrays on the host.

    Attributes:
        rows, starts, counts: ``[num_seqs]`` int64, as in the plan.
        ends: ``[num_seqs]`` int64, tokens of each sequence after the step.
        samples: ``[num_samples]`` int64, as in the plan; None if every sequence samples.
        draft_lens: ``[num_samples]`` int64, tokens of the draft of each sample; None if there are no drafts.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    ends: NDArray[np.int64]
    samples: NDArray[np.int64] | None
    draft_lens: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, plan: StepPlan) -> StepArrays:
        """Return the arrays of a plan."""
        rows, starts, counts = np.array([plan.rows, plan.starts, plan.counts])
        samples = None if len(plan.samples) == len(rows) else np.array(plan.samples, dtype=np.int64)
        draft_lens = None
        if plan.drafts:
            draft_lens = np.zeros(len(plan.samples), dtype=np.int64)
            draft_lens[list(plan.drafts)] = [len(draft) for draft in plan.drafts.values()]
        return cls(rows, starts, counts, starts + counts, samples, draft_lens)

    @property
    def sampled_rows(self) -> NDArray[np.int64]:
        """The rows that sample, ``[num_sampled]``: each as often as it samples a token."""
        rows = self.rows if self.samples is None else self.rows[self.samples]
        return rows if self.draft_lens is None else np.repeat(rows, self.draft_lens + 1)

    @property
    def sampled_lens(self) -> NDArray[np.int64]:
        """The tokens up to each sampled one, ``[num_sampled]``: where it goes."""
        return self._at_drafts(self.ends if self.samples is None else self.ends[self.samples])

    @property
    def sampled_places(self) -> NDArray[np.int64]:
        """Which of the step's tokens, counted end to end, are followed by a sampled one: ``[num_sampled]``."""
        places = np.cumsum(self.counts) - 1
        return self._at_drafts(places if self.samples is None else places[self.samples])

    def _at_drafts(self, last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Spread what counts for the last token of each sample over the tokens of its draft: ``… last - 1, last``."""
        if self.draft_lens is None:
            return last
        num_sampled = self.draft_lens + 1
        last_sampled = np.cumsum(num_sampled) - 1
        return np.repeat(last - last_sampled, num_sampled) + np.arange(last_sampled[-1] + 1)


def make_step_inputs(
    step: StepArrays, state: BatchState, block_size: int, kv_caches: Sequence[LayerKVCache]
) -> tuple[Tensor, ForwardContext]:
    """Return the token ids ``[num_tokens]`` int64 of a step, and their context.

    Args:
        state: what the rows hold; must have been told of the plan.
    """
    rows, starts, counts, ends = step.rows, step.starts, step.counts, step.ends
    num_seqs = len(rows)
    query_starts = np.zeros(num_seqs + 1, dtype=np.int64)
    np.cumsum(counts, out=query_starts[1:])
    num_tokens = int(query_starts[-1])
    if num_tokens == num_seqs:
        token_rows, positions = rows, starts
    else:
        token_rows = np.repeat(rows, counts)
        positions = np.arange(num_tokens) + np.repeat(starts - query_starts[:-1], counts)
    blocks = state.block_tables_host[token_rows, positions // block_size].astype(np.int64)
    seq_lens = ends.tolist()
    positions_there, slots, prompt_lens = state.to_device(
        positions, blocks * block_size + positions % block_size, state.prompt_lens[token_rows]
    )
    (query_starts_there,) = state.to_device(query_starts.astype(np.int32))
    (seq_lens_there,) = state.to_device(ends.astype(np.int32))
    context = ForwardContext(
        positions=positions_there,
        slots=slots,
        block_tables=state.block_tables_of(rows, blocks_of_sequence(max(seq_lens), block_size)),
        query_starts=query_starts_there,
        seq_lens=seq_lens_there,
        prompt_lens=prompt_lens,
        query_lens_host=counts.tolist(),
        seq_lens_host=seq_lens,
        kv_caches=kv_caches,
    )
    return state.tokens_at(token_rows, positions), context
