"""Vectors and scores in this process: what ``LLM.encode``, ``LLM.embed`` and ``LLM.score`` do."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.engine.pooling.async_pooler import to_array
from octavo.engine.pooling.core import PoolingCore
from octavo.engine.pooling.outputs import (
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringRequestOutput,
)
from octavo.engine.pooling.params import PoolingParams
from octavo.engine.pooling.request_builder import PoolingPrompt, PoolingRequestBuilder, as_prompts
from octavo.engine.pooling.scores import plan_scores
from octavo.engine.progress import GenerationProgress
from octavo.errors import RequestError


class OfflinePooler:
    """An engine for vectors, used by one caller at a time."""

    def __init__(self, core: PoolingCore, builder: PoolingRequestBuilder) -> None:
        self._core = core
        self._builder = builder
        self._num_calls = 0

    def encode(
        self, prompts: PoolingPrompt | Sequence[PoolingPrompt], params: PoolingParams | None, *, use_tqdm: bool
    ) -> list[PoolingRequestOutput]:
        """Return the numbers that the model gives for each prompt, in order."""
        self._num_calls += 1
        requests = self._builder.build(as_prompts(prompts), params or PoolingParams(), str(self._num_calls))
        results: dict[str, bytes] = {}
        try:
            # Sequences of like length go into the same step, where those of equal length share their attention.
            for request in sorted(requests, key=lambda request: len(request.token_ids)):
                self._core.add(request)
            with GenerationProgress(len(requests), enabled=use_tqdm, title="Encoding") as progress:
                while self._core.has_work:
                    step = self._core.step()
                    results.update((vector.request_id, vector.data) for vector in step.pooled)
                    progress.update(len(results), step.num_tokens)
        finally:  # also when interrupted: the engine must be empty for the next call
            self._core.abort(request.request_id for request in requests)
        return [
            PoolingRequestOutput(
                request.request_id, request.token_ids, outputs=PoolingOutput(to_array(results[request.request_id]))
            )
            for request in requests
        ]

    def embed(
        self, prompts: PoolingPrompt | Sequence[PoolingPrompt], params: PoolingParams | None, *, use_tqdm: bool
    ) -> list[EmbeddingRequestOutput]:
        """Return the vector of each prompt, in order."""
        if self._builder.is_cross_encoder:
            raise RequestError("this model is a cross-encoder: it scores pairs and makes no vectors. Use score().")
        return [
            EmbeddingRequestOutput(
                output.request_id, output.prompt_token_ids, outputs=EmbeddingOutput(output.outputs.data.tolist())
            )
            for output in self.encode(prompts, params, use_tqdm=use_tqdm)
        ]

    def score(
        self,
        text_1: str | Sequence[str],
        text_2: str | Sequence[str],
        params: PoolingParams | None,
        *,
        use_tqdm: bool,
    ) -> list[ScoringRequestOutput]:
        """Return a score for each text of ``text_2``."""
        first, second = ([texts] if isinstance(texts, str) else list(texts) for texts in (text_1, text_2))
        plan = plan_scores(first, second, is_cross_encoder=self._builder.is_cross_encoder)
        return plan.finish(self.encode(plan.prompts, params, use_tqdm=use_tqdm))
