"""The settings of an engine and of a server, with the names and meanings that ``vllm serve`` gave them.

The schema knows types, bounds and help texts. Where values come from (flags, environment, YAML) is the subject of
``octavo.config.sources``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from octavo.config.lora_modules import parse_lora_modules
from octavo.config.sizes import parse_bytes, parse_count
from octavo.config.speculative import SpeculativeConfig, read_speculative_config, with_draft_model
from octavo.observe.metric_names import DEFAULT_PREFIX, is_legal_prefix

MODEL_IN_THE_BOX = "octavo-nano"
DRAFT_IN_THE_BOX = "octavo-nano-draft"
MODELS_IN_THE_BOX = frozenset({MODEL_IN_THE_BOX, DRAFT_IN_THE_BOX})

Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]


DEFAULT_STEP_TOKENS = {"cpu": 512, "cuda": 2048}
"""Tokens that keep a device busy. More of them in a step would only make every stream wait longer for its next one."""

NOT_SUPPORTED = "not_supported"
"""Type of the validation errors for values that are right in vLLM but do not exist here yet."""


def _not_supported(value: object, reason: str) -> PydanticCustomError:
    return PydanticCustomError(NOT_SUPPORTED, "{value} is not supported: {reason}", {"value": value, "reason": reason})


class EngineConfig(BaseModel):
    """What one engine needs to know: the model, how it is loaded, and how much it may use."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    model: str = Field(MODEL_IN_THE_BOX, description="Local directory, hub name, or the model in the box.")
    tokenizer: str | None = Field(None, description="Directory or hub name of the tokenizer, if not the model's own.")
    revision: str | None = Field(None, description="Hub revision (branch, tag or commit) of the model.")
    runner: Literal["auto", "generate", "pooling"] = Field(
        "auto", description="Generate text, or make vectors and scores; 'auto' is what the model's files are for."
    )
    load_format: Literal["auto", "safetensors", "gguf", "dummy"] = Field(
        "auto", description="'dummy' makes seeded random weights from config.json alone."
    )
    trust_remote_code: bool = Field(False, description="Not supported: code of a checkpoint is never run.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Type of weights and activations; 'auto' is what suits the checkpoint and the device. On a CPU "
        "bfloat16 rounds what is multiplied with a matrix; everything else is computed in float32.",
    )
    quantization: Literal["int8", "int4", "gptq", "awq", "gguf"] | None = Field(
        None,
        description="int8 and int4 quantize weights while loading; the others only confirm what a checkpoint is.",
    )
    kv_cache_dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="Type of keys and values in the KV cache; 'auto' is that of the weights."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="'auto' takes CUDA if there is a GPU.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random in the engine.")
    batch_invariant: bool | None = Field(
        None,
        description="Start only if a request's tokens and log-probabilities cannot depend on what shares its batch. "
        "That is so with native CPU kernels, at no cost and whatever this says; elsewhere true is refused.",
    )

    max_model_len: Count | None = Field(
        None, description="Longest prompt plus output, in tokens; by default what the model was made for."
    )
    block_size: int = Field(16, ge=1, le=1024, description="Tokens in one block of the KV cache.")
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Part of a GPU's memory that weights, activations and KV cache may fill together."
    )
    kv_cache_memory_bytes: Bytes | None = Field(
        None, description="Memory of the KV cache (e.g. 2GiB); overrides gpu_memory_utilization."
    )
    max_num_seqs: Count = Field(256, description="Most sequences that run at the same time.")
    max_num_batched_tokens: Count | None = Field(
        None, description="Most tokens computed in one step; by default 512 on a CPU and 2048 on a GPU."
    )
    max_num_queued_reqs: Count | None = Field(
        None, description="Most requests that may wait; one more is refused with 503. No limit by default."
    )
    enable_prefix_caching: bool = Field(True, description="Reuse the KV cache of equal prefixes.")
    speculative_config: Annotated[SpeculativeConfig | None, BeforeValidator(read_speculative_config)] = Field(
        None,
        description="Guess tokens and check several at a time: JSON with a method (ngram, suffix, draft_model).",
    )
    scheduling_policy: Literal["fcfs", "priority"] = Field(
        "fcfs", description="Order of admission: first come, or lowest 'priority' value first."
    )
    enable_lora: bool = Field(False, description="Take LoRA adapters; implied by lora_modules.")
    max_lora_rank: Count = Field(16, description="Greatest rank of a LoRA adapter.")
    max_loras: Count = Field(8, description="Most LoRA adapters whose requests run at the same time.")
    max_cpu_loras: Count = Field(64, description="Most LoRA adapters that are loaded at the same time.")
    tensor_parallel_size: Count = Field(1, description="GPUs that share each layer. Only 1 is supported.")
    pipeline_parallel_size: Count = Field(1, description="GPUs that share the layers. Only 1 is supported.")
    cpu_threads: Count | None = Field(None, description="Threads for computation on the CPU; by default one a core.")
    disable_log_stats: bool = Field(False, description="Keep no metrics of the engine and its requests.")

    def step_tokens(self, device_type: str) -> int:
        """Return the most tokens that are computed in one step on a kind of device (``cpu``, ``cuda``)."""
        return self.max_num_batched_tokens or DEFAULT_STEP_TOKENS[device_type]

    @field_validator("tensor_parallel_size", "pipeline_parallel_size")
    @classmethod
    def _refuse_several_devices(cls, value: int, info: ValidationInfo) -> int:
        if value != 1:
            raise _not_supported(value, f"this version runs a model on one device. Use {info.field_name}=1.")
        return value

    @field_validator("speculative_config")
    @classmethod
    def _choose_draft_model(cls, value: SpeculativeConfig | None, info: ValidationInfo) -> SpeculativeConfig | None:
        own_draft = DRAFT_IN_THE_BOX if info.data.get("model") == MODEL_IN_THE_BOX else None
        return value and with_draft_model(value, default=own_draft)

    @field_validator("trust_remote_code")
    @classmethod
    def _refuse_remote_code(cls, value: bool) -> bool:
        if value:
            raise _not_supported("true", "Octavo never runs code of a checkpoint. Leave the setting out.")
        return value


