"""Which architectures there are, and where their classes live; a class is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from octavo.errors import ModelError, nearest_name

if TYPE_CHECKING:
    from octavo.models.layers.decoder import CausalLM
    from octavo.models.layers.encoder import Encoder

ARCHITECTURES = {
    "DeepseekV2ForCausalLM": "octavo.models.architectures.deepseek_v2",
    "DeepseekV3ForCausalLM": "octavo.models.architectures.deepseek_v3",
    "Gemma2ForCausalLM": "octavo.models.architectures.gemma2",
    "Gemma3ForCausalLM": "octavo.models.architectures.gemma3",
    "GptOssForCausalLM": "octavo.models.architectures.gpt_oss",
    "LlamaForCausalLM": "octavo.models.architectures.llama",
    "MistralForCausalLM": "octavo.models.architectures.mistral",
    "MixtralForCausalLM": "octavo.models.architectures.mixtral",
    "Phi3ForCausalLM": "octavo.models.architectures.phi3",
    "Qwen2ForCausalLM": "octavo.models.architectures.qwen2",
    "Qwen3ForCausalLM": "octavo.models.architectures.qwen3",
    "Qwen3MoeForCausalLM": "octavo.models.architectures.qwen3_moe",
}

# Checkpoints of a decoder without its head, as those of embedding models are.
BARE_DECODERS = {name.removesuffix("ForCausalLM") + "Model": name for name in ARCHITECTURES}

# Encoders: a family has one class, and its configuration says whether there is a head.
_BERT = ("octavo.models.architectures.bert", "BertModel")
_ROBERTA = ("octavo.models.architectures.roberta", "RobertaModel")
_DISTILBERT = ("octavo.models.architectures.distilbert", "DistilBertModel")
ENCODER_ARCHITECTURES = {
    "BertModel": _BERT,
    "BertForMaskedLM": _BERT,
    "BertForSequenceClassification": _BERT,
    "RobertaModel": _ROBERTA,
    "RobertaForMaskedLM": _ROBERTA,
    "RobertaForSequenceClassification": _ROBERTA,
    "XLMRobertaModel": _ROBERTA,
    "XLMRobertaForMaskedLM": _ROBERTA,
    "XLMRobertaForSequenceClassification": _ROBERTA,
    "DistilBertModel": _DISTILBERT,
    "DistilBertForMaskedLM": _DISTILBERT,
}


def model_class(architecture: str) -> type[CausalLM]:
    """Return the model class of an architecture as ``config.json`` names it.

    Raises:
        ModelError: there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise unsupported_architecture(architecture)
    found: type[CausalLM] = getattr(importlib.import_module(ARCHITECTURES[architecture]), architecture)
    return found


def encoder_class(architecture: str) -> type[Encoder]:
    """Return the class of an encoder, one of ``ENCODER_ARCHITECTURES``."""
    module, name = ENCODER_ARCHITECTURES[architecture]
    found: type[Encoder] = getattr(importlib.import_module(module), name)
    return found


def unsupported_architecture(architecture: str) -> ModelError:
    """Return the error for an architecture that is not in the table."""
    supported = [*ARCHITECTURES, *ENCODER_ARCHITECTURES]
    nearest = nearest_name(architecture, supported)
    hint = f" The nearest is {nearest}." if nearest else ""
    return ModelError(
        f"The architecture {architecture!r} is not supported. Supported are {', '.join(supported)}.{hint}"
    )
