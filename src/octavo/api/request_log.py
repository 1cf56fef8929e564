"""The log of requests: one line when an engine request comes in and one when it ends, if the settings ask for them.

Lengths, parameters and times only; words of prompts and outputs as far as ``max_log_len`` allows, which is not at all
by default.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from octavo.api.generation_record import GenerationRecord
    from octavo.config import ServerConfig
    from octavo.engine.sampling_params import SamplingParams
    from octavo.text import Tokenizer

logger = logging.getLogger("octavo.api.requests")

_SHOWN_TIMES = ("queue", "ttft", "e2e")


class RequestLog:
    """Writes what ``enable_log_requests``, ``enable_log_outputs`` and ``max_log_len`` ask for."""

    def __init__(self, config: ServerConfig, tokenizer: Tokenizer) -> None:
        self._logs_requests = config.enable_log_requests
        self._logs_outputs = config.enable_log_outputs
        self._num_chars = config.max_log_len or 0
        self._tokenizer = tokenizer

    @property
    def num_kept_chars(self) -> int:
        """Characters of each output that records must keep for this log."""
        return self._num_chars if self._logs_outputs else 0

    def log_start(self, record: GenerationRecord) -> None:
        """Log a request that has just come in."""
        if not self._logs_requests:
            return
        length, unit = record.prompt_length()
        params = _as_dict(record.params)
        fields: dict[str, object] = {"engine_request_id": record.request_id, f"num_prompt_{unit}": length}
        fields["sampling_params"] = params
        message = f"received {record.request_id}: prompt of {length} {unit}, parameters {params}"
        if self._num_chars:
            fields["prompt"] = excerpt = record.prompt_text(self._tokenizer, self._num_chars)
            message += f", prompt {excerpt!r}"
        logger.info("%s", message, extra={"fields": fields})

    def log_end(self, record: GenerationRecord) -> None:
        """Log a request that has ended in any way."""
        if not self._logs_outputs:
            return
        timing = record.timing
        end = "failed" if record.error is not None else "/".join(record.ends) or "abort"
        fields: dict[str, object] = {
            "engine_request_id": record.request_id,
            "finish_reasons": record.ends,
            "num_prompt_tokens": timing.num_prompt_tokens,
            "num_output_tokens": timing.num_output_tokens,
        }
        message = f"finished {record.request_id}: {end}, {timing.num_output_tokens} output tokens"
        for name in _SHOWN_TIMES:
            seconds: float | None = getattr(timing, f"{name}_s")
            if seconds is not None:
                fields[f"{name}_s"] = round(seconds, 6)
                message += f", {name} {seconds:.3f} s"
        if self._num_chars:
            fields["outputs"] = texts = [text[: self._num_chars] for _, text in sorted(record.texts.items())]
            message += f", outputs {texts!r}"
        logger.info("%s", message, extra={"fields": fields})


def _as_dict(params: SamplingParams) -> dict[str, object]:
    members: dict[str, object] = msgspec.to_builtins(params)
    members.pop("output_kind", None)  # how the server reads the answer, not how it is sampled
    return members
