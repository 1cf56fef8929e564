"""Decides what each step computes. Knows requests and blocks, no tensors, no clock and no randomness.

There is one kind of step: every running request wants its ``num_computed_tokens`` to reach its ``num_tokens``, and the
step's token budget is handed out in order of rank (arrival, or priority and arrival). Requests that wait are admitted
with what is left. When blocks run out, the running request of the lowest rank is preempted: its blocks are taken and it
computes its tokens again later.

A plan may be made before the results of earlier plans are committed: tokens that are still being sampled count in
``num_tokens`` and are filled in by ``commit``, in the order of the plans.

Drafts of speculative decoding are tokens to compute like any others. ``commit`` takes what was sampled behind them as
long as it confirms them; the others become tokens that were never computed, and their slots are written again.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Literal

from octavo.engine.kv_cache import KVCacheManager
from octavo.engine.messages import EngineStats, SequenceUpdate, StepEvents
from octavo.engine.request import Request, RequestStatus
from octavo.engine.step import Admission, StepPlan, StepResult
from octavo.engine.waiting_queue import create_waiting_queue

if TYPE_CHECKING:
    from octavo.engine.speculation.speculator import Speculator
    from octavo.engine.structured.state import GrammarState


class Scheduler:
    """Continuous batching with chunked prefill over a paged KV cache.

    Args:
        kv_cache: must have room for one request of the greatest length that is ever added.
        max_num_seqs: rows of the runner's buffers.
        max_num_batched_tokens: budget of one step.
        max_loras: LoRA adapters whose requests may run at the same time.
        speculator: adds drafts to plans, if given. Requests are then not planned ahead.
    """

    def __init__(
        self,
        kv_cache: KVCacheManager,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        policy: Literal["fcfs", "priority"] = "fcfs",
        max_loras: int = 1,
        speculator: Speculator | None = None,
    ) -> None:
        self.kv_cache = kv_cache
        self.max_loras = max_loras
        self.max_num_batched_tokens = max_num_batched_tokens
        self.policy = policy
        self.speculator = speculator
        self.requests: dict[str, Request] = {}
        self.running: list[Request] = []
        self.waiting = create_waiting_queue(policy)
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._in_prefill: list[Request] = []  # running, with known tokens that no plan has computed
        self._forced: list[tuple[Request, int]] = []  # with tokens, from an index on, that no step has sampled
        self._num_preemptions = 0
        self._num_steps = 0

    @property
    def has_unfinished_requests(self) -> bool:
        """Whether a step may have something to do."""
        return bool(self.requests)

    def add(self, request: Request) -> None:
        """Queue a request; its id must not be in use."""
        if request.request_id in self.requests:
            raise ValueError(f"request id {request.request_id!r} is in use")
        self.requests[request.request_id] = request
        self.waiting.push(request)

    def abort(self, request_id: str) -> bool:
        """Drop a request and free its blocks at once. Returns whether there was one."""
        request = self.requests.get(request_id)
        if request is None:
            return False
        if request.status is RequestStatus.WAITING:
            self.waiting.remove(request)
        else:
            self.running.remove(request)
        self._finish(request)
        return True

    def schedule(self) -> StepPlan:
        """Plan one step; a plan without rows means that there is nothing to compute now."""
        plan = StepPlan()
        forced, self._forced = self._forced, []
        in_prefill = [(request, request.num_computed_tokens) for request in self._in_prefill]
        budget, preempted = self._schedule_running(plan, self.max_num_batched_tokens)
        admitted = [] if preempted else self._admit_waiting(plan, budget)
        # What was preempted meanwhile takes its tokens along when it is admitted again.
        plan.forced_tokens = [(r.row, start, r.token_ids[start:]) for r, start in forced if r.row >= 0]
        if in_prefill or admitted or preempted:
            plan.events = self._events(in_prefill, admitted, preempted)
        if self.speculator is not None and not preempted:
            self.speculator.extend(plan, self.kv_cache, self.max_num_batched_tokens - sum(plan.counts))
        self._num_steps += bool(plan.rows)
        return plan

    def commit(self, plan: StepPlan, result: StepResult) -> list[SequenceUpdate]:
        """Append what a step sampled, end the requests that are done, and say what happened to each."""
        for index, request, scores in zip(
            plan.prompt_scores, plan.scored_requests, result.prompt_logprobs, strict=True
        ):  # computed again after a preemption, the first of them are known
            request.prompt_logprobs += scores[len(request.prompt_logprobs) - plan.starts[index] :]
        updates: list[SequenceUpdate] = []
        any_finished = False
        all_logprobs = result.logprobs
        num_drafted = 0
        for sample, request in enumerate(plan.sampled_requests):
            index = sample + num_drafted
            draft = plan.drafts.get(sample)
            num_drafted += len(draft) if draft else 0
            if request.status is RequestStatus.FINISHED:
                continue
            token_id = result.token_ids[index]
            request.token_ids.append(token_id)
            update = SequenceUpdate(request.request_id, [token_id])
            if len(request.token_ids) == request.prompt_len + 1:
                update.num_cached_tokens = request.num_cached_tokens
                if request.sampling_params.prompt_logprobs is not None:
                    update.prompt_logprobs = request.prompt_logprobs
            self._check_end(request, update)
            if draft:
                self._follow_draft(request, draft, result.token_ids[index : index + len(draft) + 1], update)
            if all_logprobs is not None and all_logprobs[index] is not None:
                update.logprobs = [
                    logprobs for logprobs in all_logprobs[index : index + len(update.token_ids)] if logprobs is not None
                ]
            grammar = request.grammar
            if grammar is not None and (update.finish_reason is None or grammar.error):
                self._follow_grammar(request, grammar, update)
            if update.finish_reason is not None:
                any_finished = True
                if request.status is RequestStatus.WAITING:  # preempted while its last token was in flight
                    self.waiting.remove(request)
                self._finish(request)
            updates.append(update)
        if any_finished:
            self.running = [request for request in self.running if request.status is RequestStatus.RUNNING]
        return updates

    def stats(self) -> EngineStats:
        """Return the counts that monitoring shows."""
        pool = self.kv_cache.pool
        stats = EngineStats(
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            num_used_blocks=pool.num_used,
            num_blocks=pool.num_blocks,
            total_prefix_queries=self.kv_cache.num_queried_tokens,
            total_prefix_hits=self.kv_cache.num_hit_tokens,
            total_preemptions=self._num_preemptions,
            total_steps=self._num_steps,
        )
        if self.speculator is not None:
            self.speculator.counts.tell(stats)
        return stats

    def _schedule_running(self, plan: StepPlan, budget: int) -> tuple[int, list[Request]]:
        """Hand out the budget to running requests. Returns what is left, and those that were preempted."""
        running = self.running
        block_size = self.kv_cache.block_size
        preempted: list[Request] = []
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            index += 1
            start = request.num_computed_tokens
            count = request.num_tokens - start
            if count <= 0 or request.num_tokens >= request.max_num_tokens:
                continue  # everything is computed, or its last token is being sampled
            if request.num_tokens > len(request.token_ids) and (
                request.grammar is not None or self.speculator is not None
            ):
                continue  # what its grammar allows or a draft could be depends on the token that is being sampled
            if count > budget:
                count = budget
            if start + count > len(request.block_ids) * block_size:
                first_new = len(request.block_ids)
                new_blocks = self.kv_cache.extend(request, start + count)
                while new_blocks is None:
                    preempted.append(self._preempt_lowest())
                    if preempted[-1] is request:
                        return budget, preempted
                    new_blocks = self.kv_cache.extend(request, start + count)
                plan.new_blocks.append((request.row, first_new, new_blocks))
            self._plan_tokens(plan, request, start, count)
            budget -= count
        return budget, preempted

    def _admit_waiting(self, plan: StepPlan, budget: int) -> list[tuple[Request, int]]:
        """Let in waiting requests while there are rows, tokens and blocks for them.

        Returns:
            Those that were let in, each with the number of its tokens that the prefix cache held.
        """
        admitted: list[tuple[Request, int]] = []
        while budget > 0 and self._free_rows and len(self.waiting):
            request = self.waiting.peek()
            if len(request.token_ids) < request.num_tokens:
                break  # preempted while a token is being sampled, which it needs to go on
            if request.lora_id and not self._has_room_for_adapter(request.lora_id):
                break
            if not self.kv_cache.admit(request):
                break
            self.waiting.remove(request)
            request.row = self._free_rows.pop()
            request.status = RequestStatus.RUNNING
            insort(self.running, request, key=self._rank)
            cached_blocks = list(request.block_ids)
            start = request.num_computed_tokens
            count = min(request.num_tokens - start, budget)
            new_blocks = self.kv_cache.extend(request, start + count)
            if new_blocks is None:
                raise AssertionError("an admitted request has room for its known tokens")
            plan.admissions.append(
                Admission(
                    row=request.row,
                    token_ids=list(request.token_ids),
                    prompt_len=request.prompt_len,
                    block_ids=cached_blocks + new_blocks,
                    sampling_params=request.sampling_params,
                    seed=request.seed,
                    stop_token_ids=request.stop_token_ids,
                    bad_word_ids=request.bad_word_ids,
                    lora_id=request.lora_id,
                )
            )
            self._plan_tokens(plan, request, start, count)
            budget -= count
            admitted.append((request, start))
        return admitted

    def _has_room_for_adapter(self, lora_id: int) -> bool:
        running = {request.lora_id for request in self.running if request.lora_id}
        return lora_id in running or len(running) < self.max_loras

    def _plan_tokens(self, plan: StepPlan, request: Request, start: int, count: int) -> None:
        end = start + count
        if end == request.num_tokens:
            plan.samples.append(len(plan.rows))
            plan.sampled_requests.append(request)
            if request.grammar is not None:
                plan.grammars.append((len(plan.samples) - 1, request.grammar))
            request.num_tokens += 1
        if request.num_unscored_tokens and start < request.prompt_len - 1:
            plan.prompt_scores.append(len(plan.rows))
            plan.scored_requests.append(request)
        plan.rows.append(request.row)
        plan.starts.append(start)
        plan.counts.append(count)
        request.num_computed_tokens = end
        if end >= request.next_publication:
            self.kv_cache.publish(request)

    def _events(
        self, in_prefill: list[tuple[Request, int]], admitted: list[tuple[Request, int]], preempted: list[Request]
    ) -> StepEvents:
        """Say what a plan does besides decoding; pairs are a request and what of it was computed before this plan.

        Decoding requests are not looked at, so most steps cost nothing here.
        """
        events = StepEvents(
            admitted=[(request.request_id, num_cached) for request, num_cached in admitted],
            preempted=[request.request_id for request in preempted],
        )
        self._in_prefill = []
        for request, start in (*in_prefill, *admitted):
            if request.status is not RequestStatus.RUNNING:
                continue
            if request.num_computed_tokens > start:
                events.chunks.append((request.request_id, request.num_computed_tokens - start))
            if request.num_tokens == len(request.token_ids):  # else the plan samples what follows the last known token
                self._in_prefill.append(request)
        return events

    def _follow_grammar(self, request: Request, grammar: GrammarState, update: SequenceUpdate) -> None:
        """Tell a grammar of the token that was sampled, and append the tokens after which it leaves no choice.

        A request that wants log-probabilities has all of its tokens sampled.
        """
        start = len(request.token_ids)
        if grammar.accept(update.token_ids[0]) and request.sampling_params.logprobs is None:
            while update.finish_reason is None and (token_id := grammar.forced_token) is not None:
                grammar.accept(token_id)
                request.token_ids.append(token_id)
                update.token_ids.append(token_id)
                self._check_end(request, update)
        request.num_tokens += len(request.token_ids) - start
        if grammar.error:
            update.finish_reason, update.error = "error", grammar.error
        elif len(request.token_ids) > start:
            self._forced.append((request, start))

    def _follow_draft(self, request: Request, draft: list[int], sampled: list[int], update: SequenceUpdate) -> None:
        """Take what was sampled behind the tokens of a draft, as long as they are what was sampled.

        Args:
            sampled: what follows the known tokens (taken already), and what follows each token of the draft.
        """
        num_accepted = 0
        for guess, token_id, following in zip(draft, sampled[:-1], sampled[1:], strict=True):
            if guess != token_id:
                break
            num_accepted += 1
            if update.finish_reason is not None:
                break
            request.token_ids.append(following)
            update.token_ids.append(following)
            self._check_end(request, update)
        request.num_tokens = len(request.token_ids)
        request.num_computed_tokens = min(request.num_computed_tokens, request.num_tokens - 1)
        if self.speculator is not None:
            self.speculator.observe(request, len(draft), num_accepted)

    def _check_end(self, request: Request, update: SequenceUpdate) -> None:
        """End a sequence if its last token does."""
        token_id = request.token_ids[-1]
        if token_id in request.stop_token_ids and _may_end(request):
            update.finish_reason = "stop"
            if token_id in request.sampling_params.stop_token_ids:
                update.stop_token_id = token_id
        elif len(request.token_ids) >= request.max_num_tokens:
            update.finish_reason = "length"

    def _preempt_lowest(self) -> Request:
        """Take the blocks of the running request of the lowest rank and let it wait again."""
        request = self.running.pop()
        self._vacate(request)
        request.status = RequestStatus.WAITING
        request.num_computed_tokens = 0
        self._num_preemptions += 1
        self.waiting.push_back(request)
        return request

    def _finish(self, request: Request) -> None:
        if request.row >= 0:
            self._vacate(request)
        request.status = RequestStatus.FINISHED
        del self.requests[request.request_id]
        if self.speculator is not None:
            self.speculator.forget(request)

    def _vacate(self, request: Request) -> None:
        self.kv_cache.release(request)
        self._free_rows.append(request.row)
        request.row = -1

    def _rank(self, request: Request) -> tuple[int, int]:
        return (request.priority if self.policy == "priority" else 0, request.arrival)


def _may_end(request: Request) -> bool:
    """Return whether a stop token ends a request now: a complete grammar leaves nothing to wait for."""
    if request.num_output_tokens >= request.sampling_params.min_tokens:
        return True
    return request.grammar is not None and request.grammar.is_complete