class ServerConfig(EngineConfig):
    """What one model server needs to know on top of its engine."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    served_model_name: list[str] = Field(
        default_factory=list, description="Names of the model in the API; by default the model as it was given."
    )
    lora_modules: list[str] = Field(
        default_factory=list, description="LoRA adapters to serve, each as name=path or JSON with name and path."
    )
    enable_runtime_lora_updating: bool = Field(
        False, description="Let clients load adapters from any directory of this machine, and unload them."
    )
    api_key: list[str] = Field(default_factory=list, description="Keys that clients may use; none means no check.")
    chat_template: str | None = Field(None, description="File with a Jinja chat template, or the template itself.")
    enable_auto_tool_choice: bool = Field(
        True, description="Find tool calls in answers when tool_choice is 'auto'; else they stay text."
    )
    tool_call_parser: Literal["hermes", "llama3_json", "mistral", "pythonic"] | None = Field(
        None, description="Format of the model's tool calls; by default what its chat template shows."
    )
    reasoning_parser: Literal["qwen3", "deepseek_r1"] | None = Field(
        None, description="How the model's reasoning is told from its answer; by default it is part of the answer."
    )
    max_request_bytes: Bytes = Field(32 * 2**20, description="Largest request body, e.g. 32MiB.")
    shutdown_timeout: float = Field(30.0, ge=0, description="Seconds that running requests get after SIGTERM.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="One readable line or one JSON object an event.")
    enable_log_requests: bool = Field(False, description="Log each request: id, lengths and sampling parameters.")
    enable_log_outputs: bool = Field(False, description="Log how each request ended: its lengths, times and reason.")
    max_log_len: int | None = Field(
        None, ge=0, description="Characters of prompts and outputs in the two logs above; none of them by default."
    )
    disable_uvicorn_access_log: bool = Field(False, description="Do not log HTTP requests, failed ones included.")
    uvicorn_log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] | None = Field(
        None, description="Least level of the HTTP library's own messages, by default that of log_level."
    )
    otlp_traces_endpoint: str | None = Field(
        None, description="Send traces to this OpenTelemetry collector, e.g. http://localhost:4317."
    )
    otlp_traces_content: bool = Field(False, description="Put prompts and outputs into the traces.")
    metrics_prefix: str = Field(
        DEFAULT_PREFIX, description="Begins the names at /metrics; 'vllm:' suits dashboards and autoscalers for vLLM."
    )

    @model_validator(mode="before")
    @classmethod
    def _enable_lora(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("lora_modules") and "enable_lora" not in values:
            return {**values, "enable_lora": True}
        return values

    @field_validator("lora_modules")
    @classmethod
    def _check_lora_modules(cls, values: list[str], info: ValidationInfo) -> list[str]:
        try:
            modules = parse_lora_modules(values)
        except ValueError as error:
            raise PydanticCustomError(NOT_SUPPORTED, "{reason}", {"reason": str(error)}) from None
        if modules and not info.data.get("enable_lora", True):
            raise _not_supported(values, "enable_lora is false. Leave one of both out.")
        served = info.data.get("served_model_name") or [info.data.get("model")]
        for module in modules:
            if module.name in served:
                raise _not_supported(values, f"{module.name!r} is the name of the model. Give the adapter another one.")
        return values

    @field_validator("metrics_prefix")
    @classmethod
    def _check_metrics_prefix(cls, value: str) -> str:
        if not is_legal_prefix(value):
            raise _not_supported(
                repr(value), "names of metrics have letters, digits, '_' and ':', and begin with no digit."
            )
        return value
