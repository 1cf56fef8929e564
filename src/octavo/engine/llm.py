"""The offline face of an engine, in this process: ``LLM(model=…).generate(prompts, params)``, as in vLLM."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, cast

from octavo.config import EngineConfig
from octavo.config.sources import make_engine_config
from octavo.engine.beam_search import (
    Beam,
    BeamSearch,
    BeamSearchOutput,
    BeamSearchParams,
    BeamSearchSequence,
    likely_tokens,
)
from octavo.engine.generation_config import GenerationDefaults
from octavo.engine.lora.request import LoRARequest
from octavo.engine.model_files import read_model_files
from octavo.engine.output_processor import OutputProcessor
from octavo.engine.outputs import RequestOutput
from octavo.engine.pooling.core import PoolingCore
from octavo.engine.pooling.offline import OfflinePooler
from octavo.engine.pooling.outputs import EmbeddingRequestOutput, PoolingRequestOutput, ScoringRequestOutput
from octavo.engine.pooling.params import PoolingParams
from octavo.engine.pooling.request_builder import PoolingPrompt, PoolingRequestBuilder
from octavo.engine.progress import GenerationProgress
from octavo.engine.request_builder import Prompt, RequestBuilder
from octavo.engine.sampling_params import RequestOutputKind, SamplingParams
from octavo.errors import RequestError
from octavo.models.config import ModelConfig
from octavo.text import ChatTemplate, load_chat_template

Messages = Sequence[Mapping[str, Any]]


class LLM:
    """A model and an engine in this process, for offline use.

    Args:
        model: local directory, hub name, or ``octavo-nano``, the model in the box.
        chat_template: file with a Jinja chat template, or the template itself; by default the model's own.
        config: every other setting of ``octavo.config.EngineConfig`` by its name: ``dtype``, ``max_model_len``,
            ``gpu_memory_utilization``, ``tensor_parallel_size``, ``enable_prefix_caching``,
            ``max_num_batched_tokens``, ….

    Raises:
        ConfigError: a setting is unknown, out of range or cannot be met.
        ModelError: the model is missing, broken or not supported.
    """

    def __init__(self, model: str | None = None, *, chat_template: str | None = None, **config: Any) -> None:
        if model is not None:
            config["model"] = model
        self.config: EngineConfig = make_engine_config(**config)
        files = read_model_files(self.config)
        from octavo.engine.any_core import build_any_engine  # loads torch: only once the settings are known to be right

        self._kind = files.kind
        self.max_model_len = files.max_model_len
        self._tokenizer = files.tokenizer
        self._defaults = GenerationDefaults.from_directory(files.directory)
        self._chat_template = files.tokenizer.chat_template
        if chat_template is not None:
            self._chat_template = files.tokenizer.make_chat_template(
                load_chat_template(chat_template), origin="chat_template"
            )
        self._core = build_any_engine(self.config, files.directory, files.kind, files.max_model_len).core
        self._pooler: OfflinePooler | None = None
        if isinstance(self._core, PoolingCore):
            pooling_builder = PoolingRequestBuilder(files.tokenizer, files.kind, max_model_len=files.max_model_len)
            self._pooler = OfflinePooler(self._core, pooling_builder)
        self._builder = RequestBuilder(
            files.tokenizer,
            vocab_size=files.model_config.vocab_size,
            max_model_len=files.max_model_len,
            seed=self.config.seed,
        )
        self._num_requests = 0

    def get_tokenizer(self) -> Any:
        """Return the model's tokenizer (``octavo.text.Tokenizer``)."""
        return self._tokenizer

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None = None,
    ) -> list[RequestOutput]:
        """Generate for one or many prompts, all in one batch.

        Args:
            prompts: texts, or ``{"prompt_token_ids": [...]}``; a single one counts as a list of one.
            sampling_params: one for all prompts, or one each; by default what the model's
                generation_config.json recommends.
            use_tqdm: show a progress bar with tokens a second.
            priority: one value for each prompt, lower is first; needs ``scheduling_policy="priority"``.
            lora_request: LoRA adapter of all prompts, or one (or None) each; needs ``enable_lora=True``. An adapter is
                loaded when it is first asked for.

        Returns:
            One output a prompt, in the order of the prompts.

        Raises:
            RequestError: a prompt or a parameter is wrong; then nothing has been computed.
            ModelError, ConfigError: an adapter cannot be loaded.
        """
        core = self._core
        if isinstance(core, PoolingCore):
            raise RequestError(f"{self.config.model} makes vectors or scores: use embed(), encode() or score()")
        prompt_list = _as_list(prompts)
        if sampling_params is None:
            sampling_params = self._defaults.sampling_params()
        params_list = _params_for_each(sampling_params, len(prompt_list))
        priorities = priority if priority is not None else [0] * len(prompt_list)
        if len(priorities) != len(prompt_list):
            raise RequestError(
                f"there are {len(prompt_list)} prompts but {len(priorities)} priorities", param="priority"
            )
        adapters = _adapter_for_each(lora_request, len(prompt_list))
        built = []
        for prompt, params, value, adapter in zip(prompt_list, params_list, priorities, adapters, strict=True):
            self._num_requests += 1
            request_id = str(self._num_requests)
            built.append(self._builder.build(prompt, params, request_id, priority=value, lora_request=adapter))
        for adapter in adapters:
            if adapter is not None:
                core.load_adapter(adapter)

        processor = OutputProcessor(self._tokenizer)
        for request in built:
            processor.add(request)
        finished: dict[str, RequestOutput] = {}
        try:
            for request in built:
                for sequence in request.sequences:
                    core.add(sequence)
            with GenerationProgress(len(built), enabled=use_tqdm) as progress:
                while processor.num_unfinished:
                    started_at = time.monotonic()
                    step = core.step()
                    processed = processor.process(step.updates, step.events, started_at=started_at)
                    core.abort(processed.aborts)
                    if processed.failures:
                        raise RequestError(processed.failures[0][1], param="structured_outputs")
                    finished.update((output.request_id, output) for output in processed.outputs if output.finished)
                    progress.update(len(finished), sum(len(update.token_ids) for update in step.updates))
        except BaseException:
            core.reset_prefix_cache()  # a step that was cut off has promised blocks that it never computed
            raise
        finally:  # also when interrupted: the engine must be empty for the next call
            core.abort(sequence.request_id for request in built for sequence in request.sequences)
        return [finished[request.request_id] for request in built]

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None = None,
    ) -> list[RequestOutput]:
        """Answer one or many conversations.

        Args:
            messages: a conversation (a list of ``{"role", "content"}``), or a list of conversations.
            tools: offered to the model through the chat template.
            chat_template_kwargs: further variables of the template.
            lora_request: as for ``generate``.

        Raises:
            RequestError: the model has no chat template, or it refuses the messages.
        """
        template = self._require_chat_template()
        reserved = {"messages", "tools", "add_generation_prompt", "continue_final_message"} & set(
            chat_template_kwargs or ()
        )
        if reserved:
            raise RequestError(
                f"chat_template_kwargs must not contain {sorted(reserved)}: they are arguments of chat() itself",
                param="chat_template_kwargs",
            )
        conversations = [messages] if not messages or isinstance(messages[0], Mapping) else messages
        prompts: list[Prompt] = []
        for conversation in cast("Sequence[Messages]", conversations):
            text = template.render(
                conversation,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **(chat_template_kwargs or {}),
            )
            token_ids = self._tokenizer.encode(text, add_special_tokens=False)
            prompts.append({"prompt": text, "prompt_token_ids": token_ids})
        return self.generate(prompts, sampling_params, use_tqdm=use_tqdm, lora_request=lora_request)

    def beam_search(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: BeamSearchParams,
        *,
        lora_request: LoRARequest | Sequence[LoRARequest | None] | None = None,
    ) -> list[BeamSearchOutput]:
        """Find the most likely continuations of one or many prompts.

        Args:
            lora_request: as for ``generate``.

        Returns:
            One output a prompt, in the order of the prompts, each with its best sequences, the best one first.

        Raises:
            RequestError: a prompt is wrong.
            ModelError, ConfigError: an adapter cannot be loaded.
        """
        token_ids = [self._builder.tokenize(prompt)[1] for prompt in _as_list(prompts)]
        eos_token_ids = self._tokenizer.eos_token_ids
        searches = [BeamSearch(params, eos_token_ids, self.max_model_len - len(prompt)) for prompt in token_ids]
        pairs = list(zip(token_ids, searches, strict=True))
        adapters = _adapter_for_each(lora_request, len(pairs))
        while active := [pair for pair in zip(pairs, adapters, strict=True) if not pair[0][1].is_done]:
            beams: list[Prompt] = [
                {"prompt_token_ids": [*prompt, *beam.token_ids]}
                for (prompt, search), _ in active
                for beam in search.beams
            ]
            adapter_of_beam = [adapter for (_, search), adapter in active for _ in search.beams]
            outputs = iter(self.generate(beams, searches[0].step_params, use_tqdm=False, lora_request=adapter_of_beam))
            for (_, search), _ in active:
                search.extend([likely_tokens(next(outputs)) for _ in search.beams])
        return [BeamSearchOutput([self._sequence(prompt, beam) for beam in search.best()]) for prompt, search in pairs]

    def _sequence(self, prompt: list[int], beam: Beam) -> BeamSearchSequence:
        tokens = [*prompt, *beam.token_ids]
        return BeamSearchSequence(tokens, self._tokenizer.decode(tokens), beam.logprob, beam.finish_reason)

    def embed(
        self,
        prompts: PoolingPrompt | Sequence[PoolingPrompt],
        *,
        pooling_params: PoolingParams | None = None,
        use_tqdm: bool = True,
    ) -> list[EmbeddingRequestOutput]:
        """Return the vector of each text.

        Args:
            prompts: texts, or ``{"prompt_token_ids": [...]}``; a single one counts as a list of one.

        Raises:
            RequestError: the model makes no vectors, or a prompt or a parameter is wrong; then nothing is computed.
        """
        return self._require_pooler().embed(prompts, pooling_params, use_tqdm=use_tqdm)

    def encode(
        self,
        prompts: PoolingPrompt | Sequence[PoolingPrompt],
        pooling_params: PoolingParams | None = None,
        *,
        use_tqdm: bool = True,
    ) -> list[PoolingRequestOutput]:
        """Return what the model gives for each text or pair, as float32 arrays; errors as in ``embed``."""
        return self._require_pooler().encode(prompts, pooling_params, use_tqdm=use_tqdm)

    def score(
        self,
        text_1: str | Sequence[str],
        text_2: str | Sequence[str],
        *,
        pooling_params: PoolingParams | None = None,
        use_tqdm: bool = True,
    ) -> list[ScoringRequestOutput]:
        """Return how well texts fit: by a cross-encoder, or by the cosine of two vectors; errors as in ``embed``.

        Args:
            text_1: one text for all of ``text_2``, or one for each.
        """
        return self._require_pooler().score(text_1, text_2, pooling_params, use_tqdm=use_tqdm)

    @property
    def model_config(self) -> ModelConfig:
        """The shape of the decoder.

        Raises:
            RequestError: the model is an encoder.
        """
        if not isinstance(self._kind.config, ModelConfig):
            raise RequestError(f"{self.config.model} is an encoder")
        return self._kind.config

    def reset_prefix_cache(self) -> None:
        """Forget all cached prefixes."""
        self._core.reset_prefix_cache()

    def _require_pooler(self) -> OfflinePooler:
        if self._pooler is None:
            raise RequestError(
                f"{self.config.model} generates text: use generate() or chat(), or make vectors with "
                'LLM(..., runner="pooling")'
            )
        return self._pooler

    def _require_chat_template(self) -> ChatTemplate:
        if self._chat_template is None:
            raise RequestError(
                f"{self.config.model} has no chat template. Give one with LLM(chat_template=…), or use generate().",
                param="messages",
            )
        return self._chat_template


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if not isinstance(prompts, str | Mapping | Sequence):
        raise RequestError(f"prompts must be a prompt or a list of prompts, not {prompts!r}", param="prompts")
    if isinstance(prompts, str | Mapping) or (prompts and isinstance(prompts[0], int)):
        return [cast("Prompt", prompts)]
    return list(cast("Sequence[Prompt]", prompts))


