"""The runner's memory of the sequences that run: one row each in persistent buffers on the device.

The scheduler assigns rows; here they are filled when a request is admitted and only changed after that. Which rows use
which rarely used parameter is kept on the host, so that a step pays only for what some row in it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from octavo.engine.sampler import Penalties, SamplingBatch
from octavo.engine.thinking import FORCING_BIAS, forced_token
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.step import Admission, StepPlan

_MAX_TOP_K = 2**31 - 1


class BatchState:
    """Tokens, block tables and sampling parameters of up to ``max_num_seqs`` sequences.

    Attributes:
        token_ids: ``[max_num_seqs, max_model_len]`` int32.
        block_tables: ``[max_num_seqs, max_blocks]`` int32.
        prompt_lens: ``[max_num_seqs]`` int64.
    """

    def __init__(self, *, max_num_seqs: int, max_model_len: int, block_size: int, device: torch.device) -> None:
        self.device = device
        max_blocks = blocks_of_sequence(max_model_len, block_size)
        self.token_ids = torch.empty((max_num_seqs, max_model_len), dtype=torch.int32, device=device)
        self.block_tables = torch.zeros((max_num_seqs, max_blocks), dtype=torch.int32, device=device)
        self.prompt_lens = torch.zeros(max_num_seqs, dtype=torch.int64, device=device)
        # temperature, top_p, min_p, presence, frequency, repetition
        self._floats = torch.zeros((max_num_seqs, 6), dtype=torch.float32, device=device)
        # greedy, top_k, seed
        self._ints = torch.zeros((max_num_seqs, 3), dtype=torch.int64, device=device)
        self._admissions: list[Admission | None] = [None] * max_num_seqs
        self._rows_with_bias: set[int] = set()
        self._rows_with_logprobs: set[int] = set()
        self._rows_with_min_tokens: set[int] = set()
        self._rows_with_penalties: set[int] = set()
        self._rows_with_thinking: set[int] = set()
        self._random_rows: set[int] = set()

    def apply(self, plan: StepPlan) -> None:
        """Take over what a plan changes: admitted requests and new blocks."""
        for admission in plan.admissions:
            self._admit(admission)
        for row, index, block_ids in plan.new_blocks:
            self.block_tables[row, index : index + len(block_ids)] = self._ints32(block_ids)
        for row, index, token_ids in plan.forced_tokens:
            self.token_ids[row, index : index + len(token_ids)] = self._ints32(token_ids)

    def sampling_batch(self, plan: StepPlan) -> tuple[Tensor, SamplingBatch]:
        """Gather the parameters of the rows that sample.

        Returns:
            The rows ``[num_samples]`` int64, and their parameters in the same order.
        """
        rows = [plan.rows[index] for index in plan.samples]
        lens = [plan.starts[index] + plan.counts[index] for index in plan.samples]
        row_index, length = self._ints64([rows, lens])
        floats = self._floats[row_index]
        ints = self._ints[row_index]
        params = self._params_of(rows)
        random = [p for row, p in zip(rows, params, strict=True) if row in self._random_rows]
        return row_index, SamplingBatch(
            temperature=floats[:, 0],
            top_p=floats[:, 1],
            min_p=floats[:, 2],
            greedy=ints[:, 0].bool(),
            top_k=ints[:, 1],
            seeds=ints[:, 2],
            output_positions=length - self.prompt_lens[row_index],
            all_greedy=not random,
            max_top_k=max((p.top_k for p in random), default=0),
            any_top_p=any(p.top_p < 1 for p in random),
            any_min_p=any(p.min_p > 0 for p in random),
            penalties=self._penalties(rows, lens),
            biases=self._biases(rows, lens),
            num_logprobs=self._num_logprobs(rows, params),
        )

    def append(self, plan: StepPlan, rows: Tensor, token_ids: Tensor) -> None:
        """Write sampled tokens behind the tokens of their rows, where the next step finds them.

        Args:
            rows: ``[num_samples]`` int64.
            token_ids: ``[num_samples]`` int64.
        """
        # A sequence that has just reached the greatest length has no next step and no place for the token.
        ends = self._ints64([[plan.starts[i] + plan.counts[i] for i in plan.samples]])[0]
        ends.clamp_(max=self.token_ids.shape[1] - 1)
        self.token_ids[rows, ends] = token_ids.to(torch.int32)

    def _admit(self, admission: Admission) -> None:
        row, params = admission.row, admission.sampling_params
        self.token_ids[row, : len(admission.token_ids)] = self._ints32(admission.token_ids)
        self.block_tables[row, : len(admission.block_ids)] = self._ints32(admission.block_ids)
        self.prompt_lens[row] = admission.prompt_len
        temperature = 1.0 if params.is_greedy else params.temperature
        penalties = (params.presence_penalty, params.frequency_penalty, params.repetition_penalty)
        self._floats[row] = torch.tensor((temperature, params.top_p, params.min_p, *penalties), device=self.device)
        seed = (admission.seed + 2**63) % 2**64 - 2**63
        # Beyond any vocabulary there is nothing more to choose from, and a greedy row has no choice at all.
        top_k = 0 if params.is_greedy else min(params.top_k, _MAX_TOP_K)
        self._ints[row] = self._ints64([params.is_greedy, top_k, seed])
        self._admissions[row] = admission
        for rows, used in (
            (self._rows_with_bias, bool(params.logit_bias)),
            (self._rows_with_logprobs, params.logprobs is not None),
            (self._rows_with_min_tokens, params.min_tokens > 0),
            (self._rows_with_penalties, params.has_penalties),
            (self._rows_with_thinking, params.thinking is not None),
            (self._random_rows, not params.is_greedy),
        ):
            if used:
                rows.add(row)
            else:
                rows.discard(row)

    def _penalties(self, rows: list[int], lens: list[int]) -> Penalties | None:
        if self._rows_with_penalties.isdisjoint(rows):
            return None
        chosen = [index for index, row in enumerate(rows) if row in self._rows_with_penalties]
        index, row, length = self._ints64([chosen, [rows[i] for i in chosen], [lens[i] for i in chosen]])
        floats = self._floats[row]
        return Penalties(
            rows=index,
            token_ids=self.token_ids[row, : max(lens[i] for i in chosen)].long(),
            prompt_lens=self.prompt_lens[row],
            lens=length,
            presence=floats[:, 3],
            frequency=floats[:, 4],
            repetition=floats[:, 5],
        )

    def _biases(self, rows: list[int], lens: list[int]) -> tuple[list[int], list[int], list[float]] | None:
        """Collect logit biases, stop tokens that ``min_tokens`` still forbids, and tokens that end a long thinking."""
        index: list[int] = []
        tokens: list[int] = []
        values: list[float] = []
        for i, (row, length) in enumerate(zip(rows, lens, strict=True)):
            if row in self._rows_with_bias:
                bias = self._admitted(row).sampling_params.logit_bias or {}
                index += [i] * len(bias)
                tokens += bias.keys()
                values += bias.values()
            if row in self._rows_with_min_tokens:
                admission = self._admitted(row)
                if length - admission.prompt_len < admission.sampling_params.min_tokens:
                    index += [i] * len(admission.stop_token_ids)
                    tokens += admission.stop_token_ids
                    values += [-float("inf")] * len(admission.stop_token_ids)
            if row in self._rows_with_thinking and (forced := self._forced_token(row, length)) is not None:
                index.append(i)
                tokens.append(forced)
                values.append(FORCING_BIAS)
        return (index, tokens, values) if index else None

    def _forced_token(self, row: int, length: int) -> int | None:
        """Return the token that a thinking budget demands next; rows that have done thinking are looked at no more."""
        admission = self._admitted(row)
        budget = admission.sampling_params.thinking
        if budget is None or budget.num_tokens > length - admission.prompt_len:
            return None
        output = self.token_ids[row, admission.prompt_len : length].tolist()
        forced, goes_on = forced_token(budget, output)
        if not goes_on:
            self._rows_with_thinking.discard(row)
        return forced

    def _num_logprobs(self, rows: list[int], params: list[SamplingParams]) -> list[int | None] | None:
        if self._rows_with_logprobs.isdisjoint(rows):
            return None
        return [p.logprobs for p in params]

    def _params_of(self, rows: list[int]) -> list[SamplingParams]:
        return [self._admitted(row).sampling_params for row in rows]

    def _admitted(self, row: int) -> Admission:
        admission = self._admissions[row]
        if admission is None:
            raise AssertionError(f"row {row} was never filled")
        return admission

    def _ints32(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def _ints64(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)
