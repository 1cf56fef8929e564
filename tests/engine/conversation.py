"""An output processor with a clock that a test sets, and no engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import generate_latest

from octavo import RequestOutput, SamplingParams
from octavo.engine.messages import SequenceUpdate
from octavo.engine.output_processor import OutputProcessor, ProcessedUpdates
from octavo.engine.request_builder import RequestBuilder
from octavo.observe.metrics import EngineMetrics
from octavo.text import Tokenizer


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Conversation:
    """One processor and a tokenizer; requests are named, and an update says what one sequence got."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.clock = Clock()
        self.metrics = EngineMetrics("m")
        self.processor = OutputProcessor(tokenizer, metrics=self.metrics, clock=self.clock)
        self._builder = RequestBuilder(tokenizer, vocab_size=320, max_model_len=1000, seed=0)

    def add(self, request_id: str, **params: Any) -> list[str]:
        """Add a request; returns the engine's ids of its sequences."""
        built = self._builder.build([1, 2, 3], SamplingParams(**params), request_id)
        self.processor.add(built)
        return [sequence.request_id for sequence in built.sequences]

    def ids(self, text: str) -> list[int]:
        return [token for char in text for token in self.tokenizer.encode(char)]

    def step(self, *updates: SequenceUpdate) -> ProcessedUpdates:
        return self.processor.process(updates)

    def push(self, engine_id: str, token_ids: Sequence[int], **fields: Any) -> RequestOutput | None:
        """Process one update of one request; returns its output, if it has one."""
        outputs = self.step(SequenceUpdate(engine_id, list(token_ids), **fields)).outputs
        assert len(outputs) <= 1
        return outputs[0] if outputs else None

    def run(self, engine_id: str, token_ids: Iterable[int], end: str = "length", **fields: Any) -> list[RequestOutput]:
        """Process tokens one at a time, the last with a finish reason; stops where a stop string ends the request."""
        token_ids = list(token_ids)
        outputs = []
        for number, token_id in enumerate(token_ids, start=1):
            last = {"finish_reason": end, **fields} if number == len(token_ids) else {}
            output = self.push(engine_id, [token_id], **last)
            outputs += [output] if output is not None else []
            if output is not None and output.finished:
                break
        return outputs

    def metric(self, name: str) -> float:
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        (value,) = [
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(f"octavo_{name}") and line[len(f"octavo_{name}")] in "{,"
        ]
        return value
