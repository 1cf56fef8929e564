"""What passes between the scheduler and the runner: a plan of one step, and what came of it. No tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.engine.messages import StepEvents, TokenLogprobs
    from octavo.engine.request import Request
    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.structured.state import GrammarState


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that takes a row of the runner's buffers, new or resumed.

    Attributes:
        token_ids: all tokens known so far.
        prompt_len: how many of them are prompt.
        block_ids: blocks that already hold a cached prefix.
        stop_token_ids: tokens that must not be sampled before ``min_tokens`` output tokens.
        bad_word_ids: sequences of tokens that must not be sampled.
        lora_id: number of the LoRA adapter; 0 is none.
    """

    row: int
    token_ids: list[int]
    prompt_len: int
    block_ids: list[int]
    sampling_params: SamplingParams
    seed: int
    stop_token_ids: frozenset[int]
    bad_word_ids: list[list[int]] = field(default_factory=list)
    lora_id: int = 0


@dataclass(slots=True)
class StepPlan:
    """One step: sequences ``i`` of the batch computes ``counts[i]`` tokens from position ``starts[i]`` on.

    Attributes:
        admissions: rows to fill before the step.
        new_blocks: ``(row, index, block ids)`` to write into block tables from ``index`` on.
        forced_tokens: ``(row, index, token ids)`` to write behind the tokens of rows, which no step has sampled.
        rows, starts, counts: parallel lists, one entry a sequence.
        samples: the sequences of the batch (indexes into ``rows``) whose last token is followed by a sampled one.
        sampled_requests: the requests behind ``samples``, for the scheduler alone.
        drafts: of some samples (indexes into ``samples``), the tokens that are guessed to follow the known ones. They
            are among the tokens that the sequence computes, and behind each of them a token is sampled as well.
        grammars: ``(index into samples, state)`` of the samples that a grammar restricts.
        prompt_scores: the sequences of the batch (indexes into ``rows``) whose prompt tokens are to be scored.
        scored_requests: the requests behind ``prompt_scores``, for the scheduler alone.
        events: admissions, chunks of prefills and preemptions, for those who watch; None if there were none.
    """

    admissions: list[Admission] = field(default_factory=list)
    new_blocks: list[tuple[int, int, list[int]]] = field(default_factory=list)
    forced_tokens: list[tuple[int, int, list[int]]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    sampled_requests: list[Request] = field(default_factory=list)
    drafts: dict[int, list[int]] = field(default_factory=dict)
    grammars: list[tuple[int, GrammarState]] = field(default_factory=list)
    prompt_scores: list[int] = field(default_factory=list)
    scored_requests: list[Request] = field(default_factory=list)
    events: StepEvents | None = None

    @property
    def grammar_rows(self) -> list[tuple[int, GrammarState]]:
        """As ``grammars``, with indexes into the sampled tokens, of which a draft has several."""
        if not self.drafts:
            return self.grammars
        num_drafted = list(accumulate((len(self.drafts.get(i, ())) for i in range(len(self.samples))), initial=0))
        return [(sample + num_drafted[sample], state) for sample, state in self.grammars]


@dataclass(frozen=True, slots=True)
class StepResult:
    """Sampled tokens, one for each entry of the plan's ``samples``, and one more for each token of its draft.

    Attributes:
        logprobs: None if no request asked for any, else one entry a token (None for those that did not ask).
        prompt_logprobs: for each entry of the plan's ``prompt_scores``, those of the known tokens that follow the
            computed ones.
    """

    token_ids: list[int]
    logprobs: list[TokenLogprobs | None] | None = None
    prompt_logprobs: list[list[TokenLogprobs]] = field(default_factory=list)
