"""Builds an engine core for vectors from its settings: device, dtype, weights, runner."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config.sizes import format_bytes
from octavo.engine import memory
from octavo.engine.batch_invariance import is_batch_invariant, log_batch_invariance
from octavo.engine.builder import (
    choose_device,
    choose_dtype,
    dtype_name,
    free_memory,
    prepare_cpu,
    wants_rounded_activations,
)
from octavo.engine.messages import EngineReady
from octavo.engine.pooling.core import PoolingCore
from octavo.engine.pooling.runner import DecoderRunner, EncoderRunner
from octavo.kernels.cpu import has_native
from octavo.models.layers.encoder import Encoder
from octavo.models.loading import LoadOptions
from octavo.models.pooling_loading import load_pooling_model, pooling_weight_bytes
from octavo.models.quantization.choice import choose_formats

if TYPE_CHECKING:
    from octavo.config import EngineConfig
    from octavo.models.config import ModelConfig
    from octavo.models.encoder_config import EncoderConfig
    from octavo.models.pooling_config import PoolingConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuiltPoolingEngine:
    """An engine core and what its client wants to know about it."""

    core: PoolingCore
    ready: EngineReady

    def use_idle_time(self) -> bool:
        """As of an engine that generates: there is nothing to do."""
        return False


def build_pooling_engine(
    config: EngineConfig,
    directory: Path,
    model_config: ModelConfig | EncoderConfig,
    pooling: PoolingConfig,
    max_model_len: int,
) -> BuiltPoolingEngine:
    """Load a model and make everything around it.

    Raises:
        ConfigError: the device is missing, batch invariance cannot be promised, or the model does not fit in memory.
        ModelError: the checkpoint is broken or not supported.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, model_config.dtype, device)
    if device.type == "cpu":
        prepare_cpu(config.cpu_threads)
    batch_invariant = is_batch_invariant(config, device)
    log_batch_invariance(batch_invariant)
    formats = choose_formats(config.quantization, model_config.quantization)
    num_weight_bytes = pooling_weight_bytes(model_config, dtype=dtype, formats=formats)
    memory.check_weights_fit(num_weight_bytes, free_memory(device), device.type)
    is_native = device.type == "cpu" and has_native()
    options = LoadOptions(
        dtype,
        device,
        load_format=config.load_format,
        seed=config.seed,
        native=is_native,
        rounds_activations=is_native and wants_rounded_activations(config.dtype),
    )
    model = load_pooling_model(directory, model_config, options, formats=formats)
    num_step_tokens = config.step_tokens(device.type)
    runner = (
        EncoderRunner(model, pooling, device)
        if isinstance(model, Encoder)
        else DecoderRunner(
            model,
            pooling,
            device,
            dtype=dtype,
            block_size=config.block_size,
            max_num_seqs=config.max_num_seqs,
            max_num_tokens=max(num_step_tokens, max_model_len),
        )
    )
    logger.info(
        "weights: %s, %s; vectors by %s pooling on %s, %s",
        format_bytes(num_weight_bytes),
        formats.method or "not quantized",
        pooling.pooling_type,
        device,
        dtype_name(dtype),
    )
    core = PoolingCore(runner, max_num_seqs=config.max_num_seqs, max_num_batched_tokens=num_step_tokens)
    ready = EngineReady(
        num_blocks=0,
        block_size=config.block_size,
        max_model_len=max_model_len,
        device=str(device),
        dtype=dtype_name(dtype),
        kv_cache_dtype=dtype_name(dtype),
        quantization=formats.method,
        batch_invariant=batch_invariant,
    )
    return BuiltPoolingEngine(core, ready)
