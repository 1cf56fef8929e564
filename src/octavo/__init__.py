"""Octavo: LLM inference and serving. ``from octavo import LLM, SamplingParams, AsyncLLM``.

Names are imported when first used, so that ``import octavo`` loads neither torch nor a web framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.engine.async_llm import AsyncLLM
    from octavo.engine.beam_search import BeamSearchParams
    from octavo.engine.llm import LLM
    from octavo.engine.lora.request import LoRARequest
    from octavo.engine.outputs import CompletionOutput, RequestOutput
    from octavo.engine.pooling.outputs import EmbeddingRequestOutput, PoolingRequestOutput, ScoringRequestOutput
    from octavo.engine.pooling.params import PoolingParams
    from octavo.engine.sampling_params import SamplingParams
    from octavo.engine.structured.params import StructuredOutputsParams

__all__ = [
    "LLM",
    "AsyncLLM",
    "BeamSearchParams",
    "CompletionOutput",
    "EmbeddingRequestOutput",
    "LoRARequest",
    "PoolingParams",
    "PoolingRequestOutput",
    "RequestOutput",
    "SamplingParams",
    "ScoringRequestOutput",
    "StructuredOutputsParams",
    "__version__",
]

_HOMES = {
    "LLM": "octavo.engine.llm",
    "AsyncLLM": "octavo.engine.async_llm",
    "BeamSearchParams": "octavo.engine.beam_search",
    "CompletionOutput": "octavo.engine.outputs",
    "EmbeddingRequestOutput": "octavo.engine.pooling.outputs",
    "LoRARequest": "octavo.engine.lora.request",
    "PoolingParams": "octavo.engine.pooling.params",
    "PoolingRequestOutput": "octavo.engine.pooling.outputs",
    "RequestOutput": "octavo.engine.outputs",
    "ScoringRequestOutput": "octavo.engine.pooling.outputs",
    "SamplingParams": "octavo.engine.sampling_params",
    "StructuredOutputsParams": "octavo.engine.structured.params",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'octavo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
