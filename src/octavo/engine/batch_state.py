"""The runner's memory of the sequences that run: one row each.

The scheduler assigns rows; here they are filled when a request is admitted and only changed after that. What a step
is told about its rows is put together on the host, where all of it is known, and crosses to the device at once; only
tokens live on the device, since that is where they are sampled. On a CPU host and device are the same memory. Which
rows use which rarely used parameter is kept apart, so that a step pays only for what some row in it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from octavo.engine.sampler import SamplingBatch, make_sampling_rows, sampling_numbers
from octavo.engine.thinking import FORCING_BIAS, forced_token
from octavo.kernels.sampling_rows import PenaltyRows
from octavo.plan.memory import blocks_of_sequence

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.step import Admission, StepPlan
    from octavo.engine.step_inputs import StepArrays


class BatchState:
    """Tokens, block tables and sampling parameters of up to ``max_num_seqs`` sequences.

    Attributes:
        token_ids: ``[max_num_seqs, max_model_len]`` int32, on the device.
        block_tables: ``[max_num_seqs, max_blocks]`` int32, on the device.
        block_tables_host: the same on the host.
        prompt_lens: ``[max_num_seqs]`` int64, on the host.
    """

    def __init__(self, *, max_num_seqs: int, max_model_len: int, block_size: int, device: torch.device) -> None:
        self.device = device
        self._shares_memory = device.type == "cpu"
        max_blocks = blocks_of_sequence(max_model_len, block_size)
        self.token_ids = torch.empty((max_num_seqs, max_model_len), dtype=torch.int32, device=device)
        self.block_tables_host = np.zeros((max_num_seqs, max_blocks), dtype=np.int32)
        self.block_tables = torch.from_numpy(self.block_tables_host).to(device)
        self.prompt_lens = np.zeros(max_num_seqs, dtype=np.int64)
        # temperature, top_p, min_p, presence, frequency, repetition
        self._floats = np.zeros((6, max_num_seqs), dtype=np.float32)
        # top_k, seed
        self._ints = np.zeros((2, max_num_seqs), dtype=np.int64)
        self._admissions: list[Admission | None] = [None] * max_num_seqs
        self._rows_with_allowed: set[int] = set()
        self._rows_with_bad_words: set[int] = set()
        self._rows_with_bias: set[int] = set()
        self._rows_with_logprobs: set[int] = set()
        self._rows_with_min_tokens: set[int] = set()
        self._rows_with_penalties: set[int] = set()
        self._rows_with_thinking: set[int] = set()
        self._random_rows: set[int] = set()

    def to_device(self, *arrays: NDArray[Any]) -> tuple[Tensor, ...]:
        """Return arrays of one shape and type as tensors on the device: in one copy, or on a CPU in none."""
        if self._shares_memory:
            return tuple(map(torch.from_numpy, arrays))
        return torch.from_numpy(np.stack(arrays)).to(self.device, non_blocking=True).unbind()

    def tokens_at(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        """Return the tokens ``[n]`` int64 that stand at some positions of some rows, both ``[n]``."""
        if self._shares_memory:
            return torch.from_numpy(self.token_ids.numpy()[rows, positions].astype(np.int64))
        rows_there, positions_there = self.to_device(rows, positions)
        return self.token_ids[rows_there, positions_there].long()

    def block_tables_of(self, rows: NDArray[np.int64], max_blocks: int) -> Tensor:
        """Return the first ``max_blocks`` blocks of some rows, ``[n, max_blocks]`` int32."""
        if self._shares_memory:
            return torch.from_numpy(self.block_tables_host[rows, :max_blocks])
        return self.block_tables[self.to_device(rows)[0], :max_blocks]

    def apply(self, plan: StepPlan) -> None:
        """Take over what a plan changes: admitted requests, new blocks, and tokens that were not sampled."""
        for admission in plan.admissions:
            self._admit(admission)
        for row, index, block_ids in plan.new_blocks:
            self._write_blocks(row, index, block_ids)
        for row, index, token_ids in plan.forced_tokens:
            self._write_tokens(row, index, token_ids)
        for sample, draft in plan.drafts.items():
            sequence = plan.samples[sample]
            end = plan.starts[sequence] + plan.counts[sequence]
            self._write_tokens(plan.rows[sequence], end - len(draft), draft)

    def sampling_batch(self, step: StepArrays) -> SamplingBatch:
        """Gather the parameters of the rows that sample, in the order of the plan."""
        row_index, lens = step.sampled_rows, step.sampled_lens
        rows = row_index.tolist()
        positions = lens - self.prompt_lens[row_index]
        top_k, seeds, positions_there = self.to_device(*self._ints.take(row_index, axis=1), positions)
        temperature, top_p, min_p = self.to_device(*self._floats[:3].take(row_index, axis=1))
        random = [self._admitted(row).sampling_params for row in self._random_rows.intersection(rows)]
        sampling_rows = make_sampling_rows(
            random,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seeds=seeds,
            positions=positions_there,
        )
        return SamplingBatch(
            sampling_rows,
            penalties=self._penalties(rows, lens),
            biases=self._biases(rows, lens),
            allowed=self._allowed(rows),
            num_logprobs=self._num_logprobs(rows),
        )

    def append(self, step: StepArrays, token_ids: Tensor) -> None:
        """Write sampled tokens behind the tokens of their rows, where the next step finds them.

        Args:
            token_ids: ``[num_samples]`` int64.
        """
        # A sequence that has just reached the greatest length has no next step and no place for the token.
        rows, ends = step.sampled_rows, np.minimum(step.sampled_lens, self.token_ids.shape[1] - 1)
        if self._shares_memory:
            self.token_ids.numpy()[rows, ends] = token_ids.numpy()
        else:
            self.token_ids[self.to_device(rows, ends)] = token_ids.to(torch.int32)

    def _admit(self, admission: Admission) -> None:
        row, params = admission.row, admission.sampling_params
        self._write_tokens(row, 0, admission.token_ids)
        self._write_blocks(row, 0, admission.block_ids)
        self.prompt_lens[row] = admission.prompt_len
        temperature, top_p, min_p, top_k, seed = sampling_numbers(params, admission.seed)
        penalties = (params.presence_penalty, params.frequency_penalty, params.repetition_penalty)
        self._floats[:, row] = (temperature, top_p, min_p, *penalties)
        self._ints[:, row] = (top_k, seed)
        self._admissions[row] = admission
        for rows, used in (
            (self._rows_with_allowed, params.allowed_token_ids is not None),
            (self._rows_with_bad_words, bool(admission.bad_word_ids)),
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

    def _write_tokens(self, row: int, index: int, token_ids: list[int]) -> None:
        place = np.s_[row, index : index + len(token_ids)]
        if self._shares_memory:
            self.token_ids.numpy()[place] = token_ids
        else:
            self.token_ids[place] = torch.tensor(token_ids, dtype=torch.int32)

    def _write_blocks(self, row: int, index: int, block_ids: list[int]) -> None:
        place = np.s_[row, index : index + len(block_ids)]
        self.block_tables_host[place] = block_ids
        if not self._shares_memory:
            self.block_tables[place] = torch.from_numpy(self.block_tables_host[place])

    def _penalties(self, rows: list[int], lens: NDArray[np.int64]) -> PenaltyRows | None:
        if self._rows_with_penalties.isdisjoint(rows):
            return None
        chosen = [index for index, row in enumerate(rows) if row in self._rows_with_penalties]
        row_index = np.array([rows[i] for i in chosen])
        chosen_lens = lens[chosen]
        index, row, prompt_lens, length = self.to_device(
            np.array(chosen), row_index, self.prompt_lens[row_index], chosen_lens
        )
        presence, frequency, repetition = self.to_device(*self._floats[3:].take(row_index, axis=1))
        return PenaltyRows(
            rows=index,
            token_ids=self.token_ids[row, : int(chosen_lens.max())],
            prompt_lens=prompt_lens,
            lens=length,
            presence=presence,
            frequency=frequency,
            repetition=repetition,
        )

    def _biases(self, rows: list[int], lens: NDArray[np.int64]) -> tuple[list[int], list[int], list[float]] | None:
        """Collect logit biases, bad words, stop tokens too early for ``min_tokens``, and tokens that end a thought."""
        if not (
            self._rows_with_bias or self._rows_with_bad_words or self._rows_with_min_tokens or self._rows_with_thinking
        ):
            return None
        index: list[int] = []
        tokens: list[int] = []
        values: list[float] = []
        for i, (row, length) in enumerate(zip(rows, lens.tolist(), strict=True)):
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
            if row in self._rows_with_thinking:
                forced = self._forced_token(row, length, is_certain=i == 0 or rows[i - 1] != row)
                if forced is not None:
                    index.append(i)
                    tokens.append(forced)
                    values.append(FORCING_BIAS)
            if row in self._rows_with_bad_words:
                forbidden = self._ends_of_bad_words(self._admitted(row), length)
                index += [i] * len(forbidden)
                tokens += forbidden
                values += [-float("inf")] * len(forbidden)
        return (index, tokens, values) if index else None

    def _forced_token(self, row: int, length: int, *, is_certain: bool) -> int | None:
        """Return the token that a thinking budget demands next; rows that have done thinking are looked at no more.

        Args:
            is_certain: no token up to here is of a draft.
        """
        admission = self._admitted(row)
        budget = admission.sampling_params.thinking
        if budget is None or budget.num_tokens > length - admission.prompt_len:
            return None
        output = self.token_ids[row, admission.prompt_len : length].tolist()
        forced, goes_on = forced_token(budget, output)
        if not goes_on and is_certain:
            self._rows_with_thinking.discard(row)
        return forced

    def _ends_of_bad_words(self, admission: Admission, length: int) -> list[int]:
        """Return the tokens that would complete a bad word at the end of a row's output."""
        longest = max(map(len, admission.bad_word_ids)) - 1
        first = max(length - longest, admission.prompt_len)
        end = self.token_ids[admission.row, first:length].tolist()
        return sorted(
            {ids[-1] for ids in admission.bad_word_ids if len(ids) - 1 <= len(end) and _ends_with(end, ids[:-1])}
        )

    def _allowed(self, rows: list[int]) -> list[tuple[int, list[int]]]:
        if not self._rows_with_allowed:
            return []
        return [
            (i, self._admitted(row).sampling_params.allowed_token_ids or [])
            for i, row in enumerate(rows)
            if row in self._rows_with_allowed
        ]

    def _num_logprobs(self, rows: list[int]) -> list[int | None] | None:
        if self._rows_with_logprobs.isdisjoint(rows):
            return None
        return [self._admitted(row).sampling_params.logprobs for row in rows]

    def sampling_params_of(self, row: int) -> SamplingParams:
        """Return the parameters of the request that has a row."""
        return self._admitted(row).sampling_params

    def _admitted(self, row: int) -> Admission:
        admission = self._admissions[row]
        if admission is None:
            raise AssertionError(f"row {row} was never filled")
        return admission


def _ends_with(tokens: list[int], end: list[int]) -> bool:
    return tokens[len(tokens) - len(end) :] == end
