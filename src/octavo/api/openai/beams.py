"""Beam searches behind one HTTP request: one for each prompt, on top of the engine's ordinary requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo.api.openai.service import ModelService, UsageMeter
from octavo.api.request_history import RequestStory
from octavo.engine.beam_search import Beam, BeamSearch, BeamSearchParams, likely_tokens
from octavo.engine.outputs import CompletionOutput, Logprob, RequestOutput
from octavo.errors import EngineDeadError, RequestError
from octavo.observe.request_timing import RequestTiming


@dataclass
class BeamGeneration:
    """The searches of one HTTP request; stands where a ``Generation`` stands for sampled answers.

    Attributes:
        story: where what happens is written down; the ids of the engine requests begin with its own.
        prompt_param: the request field that holds the prompts, for errors about them.
    """

    service: ModelService
    prompts: Sequence[str | list[int]]
    params: BeamSearchParams
    story: RequestStory
    prompt_param: str
    skip_special_tokens: bool = True
    priority: int = 0
    cache_salt: str = ""
    meter: UsageMeter = field(default_factory=UsageMeter)

    async def final(self) -> list[RequestOutput]:
        """Return the best sequences of each prompt, best first.

        Raises:
            RequestError: a prompt is refused; ``param`` names the field.
            QueueFullError: the engine takes no more requests.
            EngineDeadError: the engine ended, or the server stopped before the answer was complete.
        """
        timings = self.story.begin(len(self.prompts))
        self.service.history.add(self.story)
        try:
            searches = zip(range(len(self.prompts)), self.prompts, timings, strict=True)
            outputs = [await self._search(*search) for search in searches]
        except RequestError as error:
            if error.param in (None, "prompt", "prompt_token_ids"):
                error.param = self.prompt_param
            raise
        finally:
            self.service.history.end(self.story)
        for index, output in enumerate(outputs):
            self.meter.add(index, output)
        return outputs

    async def _search(self, index: int, prompt: str | list[int], timing: RequestTiming) -> RequestOutput:
        tokenizer = self.service.llm.tokenizer
        token_ids = await self.service.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else prompt
        # A prompt without room behind it is refused by the engine, with the first step.
        room = max(self.service.llm.max_model_len - len(token_ids), 1)
        search = BeamSearch(self.params, tokenizer.eos_token_ids, room)
        timing.num_prompt_tokens, timing.n = len(token_ids), self.params.beam_width
        timing.first_scheduled_at = time.monotonic()
        num_steps = 0
        while not search.is_done:
            steps = [
                self._next_tokens([*token_ids, *beam.token_ids], search, f"{self.story.id}-{index}-{num_steps}-{place}")
                for place, beam in enumerate(search.beams)
            ]
            search.extend(await asyncio.gather(*steps))
            timing.last_token_at = time.monotonic()
            timing.first_token_at = timing.first_token_at or timing.last_token_at
            num_steps += 1
        best = search.best()
        timing.num_output_tokens = sum(len(beam.token_ids) for beam in best)
        timing.max_tokens, timing.finish_reason, timing.finished_at = num_steps, best[0].finish_reason, time.monotonic()
        return RequestOutput(
            request_id=f"{self.story.id}-{index}",
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_token_ids=token_ids,
            outputs=[self._output(place, beam) for place, beam in enumerate(best)],
            finished=True,
            timing=timing,
        )

    async def _next_tokens(self, token_ids: list[int], search: BeamSearch, request_id: str) -> dict[int, Logprob]:
        outputs = self.service.llm.generate(
            {"prompt_token_ids": token_ids},
            search.step_params,
            request_id,
            priority=self.priority,
            cache_salt=self.cache_salt,
            lora_request=self.service.adapter(self.story.model),
        )
        async for output in outputs:
            if output.outputs[0].finish_reason != "abort":
                return dict(likely_tokens(output))
        raise EngineDeadError("The server is shutting down; the answer is not complete.")

    def _output(self, index: int, beam: Beam) -> CompletionOutput:
        visible = beam.token_ids[:-1] if beam.has_ended else beam.token_ids
        return CompletionOutput(
            index=index,
            text=self.service.llm.tokenizer.decode(visible, skip_special_tokens=self.skip_special_tokens),
            token_ids=list(beam.token_ids),
            cumulative_logprob=beam.logprob,
            finish_reason=beam.finish_reason,
        )