def _params_for_each(
    sampling_params: SamplingParams | Sequence[SamplingParams], num_prompts: int
) -> list[SamplingParams]:
    if isinstance(sampling_params, SamplingParams):
        return [_final_only(sampling_params)] * num_prompts
    if not isinstance(sampling_params, Sequence) or not all(isinstance(p, SamplingParams) for p in sampling_params):
        raise RequestError("sampling_params must be a SamplingParams or a list of them", param="sampling_params")
    if len(sampling_params) != num_prompts:
        raise RequestError(
            f"there are {num_prompts} prompts but {len(sampling_params)} sampling parameters: give one, or one each",
            param="sampling_params",
        )
    return [_final_only(params) for params in sampling_params]


def _adapter_for_each(
    lora_request: LoRARequest | Sequence[LoRARequest | None] | None, num_prompts: int
) -> Sequence[LoRARequest | None]:
    if lora_request is None or isinstance(lora_request, LoRARequest):
        return [lora_request] * num_prompts
    if not isinstance(lora_request, Sequence) or not all(
        adapter is None or isinstance(adapter, LoRARequest) for adapter in lora_request
    ):
        raise RequestError("lora_request must be a LoRARequest or a list of them", param="lora_request")
    if len(lora_request) != num_prompts:
        raise RequestError(
            f"there are {num_prompts} prompts but {len(lora_request)} LoRA requests: give one, or one each",
            param="lora_request",
        )
    return lora_request


def _final_only(params: SamplingParams) -> SamplingParams:
    params = copy(params)
    params.output_kind = RequestOutputKind.FINAL_ONLY
    return params
