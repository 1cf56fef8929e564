"""The numbers that a server shows at ``/metrics``: vLLM's metric names with the prefix ``octavo_``."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

# fmt: off
_TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
)
_ITL_BUCKETS = (
    0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)
# fmt: on
_E2E_BUCKETS = (0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
FINISH_REASONS: Sequence[str] = ("stop", "length", "abort")
_LABELS = ("model_name",)

# They would add a time stamp to every counter and histogram, which no dashboard asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class EngineMetrics:
    """Metrics of one model's engine, in a registry of their own.

    Attributes:
        registry: what ``prometheus_client.generate_latest`` takes.
    """

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._model_name = model_name
        self._running = self._gauge("num_requests_running", "Sequences that take part in steps.")
        self._waiting = self._gauge("num_requests_waiting", "Sequences that wait for admission.")
        self._usage = self._gauge("kv_cache_usage_perc", "Part of the KV cache that is held, from 0 to 1.")
        self._used_blocks = self._gauge("kv_cache_used_blocks", "KV-cache blocks that some sequence holds.")
        self._total_blocks = self._gauge("kv_cache_total_blocks", "KV-cache blocks that there are.")
        self._prefix_queries = _Total(
            self._counter("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        )
        self._prefix_hits = _Total(self._counter("prefix_cache_hits", "Prompt tokens found in the prefix cache."))
        self._preemptions = _Total(self._counter("num_preemptions", "Sequences preempted because blocks ran out."))
        self._steps = _Total(self._counter("engine_steps", "Steps computed."))
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of requests that have begun to answer.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated.")
        self.engine_restarts = self._counter("engine_restarts", "Times that the engine process died.")
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", _TTFT_BUCKETS
        )
        self.inter_token_latency = self._histogram(
            "inter_token_latency_seconds", "Between two tokens of a sequence.", _ITL_BUCKETS
        )
        self.e2e_latency = self._histogram(
            "e2e_request_latency_seconds", "From arrival to the end of a request.", _E2E_BUCKETS
        )
        success = Counter(
            "octavo_request_success",
            "Sequences that ended, by reason.",
            (*_LABELS, "finished_reason"),
            registry=self.registry,
        )
        self._ends = {reason: success.labels(model_name, reason) for reason in FINISH_REASONS}

    def observe_first_token(self, num_prompt_tokens: int, latency_s: float) -> None:
        """A request got its first token."""
        self.prompt_tokens.inc(num_prompt_tokens)
        self.time_to_first_token.observe(latency_s)

    def observe_end(self, finish_reason: str) -> None:
        """A sequence ended."""
        self._ends[finish_reason].inc()

    def set_engine_state(
        self,
        *,
        num_running: int,
        num_waiting: int,
        num_used_blocks: int,
        num_blocks: int,
        total_prefix_queries: int,
        total_prefix_hits: int,
        total_preemptions: int,
        total_steps: int,
    ) -> None:
        """Take over the engine's own counts; totals start again at zero with a new engine process."""
        self._running.set(num_running)
        self._waiting.set(num_waiting)
        self._used_blocks.set(num_used_blocks)
        self._total_blocks.set(num_blocks)
        self._usage.set(num_used_blocks / num_blocks if num_blocks else 0.0)
        self._prefix_queries.advance_to(total_prefix_queries)
        self._prefix_hits.advance_to(total_prefix_hits)
        self._preemptions.advance_to(total_preemptions)
        self._steps.advance_to(total_steps)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"octavo_{name}", help_text, _LABELS, registry=self.registry).labels(self._model_name)

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(f"octavo_{name}", help_text, _LABELS, registry=self.registry).labels(self._model_name)

    def _histogram(self, name: str, help_text: str, buckets: Sequence[float]) -> Histogram:
        histogram = Histogram(f"octavo_{name}", help_text, _LABELS, buckets=buckets, registry=self.registry)
        return histogram.labels(self._model_name)


class _Total:
    """A counter that follows a total which somebody else counts and may start again at zero."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last = 0

    def advance_to(self, total: int) -> None:
        if total != self._last:
            self._counter.inc(total - self._last if total > self._last else total)
            self._last = total
