"""How one token is chosen for each row of logits: what the sampling kernels take beside the logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """Parameters of ``num_rows`` rows of logits, and what is known of all of them without asking the device.

    Attributes:
        temperature: ``[num_rows]`` float32; 0 takes the most likely token, whatever the other parameters say.
        top_k: ``[num_rows]`` int64, 0 for all.
        top_p, min_p: ``[num_rows]`` float32.
        seeds: ``[num_rows]`` int64.
        positions: ``[num_rows]`` int64, index of the token to sample in the output.
        all_greedy: whether every temperature is 0.
        max_top_k: greatest ``top_k`` of a row that is not greedy, 0 if there is none.
        any_top_p, any_min_p: whether some row that is not greedy uses them.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seeds: Tensor
    positions: Tensor
    all_greedy: bool
    max_top_k: int
    any_top_p: bool
    any_min_p: bool


@dataclass(frozen=True, slots=True)
class PenaltyRows:
    """Penalties of some rows of a batch.

    Attributes:
        rows: ``[num_penalized]`` int64, rows of the logits.
        token_ids: ``[num_penalized, max_len]`` int32, their known tokens; entries from ``lens`` on are ignored.
        prompt_lens, lens: ``[num_penalized]`` int64.
        presence, frequency, repetition: ``[num_penalized]`` float32.
    """

    rows: Tensor
    token_ids: Tensor
    prompt_lens: Tensor
    lens: Tensor
    presence: Tensor
    frequency: Tensor
    repetition: Tensor
