"""Executes step plans: gathers the batch on the device, runs the model, samples. Makes no decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from octavo.engine.batch_state import BatchState
from octavo.engine.recorded_decode import RecordedDecode
from octavo.engine.sampler import sample
from octavo.engine.step import StepPlan, StepResult
from octavo.models.forward_context import ForwardContext, LayerKVCache
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.engine.lora.adapters import Adapters
    from octavo.models.layers.decoder import CausalLM
    from octavo.models.layers.lora import AdapterRows


class Runner:
    """Holds the model, its KV cache and the state of the running sequences on one device.

    Args:
        num_blocks: blocks that the scheduler hands out; one more is allocated for padding.
        adapters: LoRA adapters of the model, if it takes any.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        max_model_len: int,
        device: torch.device,
        dtype: torch.dtype,
        adapters: Adapters | None = None,
    ) -> None:
        self.model = model
        self.adapters = adapters
        self.device = device
        self.block_size = block_size
        self.kv_caches = allocate_kv_caches(model, num_blocks, block_size, device=device, dtype=dtype)
        self.state = BatchState(
            max_num_seqs=max_num_seqs, max_model_len=max_model_len, block_size=block_size, device=device
        )
        self._recorded_decode = (
            RecordedDecode(model, max_num_seqs=max_num_seqs, max_blocks=blocks_of_sequence(max_model_len, block_size))
            if model.is_native
            else None
        )

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> StepResult:
        """Compute one step and return its sampled tokens."""
        self.state.apply(plan)
        input_ids, context = self._gather(plan)
        groups = self.adapters.groups(plan) if self.adapters is not None else ()
        hidden = self._forward_adapted(input_ids, context, groups) if groups else self._forward(input_ids, context)
        if not plan.samples:
            return StepResult([])
        last_tokens = context.query_starts[1:].long() - 1
        samples = torch.tensor(plan.samples, device=self.device)
        logits = self.model.compute_logits(hidden[last_tokens[samples]])
        rows, batch = self.state.sampling_batch(plan)
        token_ids, logprobs = sample(logits, batch)
        self.state.append(plan, rows, token_ids)
        return StepResult(token_ids.tolist(), logprobs)

    def _forward(self, input_ids: Tensor, context: ForwardContext) -> Tensor:
        if self._recorded_decode is None or len(input_ids) != len(context.query_lens_host):
            hidden: Tensor = self.model(input_ids, context)
            return hidden
        return self._recorded_decode(*self.model.prepare(input_ids, context), context)

    def _forward_adapted(self, input_ids: Tensor, context: ForwardContext, groups: Sequence[AdapterRows]) -> Tensor:
        assert self.adapters is not None
        with self.adapters.adaptable.batch.of_step(groups):
            hidden: Tensor = self.model(input_ids, context)
        return hidden

    def _gather(self, plan: StepPlan) -> tuple[Tensor, ForwardContext]:
        num_tokens = sum(plan.counts)
        seq_lens = [start + count for start, count in zip(plan.starts, plan.counts, strict=True)]
        rows, starts, counts, ends = torch.tensor(
            [plan.rows, plan.starts, plan.counts, seq_lens], dtype=torch.int64, device=self.device
        )
        query_starts = torch.zeros(len(plan.rows) + 1, dtype=torch.int64, device=self.device)
        torch.cumsum(counts, dim=0, out=query_starts[1:])
        sequence = torch.repeat_interleave(counts, output_size=num_tokens)
        positions = torch.arange(num_tokens, device=self.device) + (starts - query_starts[:-1])[sequence]
        token_rows = rows[sequence]
        input_ids = self.state.token_ids[token_rows, positions].long()
        blocks = self.state.block_tables[token_rows, positions // self.block_size].long()
        max_blocks = blocks_of_sequence(max(seq_lens), self.block_size)
        context = ForwardContext(
            positions=positions,
            slots=blocks * self.block_size + positions % self.block_size,
            block_tables=self.state.block_tables[rows, :max_blocks],
            query_starts=query_starts.to(torch.int32),
            seq_lens=ends.to(torch.int32),
            prompt_lens=self.state.prompt_lens[token_rows],
            query_lens_host=plan.counts,
            seq_lens_host=seq_lens,
            kv_caches=self.kv_caches,
        )
        return input_ids, context


def allocate_kv_caches(
    model: CausalLM, num_blocks: int, block_size: int, *, device: torch.device, dtype: torch.dtype
) -> list[LayerKVCache]:
    """Allocate the KV cache of every layer, with the padding block 0 on top of ``num_blocks``."""
    shape = (num_blocks + 1, block_size, model.num_kv_heads, model.head_dim)
    return [
        LayerKVCache(
            key=torch.empty(shape, dtype=dtype, device=device), value=torch.empty(shape, dtype=dtype, device=device)
        )
        for _ in range(model.config.num_hidden_layers)
    ]
