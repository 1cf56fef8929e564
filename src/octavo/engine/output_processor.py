"""From the engine's tokens to what a user sees: text, stop strings, log-probabilities, finish reasons, timings.

Keeps the state of each unfinished request on the client's side of the engine. No torch, no sockets, no asyncio.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from octavo.engine.outputs import CompletionOutput, FinishReason, Logprob, RequestOutput
from octavo.engine.sampling_params import RequestOutputKind
from octavo.observe.request_timing import EventKind, RequestTiming, SequenceEvent
from octavo.text import TextDelta, TextStream

if TYPE_CHECKING:
    from octavo.engine.messages import SequenceUpdate, StepEvents, TokenLogprobs
    from octavo.engine.request_builder import BuiltRequest
    from octavo.observe.metrics import EngineMetrics
    from octavo.text import Tokenizer


@dataclass(slots=True)
class ProcessedUpdates:
    """What a step's updates come to.

    Attributes:
        outputs: one output a request that has something to say.
        aborts: engine requests to drop, because a stop string ended them or their request failed.
        failures: ``(request id, why)`` of requests that ended with an error; they are forgotten.
    """

    outputs: list[RequestOutput] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DroppedRequest:
    """A request that was aborted.

    Attributes:
        engine_ids: its engine requests that had not finished.
        output: its last output, with the finish reason ``abort``.
    """

    engine_ids: list[str]
    output: RequestOutput


class _Sequence:
    """One sequence of a request: its text so far and what has not been given out yet."""

    def __init__(self, engine_id: str, index: int, request: _Request, tokenizer: Tokenizer) -> None:
        params = request.built.params
        self.engine_id = engine_id
        self.request = request
        self.is_finished = False
        self.was_scheduled = False
        self.num_tokens = 0
        self.last_token_at: float | None = None
        self.stream = TextStream(
            tokenizer,
            stop=params.stop_strings,
            include_stop_str_in_output=params.include_stop_str_in_output,
            skip_special_tokens=params.skip_special_tokens,
            min_tokens=params.min_tokens,
        )
        self.has_text = params.detokenize
        with_logprobs = params.logprobs is not None
        self.output = CompletionOutput(
            index=index,
            text="",
            token_ids=[],
            cumulative_logprob=0.0 if with_logprobs else None,
            logprobs=[] if with_logprobs else None,
        )

    def push(self, token_ids: list[int], *, finished: bool) -> TextDelta:
        """Take the next visible tokens and return what they add to the text."""
        if not self.has_text:
            return TextDelta("", None, len(token_ids))
        return self.stream.push(token_ids, finished=finished)

    def take_output(self, kind: RequestOutputKind) -> CompletionOutput:
        """Return the output for the user: a copy of everything so far, or what is new and then forgotten."""
        output = self.output
        if kind is RequestOutputKind.DELTA:
            self.output = CompletionOutput(
                index=output.index,
                text="",
                token_ids=[],
                cumulative_logprob=output.cumulative_logprob,
                logprobs=None if output.logprobs is None else [],
                finish_reason=output.finish_reason,
                stop_reason=output.stop_reason,
            )
            return output
        return CompletionOutput(
            index=output.index,
            text=output.text,
            token_ids=list(output.token_ids),
            cumulative_logprob=output.cumulative_logprob,
            logprobs=None if output.logprobs is None else list(output.logprobs),
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
        )


class _Request:
    """One request with its ``n`` sequences."""

    def __init__(self, built: BuiltRequest, tokenizer: Tokenizer, timing: RequestTiming) -> None:
        self.built = built
        self.timing = timing
        self.num_cached_tokens = 0
        self.prompt_logprobs: list[dict[int, Logprob] | None] | None = None
        timing.num_prompt_tokens = len(built.prompt_token_ids)
        timing.n = len(built.sequences)
        timing.max_tokens = built.sequences[0].max_tokens
        self.sequences = [
            _Sequence(sequence.request_id, index, self, tokenizer) for index, sequence in enumerate(built.sequences)
        ]

    @property
    def is_finished(self) -> bool:
        return all(sequence.is_finished for sequence in self.sequences)


class OutputProcessor:
    """Turns sequence updates into request outputs.

    Args:
        metrics: told about tokens, latencies and ends of requests, if given.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        metrics: EngineMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokenizer = tokenizer
        self._metrics = metrics
        self._clock = clock
        self._requests: dict[str, _Request] = {}
        self._sequences: dict[str, _Sequence] = {}

    @property
    def num_unfinished(self) -> int:
        """Sequences that have not finished."""
        return len(self._sequences)

    def add(self, built: BuiltRequest, timing: RequestTiming | None = None) -> None:
        """Remember a request that is about to be sent to the engine; its id must not be in use.

        Args:
            timing: filled while the request advances; made here if whoever took the request in has made none.
        """
        if built.request_id in self._requests:
            raise ValueError(f"request id {built.request_id!r} is in use")
        request = _Request(built, self._tokenizer, timing or RequestTiming(self._clock(), time.time()))
        self._requests[built.request_id] = request
        self._sequences.update((sequence.engine_id, sequence) for sequence in request.sequences)

    def process(
        self, updates: Iterable[SequenceUpdate], events: StepEvents | None = None, *, started_at: float = 0.0
    ) -> ProcessedUpdates:
        """Take in what one step did; what it did to requests that were aborted is ignored.

        Args:
            started_at: when the step began, for its events.
        """
        now = self._clock()
        if events is not None:
            self._note_events(events, started_at)
        processed = ProcessedUpdates()
        num_by_last_token: defaultdict[float, int] = defaultdict(int)
        num_tokens = 0
        changed: dict[str, list[_Sequence]] = {}
        for update in updates:
            sequence = self._sequences.get(update.request_id)
            if sequence is None:
                continue
            if update.finish_reason == "error":
                self._fail(sequence.request, update, processed)
                continue
            if update.token_ids:
                if sequence.last_token_at is not None:
                    num_by_last_token[sequence.last_token_at] += 1
                num_tokens += len(update.token_ids)
                self._note_tokens(sequence, len(update.token_ids), now)
            self._extend(sequence, update)
            if sequence.is_finished:
                del self._sequences[sequence.engine_id]
                if update.finish_reason is None:
                    processed.aborts.append(sequence.engine_id)
            changed.setdefault(sequence.request.built.request_id, []).append(sequence)
        if self._metrics is not None:
            self._metrics.num_generation_tokens += num_tokens
            for last_token_at, times in num_by_last_token.items():
                self._metrics.inter_token_latency.observe(now - last_token_at, times)
        for request_id, sequences in changed.items():
            request = self._requests.get(request_id)
            if request is None:
                continue  # another of its sequences failed in this step
            if request.is_finished:
                self._end(request, now, sequences[-1].output.finish_reason)
            elif request.built.params.output_kind is RequestOutputKind.FINAL_ONLY:
                continue
            processed.outputs.append(_request_output(request, sequences))
        return processed

    def abort(self, request_id: str) -> DroppedRequest | None:
        """Forget a request; None if it is not known, since it has just finished."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        unfinished = [sequence for sequence in request.sequences if not sequence.is_finished]
        for sequence in unfinished:
            sequence.is_finished = True
            sequence.output.finish_reason = "abort"
            del self._sequences[sequence.engine_id]
        self._end(request, self._clock(), "abort")
        return DroppedRequest(
            engine_ids=[sequence.engine_id for sequence in unfinished],
            output=_request_output(request, unfinished),
        )

    def request_ids(self) -> list[str]:
        """Return the ids of the unfinished requests."""
        return list(self._requests)

    def _fail(self, request: _Request, update: SequenceUpdate, processed: ProcessedUpdates) -> None:
        """Forget a request of which one sequence cannot go on."""
        dropped = self.abort(request.built.request_id)
        if dropped is not None:
            processed.aborts += [engine_id for engine_id in dropped.engine_ids if engine_id != update.request_id]
            processed.failures.append((request.built.request_id, update.error))

    def _extend(self, sequence: _Sequence, update: SequenceUpdate) -> None:
        output = sequence.output
        request = sequence.request
        request.num_cached_tokens = max(request.num_cached_tokens, update.num_cached_tokens)
        if update.prompt_logprobs is not None:
            request.prompt_logprobs = [None, *map(self._logprobs, update.prompt_logprobs)]
        hides_last = update.finish_reason == "stop" and not request.built.params.include_stop_str_in_output
        visible = update.token_ids[:-1] if hides_last else update.token_ids
        delta = sequence.push(visible, finished=update.finish_reason is not None)
        num_used = len(update.token_ids) if delta.stop_string is None else delta.num_tokens_used
        output.text += delta.text
        output.token_ids += update.token_ids[:num_used]
        if update.logprobs is not None and output.logprobs is not None:
            for position in update.logprobs[:num_used]:
                output.logprobs.append(self._logprobs(position))
                output.cumulative_logprob = (output.cumulative_logprob or 0.0) + position.logprobs[0]
        if delta.stop_string is not None:
            output.finish_reason, output.stop_reason = "stop", delta.stop_string
        elif update.finish_reason is not None:
            output.finish_reason = cast(FinishReason, update.finish_reason)
            output.stop_reason = update.stop_token_id
        sequence.is_finished = output.finish_reason is not None

    def _logprobs(self, position: TokenLogprobs) -> dict[int, Logprob]:
        sampled, *top = zip(position.token_ids, position.logprobs, strict=True)
        result = {sampled[0]: Logprob(sampled[1], position.rank, self._tokenizer.token_text(sampled[0]))}
        for rank, (token_id, logprob) in enumerate(top, start=1):
            if token_id not in result:
                result[token_id] = Logprob(logprob, rank, self._tokenizer.token_text(token_id))
        return result

    def _note_tokens(self, sequence: _Sequence, num_tokens: int, now: float) -> None:
        timing = sequence.request.timing
        sequence.last_token_at = timing.last_token_at = now
        sequence.num_tokens += num_tokens
        timing.num_output_tokens += num_tokens
        if timing.first_token_at is None:
            timing.first_token_at = now
            if self._metrics is not None:
                self._metrics.observe_first_token(timing)

    def _note_events(self, events: StepEvents, at: float) -> None:
        for engine_id in events.preempted:
            self._note_event(engine_id, "preempted", at)
        for engine_id, num_cached_tokens in events.admitted:
            self._note_event(engine_id, "scheduled", at, num_cached_tokens)
        for engine_id, num_tokens in events.chunks:
            self._note_event(engine_id, "prefill", at, num_tokens)

    def _note_event(self, engine_id: str, kind: EventKind, at: float, num_tokens: int = 0) -> None:
        sequence = self._sequences.get(engine_id)
        if sequence is None:
            return
        timing = sequence.request.timing
        if kind == "scheduled":
            kind = "resumed" if sequence.was_scheduled else "scheduled"
            sequence.was_scheduled = True
            if timing.first_scheduled_at is None:
                timing.first_scheduled_at = at
                timing.num_cached_tokens = num_tokens
        timing.events.append(SequenceEvent(at, kind, sequence.output.index, num_tokens))

    def _end(self, request: _Request, now: float, finish_reason: FinishReason | None) -> None:
        del self._requests[request.built.request_id]
        timing = request.timing
        timing.finished_at = now
        timing.finish_reason = finish_reason
        if self._metrics is not None:
            ends = [(sequence.output.finish_reason or "abort", sequence.num_tokens) for sequence in request.sequences]
            self._metrics.observe_end(timing, ends)


def _request_output(request: _Request, changed: list[_Sequence]) -> RequestOutput:
    kind = request.built.params.output_kind
    is_delta = kind is RequestOutputKind.DELTA
    return RequestOutput(
        request_id=request.built.request_id,
        prompt=request.built.prompt,
        prompt_token_ids=request.built.prompt_token_ids,
        outputs=[sequence.take_output(kind) for sequence in (changed if is_delta else request.sequences)],
        finished=request.is_finished,
        num_cached_tokens=request.num_cached_tokens,
        is_delta=is_delta,
        timing=request.timing if request.is_finished else None,
        prompt_logprobs=request.prompt_logprobs,
    )
