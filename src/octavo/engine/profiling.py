"""Runs the most expensive steps that the scheduler could plan, so that their memory can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.engine.runner import Runner
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.step import Admission, StepPlan
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    import torch

    from octavo.config import EngineConfig
    from octavo.models.layers.decoder import CausalLM

# What the keys and values are does not matter here, so all positions of all sequences share one block.
_ONLY_BLOCK = 1


def run_largest_steps(
    config: EngineConfig, model: CausalLM, max_model_len: int, device: torch.device, dtype: torch.dtype
) -> None:
    """Compute the step with the most sequences, and the one that attends to the longest context.

    Both have ``max_num_batched_tokens`` tokens, as far as ``max_model_len`` allows. In the first as many sequences as
    may run take part, each sampled with top-k and top-p; the second is the last chunk of one prompt of the greatest
    length.
    """
    num_tokens = config.step_tokens(device.type)
    num_seqs = min(config.max_num_seqs, num_tokens)
    runner = Runner(
        model,
        num_blocks=1,
        block_size=config.block_size,
        max_num_tokens=num_tokens,
        max_num_seqs=num_seqs,
        max_model_len=max_model_len,
        device=device,
        dtype=dtype,
    )
    count = min(num_tokens // num_seqs, max_model_len)
    runner.execute(_plan(num_seqs, start=0, count=count, block_size=config.block_size))
    chunk = min(num_tokens, max_model_len)
    runner.execute(_plan(1, start=max_model_len - chunk, count=chunk, block_size=config.block_size))


def _plan(num_seqs: int, *, start: int, count: int, block_size: int) -> StepPlan:
    plan = StepPlan()
    length = start + count
    for row in range(num_seqs):
        plan.admissions.append(
            Admission(
                row=row,
                token_ids=[0] * length,
                prompt_len=length,
                block_ids=[_ONLY_BLOCK] * blocks_of_sequence(length, block_size),
                sampling_params=SamplingParams(top_p=0.9, top_k=50),
                seed=row,
                stop_token_ids=frozenset(),
            )
        )
        plan.rows.append(row)
        plan.starts.append(start)
        plan.counts.append(count)
        plan.samples.append(row)
    return plan
