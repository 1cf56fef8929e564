"""What crosses the line between a client and its engine process: msgspec structs, small and flat."""

from __future__ import annotations

from typing import Literal

import msgspec

from octavo.engine.lora.request import LoRARequest
from octavo.engine.pooling.messages import AddPoolingRequests, PooledVector
from octavo.engine.sampling_params import SamplingParams


class EngineRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One sequence to generate.

    Attributes:
        request_id: unique among the requests that the engine holds.
        max_tokens: output tokens at most; already bounded by the model's length.
        bad_word_ids: token ids of each of the ``bad_words``.
        eos_token_ids: the model's end-of-sequence ids, as the client's tokenizer and generation config name them.
        seed: always set: the client draws one where the user gave none.
        priority: lower is served first under the priority policy.
        cache_salt: requests share cached prefixes only with requests of the same salt.
        grammar: what the output must match, as llguidance writes grammars; empty for free text. It stands in place of
            ``sampling_params.structured_outputs``, which is not sent.
        lora_id: number of the LoRA adapter; 0 is none.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling_params: SamplingParams
    max_tokens: int
    eos_token_ids: list[int]
    seed: int
    priority: int = 0
    cache_salt: str = ""
    grammar: str = ""
    bad_word_ids: list[list[int]] = []
    lora_id: int = 0


class EngineLaunch(msgspec.Struct):
    """The first thing an engine process is told, on its standard input.

    Attributes:
        config: the engine's settings, as JSON of ``EngineConfig``.
        directory: the model's files.
        requests_address, outputs_address: ZeroMQ endpoints that the parent has bound.
        adapters: LoRA adapters to load at once.
    """

    config: str
    directory: str
    max_model_len: int
    requests_address: str
    outputs_address: str
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["text", "json"] = "text"
    adapters: list[LoRARequest] = []


class AddRequests(msgspec.Struct, tag="add"):
    """Requests to start."""

    requests: list[EngineRequest]


class AbortRequests(msgspec.Struct, tag="abort"):
    """Requests to drop; unknown ids are ignored, since they may just have finished."""

    request_ids: list[str]


class ResetPrefixCache(msgspec.Struct, tag="reset_prefix_cache"):
    """Forget every cached prefix that no running request uses."""


class LoadAdapter(msgspec.Struct, tag="load_adapter"):
    """Load a LoRA adapter; answered by ``AdapterLoaded``."""

    adapter: LoRARequest


class UnloadAdapter(msgspec.Struct, tag="unload_adapter"):
    """Forget a LoRA adapter as soon as no request has it any more."""

    lora_id: int


class Shutdown(msgspec.Struct, tag="shutdown"):
    """End the engine process, now."""


ClientMessage = (
    AddRequests | AddPoolingRequests | AbortRequests | ResetPrefixCache | LoadAdapter | UnloadAdapter | Shutdown
)


class TokenLogprobs(msgspec.Struct, array_like=True):
    """Log-probabilities of one position: the sampled (or the prompt's) token first, then the most likely ones.

    Attributes:
        rank: rank of the sampled token, 1 for the most likely; the others have ranks 1, 2, ….
    """

    token_ids: list[int]
    logprobs: list[float]
    rank: int


class SequenceUpdate(msgspec.Struct, array_like=True, omit_defaults=True):
    """What one step did to one sequence.

    Attributes:
        finish_reason: ``stop``, ``length``, ``abort`` or ``error`` with the last update, else None.
        stop_token_id: the stop token of the request that ended it (None for an end-of-sequence id).
        num_cached_tokens: prompt tokens taken from the prefix cache.
        error: why the sequence ended with ``error``: its grammar is wrong or has become too complex.
        prompt_logprobs: of the tokens of the prompt but the first, with the first update, if they were asked for.
    """

    request_id: str
    token_ids: list[int]
    finish_reason: str | None = None
    stop_token_id: int | None = None
    logprobs: list[TokenLogprobs] | None = None
    num_cached_tokens: int = 0
    error: str = ""
    prompt_logprobs: list[TokenLogprobs] | None = None


class EngineStats(msgspec.Struct, array_like=True):
    """Counts of the scheduler and its block pool; those named ``total`` only ever grow.

    Attributes:
        total_accepted_per_pos: of each place in a draft, how often its token was accepted; empty without speculation.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_used_blocks: int = 0
    num_blocks: int = 0
    total_prefix_queries: int = 0
    total_prefix_hits: int = 0
    total_preemptions: int = 0
    total_steps: int = 0
    total_drafts: int = 0
    total_draft_tokens: int = 0
    total_accepted_tokens: int = 0
    total_accepted_per_pos: list[int] = []


class StepEvents(msgspec.Struct, array_like=True, omit_defaults=True):
    """What a step's plan did to sequences besides the next token of those that decode. Most steps have nothing here.

    Attributes:
        admitted: ``(request id, tokens that the prefix cache held)`` of those let in, new or after a preemption.
        chunks: ``(request id, tokens computed)`` of those that compute tokens known before: a prefill or a part of one.
        preempted: request ids of those whose blocks were taken.
    """

    admitted: list[tuple[str, int]] = []
    chunks: list[tuple[str, int]] = []
    preempted: list[str] = []


class StepOutput(msgspec.Struct, tag="step", omit_defaults=True):
    """The updates of one step.

    Attributes:
        num_tokens: tokens that the step computed; 0 if there was nothing to compute.
        started_at, ended_at: monotonic seconds, which all processes of a machine share; 0 if nobody looked at a clock.
        pooled: of an engine that makes vectors: the results of the step.
    """

    updates: list[SequenceUpdate]
    stats: EngineStats
    events: StepEvents | None = None
    num_tokens: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    pooled: list[PooledVector] = []


class EngineReady(msgspec.Struct, tag="ready", omit_defaults=True):
    """Sent once, when the model is loaded and the KV cache is allocated.

    Attributes:
        quantization: int8, int4, gptq or awq; None if no weight is quantised.
        batch_invariant: whether what a request gets depends on that request alone, bit for bit.
        failed_adapters: why LoRA adapters of the launch could not be loaded, by number.
    """

    num_blocks: int
    block_size: int
    max_model_len: int
    device: str
    dtype: str
    kv_cache_dtype: str
    quantization: str | None = None
    batch_invariant: bool = False
    load_seconds: float = 0.0
    failed_adapters: dict[int, str] = {}


class AdapterLoaded(msgspec.Struct, tag="adapter_loaded", omit_defaults=True):
    """What became of a ``LoadAdapter``.

    Attributes:
        error: why the adapter was not loaded; None if it was.
    """

    lora_id: int
    error: str | None = None


class EngineFailed(msgspec.Struct, tag="failed"):
    """Sent last by an engine process that ends for a reason.

    Attributes:
        message: the cause in one line.
        is_user_error: the configuration or the model's files are at fault, so a restart cannot help.
    """

    message: str
    is_user_error: bool


EngineMessage = StepOutput | EngineReady | AdapterLoaded | EngineFailed
