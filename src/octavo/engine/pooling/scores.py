"""Which sequences a score is made of, and how: a cross-encoder reads a pair, others compare two vectors.

The same for the offline API and the server, so it knows neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.engine.pooling.outputs import PoolingRequestOutput, ScoringOutput, ScoringRequestOutput
from octavo.engine.pooling.request_builder import PoolingPrompt
from octavo.errors import RequestError


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """What to compute for scores.

    Attributes:
        prompts: to give to the engine.
        finish: makes the scores of the engine's results.
    """

    prompts: list[PoolingPrompt]
    finish: Callable[[Sequence[PoolingRequestOutput]], list[ScoringRequestOutput]]


def plan_scores(first: Sequence[str], second: Sequence[str], *, is_cross_encoder: bool) -> ScorePlan:
    """Plan the scores of texts: of one against each of many, or of many against as many.

    Raises:
        RequestError: the numbers of texts do not fit together.
    """
    if not second:
        raise RequestError("text_2 is empty: give at least one text", param="text_2")
    if len(first) not in (1, len(second)):
        raise RequestError(
            f"text_1 has {len(first)} texts and text_2 has {len(second)}: give one text_1, or one for each text_2",
            param="text_1",
        )
    if is_cross_encoder:
        pairs = zip(first if len(first) > 1 else [first[0]] * len(second), second, strict=True)
        return ScorePlan(list(pairs), _read_scores)
    num_first = len(first)
    return ScorePlan([*first, *second], lambda outputs: _cosines(outputs[:num_first], outputs[num_first:]))


def _read_scores(outputs: Sequence[PoolingRequestOutput]) -> list[ScoringRequestOutput]:
    return [
        ScoringRequestOutput(
            output.request_id, output.prompt_token_ids, outputs=ScoringOutput(float(output.outputs.data[0]))
        )
        for output in outputs
    ]


def _cosines(
    first: Sequence[PoolingRequestOutput], second: Sequence[PoolingRequestOutput]
) -> list[ScoringRequestOutput]:
    scores = []
    for index, output in enumerate(second):
        other = first[index if len(first) > 1 else 0]
        a, b = (item.outputs.data.astype("float64") for item in (other, output))
        length = math.sqrt(a @ a) * math.sqrt(b @ b)
        scores.append(
            ScoringRequestOutput(
                output.request_id,
                other.prompt_token_ids + output.prompt_token_ids,
                outputs=ScoringOutput(float(a @ b) / length if length else 0.0),
            )
        )
    return scores
