"""Log-probabilities of prompts: each token's, given those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from octavo.engine.sampler import gather_logprobs

if TYPE_CHECKING:
    from torch import Tensor

    from octavo.engine.batch_state import BatchState
    from octavo.engine.messages import TokenLogprobs
    from octavo.engine.step import StepPlan
    from octavo.models.layers.decoder import CausalLM

# Rows of logits at a time: a prompt has thousands of tokens, and a row a hundred thousand numbers.
_ROWS_AT_A_TIME = 64


def score_prompts(plan: StepPlan, hidden: Tensor, model: CausalLM, state: BatchState) -> list[list[TokenLogprobs]]:
    """Score the prompt tokens that follow the computed ones, for each of the plan's ``prompt_scores``.

    Args:
        hidden: ``[num_tokens, hidden_size]``, all of the step.
    """
    result = []
    for index in plan.prompt_scores:
        row, start, count = plan.rows[index], plan.starts[index], plan.counts[index]
        first = sum(plan.counts[:index])
        num_scored = min(start + count, int(state.prompt_lens[row]) - 1) - start
        following = state.token_ids[row, start + 1 : start + 1 + num_scored].long()
        num_top = state.sampling_params_of(row).prompt_logprobs
        result.append(_score(hidden[first : first + num_scored], following, num_top, model))
    return result


def _score(hidden: Tensor, token_ids: Tensor, num_top: int | None, model: CausalLM) -> list[TokenLogprobs]:
    scores: list[TokenLogprobs] = []
    for some, tokens in zip(torch.split(hidden, _ROWS_AT_A_TIME), torch.split(token_ids, _ROWS_AT_A_TIME), strict=True):
        found = gather_logprobs(model.compute_logits(some), tokens, [num_top or 0] * len(tokens))
        scores += [score for score in found if score is not None]
    return scores
