"""What comes out of an engine that makes vectors: vLLM's ``PoolingRequestOutput`` and its kin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PoolingOutput:
    """The numbers of one text or pair.

    Attributes:
        data: ``[size]`` float32: a vector, or the one number of a cross-encoder.
    """

    data: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddingOutput:
    """The vector of one text."""

    embedding: list[float]


@dataclass(frozen=True, slots=True)
class ScoringOutput:
    """How well the two texts of a pair fit."""

    score: float


@dataclass(frozen=True, slots=True)
class _RequestOutput:
    """What all outputs have.

    Attributes:
        prompt_token_ids: tokens of the text, special tokens included; of both texts where two were read.
    """

    request_id: str
    prompt_token_ids: list[int]
    finished: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingRequestOutput(_RequestOutput):
    """The result of ``LLM.encode``."""

    outputs: PoolingOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequestOutput(_RequestOutput):
    """The result of ``LLM.embed``."""

    outputs: EmbeddingOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRequestOutput(_RequestOutput):
    """The result of ``LLM.score``."""

    outputs: ScoringOutput
