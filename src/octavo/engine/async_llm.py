"""The asynchronous face of an engine in its own process: what a server builds on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from octavo.config import EngineConfig
from octavo.engine.client import EngineClient, EngineState
from octavo.engine.lora.registry import AdapterRegistry
from octavo.engine.lora.request import LoRARequest
from octavo.engine.messages import (
    AbortRequests,
    AdapterLoaded,
    AddRequests,
    EngineReady,
    EngineStats,
    LoadAdapter,
    ResetPrefixCache,
    StepOutput,
    UnloadAdapter,
)
from octavo.engine.model_files import ModelFiles, read_model_files
from octavo.engine.output_mailbox import OutputMailbox
from octavo.engine.output_processor import OutputProcessor
from octavo.engine.request_builder import BuiltRequest, Prompt, RequestBuilder
from octavo.engine.structured.checker import GrammarChecker
from octavo.errors import ConfigError, EngineDeadError, QueueFullError, RequestError, UnknownModelError

if TYPE_CHECKING:
    from octavo.engine.outputs import RequestOutput
    from octavo.engine.pooling.async_pooler import AsyncPooler
    from octavo.engine.pooling.outputs import PoolingRequestOutput
    from octavo.engine.pooling.params import PoolingParams
    from octavo.engine.pooling.request_builder import PoolingPrompt
    from octavo.engine.sampling_params import SamplingParams
    from octavo.observe.metrics import EngineMetrics
    from octavo.observe.request_timing import RequestTiming

_LONG_PROMPT_CHARS = 20_000
logger = logging.getLogger(__name__)


class AsyncLLM:
    """An engine process, and the requests that are under way in it.

    The constructor reads the model's small files and is cheap; ``start`` launches the engine.

    Args:
        config: settings of the engine.
        metrics: told about everything that happens, if given.
        lora_modules: name and path of each LoRA adapter that the engine begins with.

    Attributes:
        adapters: the LoRA adapters that requests can ask for.

    Raises:
        ConfigError, ModelError: the settings or the model's files are at fault.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        metrics: EngineMetrics | None = None,
        lora_modules: Iterable[tuple[str, str]] = (),
    ) -> None:
        files = read_model_files(config)
        self.config = config
        self.directory = files.directory
        self.model_config = files.model_config
        self.tokenizer = files.tokenizer
        self.max_model_len = files.max_model_len
        self.stats = EngineStats()
        self._metrics = metrics
        if metrics is not None:
            metrics.set_max_model_len(files.max_model_len)
        self.adapters = AdapterRegistry(lora_modules)
        self._adapter_load: tuple[LoRARequest, asyncio.Future[None]] | None = None
        self._adapter_lock = asyncio.Lock()
        self._client = EngineClient(
            config,
            files.directory,
            files.max_model_len,
            on_output=self._take_output,
            on_death=self._fail_all,
            on_adapter=self._take_adapter,
            adapters=self.adapters.all,
        )
        self._builder = RequestBuilder(
            files.tokenizer,
            vocab_size=files.model_config.vocab_size,
            max_model_len=files.max_model_len,
            seed=config.seed,
        )
        self._processor = OutputProcessor(files.tokenizer, metrics=metrics)
        self._grammars = GrammarChecker()
        self.pooler = None if files.kind.pooling is None else self._make_pooler(files)
        self._mailboxes: dict[str, OutputMailbox] = {}
        self._is_idle = asyncio.Event()

    def _make_pooler(self, files: ModelFiles) -> AsyncPooler:
        from octavo.engine.pooling.async_pooler import AsyncPooler  # with numpy, which generating needs nowhere else
        from octavo.engine.pooling.request_builder import PoolingRequestBuilder

        return AsyncPooler(
            PoolingRequestBuilder(files.tokenizer, files.kind, max_model_len=files.max_model_len),
            admit=self._admit,
            send=self._client.send,
            send_aborts=self._abort_in_engine,
            metrics=self._metrics,
        )

    @property
    def state(self) -> EngineState:
        """``ready`` while requests are served; ``dead`` from the end of the process until a new one is ready."""
        return self._client.state

    @property
    def cause(self) -> str:
        """Why the engine is not ready, in one line."""
        return self._client.cause

    @property
    def engine_process_id(self) -> int | None:
        """The engine's process; None while there is none."""
        return self._client.process_id

    @property
    def num_unfinished(self) -> int:
        """Sequences that have not finished."""
        return self._processor.num_unfinished + (0 if self.pooler is None else self.pooler.num_unfinished)

    async def start(self, standby: asyncio.subprocess.Process | None = None) -> EngineReady:
        """Launch the engine process; returns when the model is ready.

        Args:
            standby: a process that has begun to import what the engine needs (``engine/standby.py``).

        Raises:
            ConfigError: the model does not fit, or its files or those of an adapter are broken.
            EngineDeadError: the process died for another reason.
        """
        ready = await self._client.start(standby)
        if ready.failed_adapters:
            await self._client.shutdown()
            raise ConfigError("\n".join(ready.failed_adapters.values()))
        if self._metrics is not None:
            self._metrics.set_cache_config(
                block_size=ready.block_size,
                cache_dtype=ready.kv_cache_dtype,
                enable_prefix_caching=self.config.enable_prefix_caching,
                gpu_memory_utilization=self.config.gpu_memory_utilization,
                num_gpu_blocks=ready.num_blocks,
            )
        return ready

    async def shutdown(self, timeout_s: float = 0.0) -> None:
        """Wait up to ``timeout_s`` for running requests, drop the rest, and end the process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self._mailboxes:
                    self._is_idle.clear()
                    await self._is_idle.wait()
                if self.pooler is not None:
                    await self.pooler.wait_idle()
        await self._client.shutdown()
        await asyncio.to_thread(self._grammars.close)
        self._fail_all("the server is shutting down", is_crash=False)

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
        """Generate for one prompt; outputs come as the ``output_kind`` of the parameters says.

        Closing the iterator early, or cancelling the task that reads it, aborts the request and frees its blocks.

        Args:
            timing: filled while the request advances, for those who watch it; the last output carries it too.
            lora_request: a LoRA adapter that is in ``adapters``.

        Raises:
            RequestError: the prompt or a parameter is wrong.
            QueueFullError: ``max_num_queued_reqs`` requests wait already.
            EngineDeadError: the engine is not ready, or died while the request was running.
        """
        if self.pooler is not None:
            raise RequestError(f"{self.config.model} makes vectors or scores and generates nothing")
        if request_id in self._mailboxes:
            raise RequestError(f"request id {request_id!r} is in use", param="request_id")
        mailbox = self._mailboxes[request_id] = OutputMailbox()
        try:
            built = await self._build(prompt, sampling_params, request_id, priority, cache_salt, lora_request)
            self._check_adapter(lora_request)
            self._submit(built, timing)
            while True:
                output = await mailbox.get()
                yield output
                if output.finished:
                    return
        finally:
            del self._mailboxes[request_id]
            self._drop(request_id)
            if not self._mailboxes:
                self._is_idle.set()

    async def encode(
        self,
        prompts: Sequence[PoolingPrompt],
        pooling_params: PoolingParams,
        request_id: str,
        *,
        timings: Sequence[RequestTiming] | None = None,
    ) -> list[PoolingRequestOutput]:
        """Make a vector or a score of each prompt; they are computed together.

        Cancelling the task drops what was not computed yet.

        Args:
            timings: one a prompt, filled while the requests advance, for those who watch them.

        Raises:
            RequestError: the model generates, or a prompt or a parameter is wrong.
            QueueFullError: ``max_num_queued_reqs`` requests wait already.
            EngineDeadError: the engine is not ready, or died while the request was running.
        """
        if self.pooler is None:
            raise RequestError(f"{self.config.model} generates text and makes no vectors")
        return await self.pooler.encode(prompts, pooling_params, request_id, timings)

    async def abort(self, request_id: str) -> None:
        """Drop a request; whoever reads its outputs gets a last one with the finish reason ``abort``."""
        mailbox = self._mailboxes.get(request_id)
        last = self._drop(request_id)
        if mailbox is not None and last is not None:
            mailbox.put(last)

    async def reset_prefix_cache(self) -> None:
        """Forget all cached prefixes."""
        self._client.send(ResetPrefixCache())

    async def load_lora_adapter(self, name: str, path: str) -> LoRARequest:
        """Load a LoRA adapter, for requests to ask for.

        Raises:
            RequestError: there is one of this name, or this one cannot be loaded.
            EngineDeadError: the engine is not ready, or died meanwhile.
        """
        async with self._adapter_lock:
            request = self.adapters.number(name, path)
            loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._adapter_load = (request, loaded)
            try:
                self._client.send(LoadAdapter(request))
                await loaded
            finally:
                self._adapter_load = None
        return request

    def unload_lora_adapter(self, name: str) -> None:
        """Forget a LoRA adapter; requests that have it already end with it.

        Raises:
            UnknownModelError: there is none of this name.
        """
        request = self.adapters.remove(name)
        if request is None:
            raise UnknownModelError(f"There is no LoRA adapter {name!r}.", param="lora_name")
        self._unload_in_engine(request.lora_int_id)

    def _unload_in_engine(self, lora_id: int) -> None:
        with contextlib.suppress(EngineDeadError):  # then it holds none any more
            self._client.send(UnloadAdapter(lora_id))

    def _take_adapter(self, answer: AdapterLoaded) -> None:
        request, loaded = self._adapter_load or (None, None)
        if request is None or loaded is None or request.lora_int_id != answer.lora_id or loaded.done():
            if answer.error is None:  # whoever asked for it has gone
                self._unload_in_engine(answer.lora_id)
            elif self.state != "starting" and (lost := self.adapters.remove_number(answer.lora_id)) is not None:
                logger.error("the LoRA adapter %r is not there any more: %s", lost.lora_name, answer.error)
        elif answer.error is None:
            self.adapters.add(request)
            loaded.set_result(None)
        else:
            loaded.set_exception(RequestError(answer.error, param="lora_path"))

    def _check_adapter(self, request: LoRARequest | None) -> None:
        if request is not None and request not in self.adapters:
            raise UnknownModelError(f"The LoRA adapter {request.lora_name!r} is not loaded.", param="model")

    async def _build(
        self,
        prompt: Prompt,
        params: SamplingParams,
        request_id: str,
        priority: int,
        cache_salt: str,
        lora_request: LoRARequest | None,
    ) -> BuiltRequest:
        def build() -> BuiltRequest:
            return self._builder.build(
                prompt, params, request_id, priority=priority, cache_salt=cache_salt, lora_request=lora_request
            )

        if params.structured_outputs is not None:
            built = await asyncio.to_thread(build)
            await asyncio.to_thread(self._grammars.check, built.sequences[0].grammar)
            return built
        if isinstance(prompt, str) and len(prompt) > _LONG_PROMPT_CHARS:
            return await asyncio.to_thread(build)  # so that others' tokens keep flowing meanwhile
        return build()

    def _submit(self, built: BuiltRequest, timing: RequestTiming | None) -> None:
        self._admit(len(built.sequences))
        self._processor.add(built, timing)
        self._client.send(AddRequests(built.sequences))

    def _admit(self, num_new: int) -> None:
        """Raise unless the engine takes so many new sequences now."""
        if self.state != "ready":
            raise EngineDeadError(self.cause)
        self._check_queue(num_new)

    def _check_queue(self, num_new: int) -> None:
        limit = self.config.max_num_queued_reqs
        if limit is None:
            return
        if num_new > self.config.max_num_seqs + limit:
            what, param = ("n", "n") if self.pooler is None else ("number of texts", "prompt")
            raise RequestError(
                f"{what}={num_new} is more than this engine ever holds at a time: {self.config.max_num_seqs} running "
                f"(max_num_seqs) and {limit} waiting (max_num_queued_reqs)",
                param=param,
            )
        is_over_capacity = self.num_unfinished + num_new > self.config.max_num_seqs + limit
        num_waiting = self.stats.num_waiting
        if is_over_capacity or (num_waiting > 0 and num_waiting + num_new > limit):
            if self._metrics is not None:
                self._metrics.num_rejected_requests += 1
            raise QueueFullError(
                f"{num_waiting} requests wait and {self.num_unfinished} are unfinished, but max_num_queued_reqs is "
                f"{limit}. Try again later."
            )

    def _drop(self, request_id: str) -> RequestOutput | None:
        dropped = self._processor.abort(request_id)
        if dropped is None:
            return None
        self._abort_in_engine(dropped.engine_ids)
        return dropped.output

    def _abort_in_engine(self, engine_ids: list[str]) -> None:
        if engine_ids:
            with contextlib.suppress(EngineDeadError):  # then it holds nothing any more
                self._client.send(AbortRequests(engine_ids))

    def _take_output(self, step: StepOutput) -> None:
        self._set_stats(step.stats)
        if self._metrics is not None and step.num_tokens:
            self._metrics.observe_step(step.num_tokens, step.ended_at - step.started_at)
        processed = self._processor.process(step.updates, step.events, started_at=step.started_at)
        for output in processed.outputs:
            mailbox = self._mailboxes.get(output.request_id)
            if mailbox is not None:
                mailbox.put(output)
        for request_id, cause in processed.failures:
            if (mailbox := self._mailboxes.get(request_id)) is not None:
                mailbox.fail(RequestError(cause, param="structured_outputs"))
        self._abort_in_engine(processed.aborts)
        if self.pooler is not None:
            self.pooler.take(step)

    def _fail_all(self, cause: str, *, is_crash: bool = True) -> None:
        """End every request with an error; the engine and all that it held are gone."""
        for request_id in self._processor.request_ids():
            self._processor.abort(request_id)
        for mailbox in self._mailboxes.values():
            mailbox.fail(EngineDeadError(f"the engine ended while the request was running: {cause}"))
        if self.pooler is not None:
            self.pooler.fail(EngineDeadError(f"the engine ended while the request was running: {cause}"))
        if self._adapter_load is not None and not self._adapter_load[1].done():
            self._adapter_load[1].set_exception(
                EngineDeadError(f"the engine ended while it loaded the adapter: {cause}")
            )
        self._set_stats(EngineStats())
        if is_crash and self._metrics is not None:
            self._metrics.num_engine_restarts += 1

    def _set_stats(self, stats: EngineStats) -> None:
        self.stats = stats
        if self._metrics is not None:
            self._metrics.set_engine_state(**msgspec.structs.asdict(stats))
