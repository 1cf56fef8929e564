"""From the engine's tokens to what a user sees: text, stop strings, log-probabilities, finish reasons, timings.

Keeps the state of each unfinished request on the client's side of the engine. No torch, no sockets, no asyncio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from octavo.engine.outputs import CompletionOutput, FinishReason, Logprob, RequestOutput
from octavo.engine.sampling_params import RequestOutputKind
from octavo.text import TextStream

if TYPE_CHECKING:
    from octavo.engine.messages import SequenceUpdate, TokenLogprobs
    from octavo.engine.request_builder import BuiltRequest
    from octavo.observe.metrics import EngineMetrics
    from octavo.text import Tokenizer


@dataclass(slots=True)
class ProcessedUpdates:
    """What a step's updates come to.

    Attributes:
        outputs: one output a request that has something to say.
        aborts: engine requests to drop, because a stop string ended them.
    """

    outputs: list[RequestOutput] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)


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
        self.last_token_at: float | None = None
        self.stream = TextStream(
            tokenizer,
            stop=params.stop_strings,
            include_stop_str_in_output=params.include_stop_str_in_output,
            skip_special_tokens=params.skip_special_tokens,
            min_tokens=params.min_tokens,
        )
        with_logprobs = params.logprobs is not None
        self.output = CompletionOutput(
            index=index,
            text="",
            token_ids=[],
            cumulative_logprob=0.0 if with_logprobs else None,
            logprobs=[] if with_logprobs else None,
        )

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

    def __init__(self, built: BuiltRequest, tokenizer: Tokenizer, arrived_at: float) -> None:
        self.built = built
        self.arrived_at = arrived_at
        self.num_cached_tokens = 0
        self.has_first_token = False
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

    def add(self, built: BuiltRequest) -> None:
        """Remember a request that is about to be sent to the engine; its id must not be in use."""
        if built.request_id in self._requests:
            raise ValueError(f"request id {built.request_id!r} is in use")
        request = _Request(built, self._tokenizer, self._clock())
        self._requests[built.request_id] = request
        self._sequences.update((sequence.engine_id, sequence) for sequence in request.sequences)

    def process(self, updates: Iterable[SequenceUpdate]) -> ProcessedUpdates:
        """Take in the updates of one step; those of requests that were aborted are ignored."""
        now = self._clock()
        processed = ProcessedUpdates()
        changed: dict[str, list[_Sequence]] = {}
        for update in updates:
            sequence = self._sequences.get(update.request_id)
            if sequence is None:
                continue
            self._observe_tokens(sequence, update, now)
            self._extend(sequence, update)
            if sequence.is_finished:
                del self._sequences[sequence.engine_id]
                if update.finish_reason is None:
                    processed.aborts.append(sequence.engine_id)
            changed.setdefault(sequence.request.built.request_id, []).append(sequence)
        for request_id, sequences in changed.items():
            request = self._requests[request_id]
            if request.is_finished:
                self._end(request, now)
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
        self._end(request, self._clock())
        return DroppedRequest(
            engine_ids=[sequence.engine_id for sequence in unfinished],
            output=_request_output(request, unfinished),
        )

    def request_ids(self) -> list[str]:
        """Return the ids of the unfinished requests."""
        return list(self._requests)

    def _extend(self, sequence: _Sequence, update: SequenceUpdate) -> None:
        output = sequence.output
        request = sequence.request
        request.num_cached_tokens = max(request.num_cached_tokens, update.num_cached_tokens)
        hides_last = update.finish_reason == "stop" and not request.built.params.include_stop_str_in_output
        visible = update.token_ids[:-1] if hides_last else update.token_ids
        delta = sequence.stream.push(visible, finished=update.finish_reason is not None)
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

    def _observe_tokens(self, sequence: _Sequence, update: SequenceUpdate, now: float) -> None:
        if self._metrics is not None and update.token_ids:
            request = sequence.request
            if not request.has_first_token:
                request.has_first_token = True
                self._metrics.observe_first_token(len(request.built.prompt_token_ids), now - request.arrived_at)
            if sequence.last_token_at is not None:
                self._metrics.inter_token_latency.observe(now - sequence.last_token_at)
            self._metrics.generation_tokens.inc(len(update.token_ids))
        sequence.last_token_at = now

    def _end(self, request: _Request, now: float) -> None:
        del self._requests[request.built.request_id]
        if self._metrics is not None:
            for sequence in request.sequences:
                self._metrics.observe_end(sequence.output.finish_reason or "abort")
            self._metrics.e2e_latency.observe(now - request.arrived_at)


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
    )
