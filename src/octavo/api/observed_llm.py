"""An engine that writes down its requests one by one.

Every route that generates goes through ``generate``, so this is the one place that sees all requests.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from octavo.api.generation_record import GenerationRecord, current_generations
from octavo.api.request_log import RequestLog
from octavo.engine.async_llm import AsyncLLM
from octavo.engine.outputs import RequestOutput
from octavo.observe.request_timing import RequestTiming

if TYPE_CHECKING:
    from octavo.config import ServerConfig
    from octavo.engine.lora.request import LoRARequest
    from octavo.engine.request_builder import Prompt
    from octavo.engine.sampling_params import SamplingParams
    from octavo.observe.metrics import EngineMetrics
    from octavo.observe.request_timing import RequestTiming


class ObservedLLM(AsyncLLM):
    """An ``AsyncLLM`` that logs requests as the settings say, and adds a record of each to ``current_generations``.

    Args:
        num_traced_chars: characters of each output that records keep for traces.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        metrics: EngineMetrics | None = None,
        lora_modules: Iterable[tuple[str, str]] = (),
        num_traced_chars: int = 0,
    ) -> None:
        super().__init__(config, metrics=metrics, lora_modules=lora_modules)
        self._log = RequestLog(config, self.tokenizer)
        self._num_kept_chars = max(num_traced_chars, self._log.num_kept_chars)

    async def generate(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams,
        request_id: str,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timing: RequestTiming | None = None,
        lora_request: LoRARequest | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """Generate as ``AsyncLLM.generate`` does."""
        timing = timing or RequestTiming(time.monotonic(), time.time())
        record = GenerationRecord(request_id, prompt, sampling_params, timing, self._num_kept_chars)
        generations = current_generations.get()
        if generations is not None:
            generations.append(record)
        self._log.log_start(record)
        outputs = super().generate(
            prompt,
            sampling_params,
            request_id,
            priority=priority,
            cache_salt=cache_salt,
            timing=timing,
            lora_request=lora_request,
        )
        try:
            async with aclosing(cast(AsyncGenerator[RequestOutput, None], outputs)) as stream:
                async for output in stream:
                    record.add(output)
                    yield output
        except Exception as error:
            record.error = error
            raise
        finally:
            self._log.log_end(record)
