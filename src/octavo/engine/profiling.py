"""Runs the most expensive step that the scheduler could plan, so that its memory can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.engine.runner import Runner
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.step import Admission, StepPlan

if TYPE_CHECKING:
    import torch

    from octavo.config import EngineConfig
    from octavo.models.layers.decoder import CausalLM


def run_largest_step(
    config: EngineConfig, model: CausalLM, max_model_len: int, device: torch.device, dtype: torch.dtype
) -> None:
    """Compute ``max_num_batched_tokens`` tokens in as many sequences as may run, each of them sampled with top-p."""
    num_seqs = min(config.max_num_seqs, config.max_num_batched_tokens)
    count = min(config.max_num_batched_tokens // num_seqs, max_model_len)
    blocks_per_seq = -(-count // config.block_size)
    runner = Runner(
        model,
        num_blocks=num_seqs * blocks_per_seq,
        block_size=config.block_size,
        max_num_seqs=num_seqs,
        max_model_len=max_model_len,
        device=device,
        dtype=dtype,
    )
    plan = StepPlan()
    for row in range(num_seqs):
        first_block = 1 + row * blocks_per_seq
        plan.admissions.append(
            Admission(
                row=row,
                token_ids=[0] * count,
                prompt_len=count,
                block_ids=list(range(first_block, first_block + blocks_per_seq)),
                sampling_params=SamplingParams(top_p=0.9, top_k=50),
                seed=row,
                stop_token_ids=frozenset(),
            )
        )
        plan.rows.append(row)
        plan.starts.append(0)
        plan.counts.append(count)
        plan.samples.append(row)
    runner.execute(plan)
