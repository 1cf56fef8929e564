"""Octavo: LLM inference and serving. ``from octavo import LLM, SamplingParams, AsyncLLM``.

Names are imported when first used, so that ``import octavo`` loads neither torch nor a web framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.engine.async_llm import AsyncLLM
    from octavo.engine.llm import LLM
    from octavo.engine.lora.request import LoRARequest
    from octavo.engine.outputs import CompletionOutput, RequestOutput
    from octavo.engine.sampling_params import SamplingParams

__all__ = ["LLM", "AsyncLLM", "CompletionOutput", "LoRARequest", "RequestOutput", "SamplingParams", "__version__"]

_HOMES = {
    "LLM": "octavo.engine.llm",
    "AsyncLLM": "octavo.engine.async_llm",
    "CompletionOutput": "octavo.engine.outputs",
    "LoRARequest": "octavo.engine.lora.request",
    "RequestOutput": "octavo.engine.outputs",
    "SamplingParams": "octavo.engine.sampling_params",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'octavo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
