"""Where the outputs of one request wait for their reader. Holds one output at most: newer ones are merged into it."""

from __future__ import annotations

import asyncio

from octavo.engine.outputs import CompletionOutput, RequestOutput


class OutputMailbox:
    """A slow reader finds everything since it last looked in one output, so memory stays bounded."""

    def __init__(self) -> None:
        self._output: RequestOutput | None = None
        self._error: Exception | None = None
        self._arrived = asyncio.Event()

    def put(self, output: RequestOutput) -> None:
        """Add an output; a delta is appended to a delta that was not read yet, everything else replaces it."""
        self._output = output if self._output is None else _merge(self._output, output)
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Make the reader raise ``error`` once it has read what is here."""
        self._error = error
        self._arrived.set()

    async def get(self) -> RequestOutput:
        """Wait for an output and take it."""
        while self._output is None:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()
        output, self._output = self._output, None
        return output


def _merge(first: RequestOutput, second: RequestOutput) -> RequestOutput:
    outputs = {output.index: output for output in first.outputs}
    for new in second.outputs:
        old = outputs.get(new.index)
        outputs[new.index] = new if old is None or not second.is_delta else _append(old, new)
    second.outputs = [outputs[index] for index in sorted(outputs)]
    return second


def _append(old: CompletionOutput, new: CompletionOutput) -> CompletionOutput:
    if old.logprobs is not None and new.logprobs is not None:
        old.logprobs += new.logprobs
    old.text += new.text
    old.token_ids += new.token_ids
    old.cumulative_logprob = new.cumulative_logprob
    old.finish_reason = new.finish_reason
    old.stop_reason = new.stop_reason
    return old
