"""The numbers that an engine shows at ``/metrics``: vLLM's names, labels and buckets, with a prefix of ours.

Counts are plain numbers, written by the thread that takes in the engine's outputs and put into Prometheus' form when
somebody asks. With the prefix ``vllm:``, dashboards, autoscalers and routers made for vLLM read them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from octavo.observe.histogram import Histogram, buckets_1_2_5
from octavo.observe.metric_names import DEFAULT_PREFIX, VLLM_PREFIX
from octavo.observe.request_timing import RequestTiming

# fmt: off
_TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)
_ITL_BUCKETS = (
    0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)
# vLLM's begin at 0.3 s; small models on idle machines are faster than that.
_REQUEST_TIME_BUCKETS = (
    0.01, 0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)
_STEP_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10)
_ITERATION_TOKENS_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
# fmt: on
_N_BUCKETS = (1, 2, 5, 10, 20)
_DEFAULT_MAX_MODEL_LEN = 1_000_000
FINISH_REASONS: Sequence[str] = ("stop", "length", "abort")
_LABELS = ("model_name", "engine")
_ENGINE = "0"


class EngineMetrics(Collector):
    """Metrics of one model's engine, in a registry of their own.

    Args:
        prefix: begins every name; with ``vllm:`` some names that vLLM has given up are there too.
        max_model_len: greatest number of tokens that a bucket is made for.

    Attributes:
        registry: what ``prometheus_client.generate_latest`` takes; others may register there too.
    """

    def __init__(
        self, model_name: str, *, prefix: str = DEFAULT_PREFIX, max_model_len: int = _DEFAULT_MAX_MODEL_LEN
    ) -> None:
        self.prefix = prefix
        self._label_values = [model_name, _ENGINE]
        self._cache_config: Mapping[str, str] = {}
        self._num_running = 0
        self._num_waiting = 0
        self._num_used_blocks = 0
        self._num_blocks = 0
        self._prefix_queries = _Total()
        self._prefix_hits = _Total()
        self._preemptions = _Total()
        self._steps = _Total()
        self._drafts = _Total()
        self._draft_tokens = _Total()
        self._accepted_tokens = _Total()
        self._accepted_per_pos: list[_Total] = []
        self._num_ends = dict.fromkeys(FINISH_REASONS, 0)
        self.num_prompt_tokens = 0
        self.num_cached_prompt_tokens = 0
        self.num_generation_tokens = 0
        self.num_engine_restarts = 0
        self.num_rejected_requests = 0
        self.time_to_first_token = Histogram(_TTFT_BUCKETS)
        self.inter_token_latency = Histogram(_ITL_BUCKETS)
        self._time_per_output_token = Histogram(_ITL_BUCKETS)
        self._e2e_latency = Histogram(_REQUEST_TIME_BUCKETS)
        self._queue_time = Histogram(_REQUEST_TIME_BUCKETS)
        self._inference_time = Histogram(_REQUEST_TIME_BUCKETS)
        self._prefill_time = Histogram(_REQUEST_TIME_BUCKETS)
        self._decode_time = Histogram(_REQUEST_TIME_BUCKETS)
        self._step_duration = Histogram(_STEP_BUCKETS)
        self._iteration_tokens = Histogram(_ITERATION_TOKENS_BUCKETS)
        self._params_n = Histogram(_N_BUCKETS)
        self.set_max_model_len(max_model_len)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def set_max_model_len(self, max_model_len: int) -> None:
        """Make the buckets for numbers of tokens, empty; to be called before requests come."""
        buckets = buckets_1_2_5(max_model_len)
        self._request_prompt_tokens = Histogram(buckets)
        self._request_computed_tokens = Histogram(buckets)
        self._request_generation_tokens = Histogram(buckets)
        self._request_max_generation_tokens = Histogram(buckets)
        self._params_max_tokens = Histogram(buckets)

    def set_cache_config(self, **config: object) -> None:
        """Say how the KV cache is made; the names are labels of ``cache_config_info``."""
        self._cache_config = {name: str(value) for name, value in config.items()}

    def observe_first_token(self, timing: RequestTiming) -> None:
        """A request got its first token."""
        self.num_prompt_tokens += timing.num_prompt_tokens
        self.num_cached_prompt_tokens += timing.num_cached_tokens
        if timing.ttft_s is not None:
            self.time_to_first_token.observe(timing.ttft_s)

    def observe_end(self, timing: RequestTiming, sequences: Iterable[tuple[str, int]]) -> None:
        """A request ended.

        Args:
            sequences: finish reason and number of tokens of each sequence.
        """
        most_tokens = 0
        for finish_reason, num_tokens in sequences:
            self._num_ends[finish_reason] += 1
            self._request_generation_tokens.observe(num_tokens)
            most_tokens = max(most_tokens, num_tokens)
        self._request_max_generation_tokens.observe(most_tokens)
        self._request_prompt_tokens.observe(timing.num_prompt_tokens)
        self._params_n.observe(timing.n)
        self._params_max_tokens.observe(timing.max_tokens)
        if timing.first_token_at is not None:
            self._request_computed_tokens.observe(timing.num_prompt_tokens - timing.num_cached_tokens)
        for histogram, seconds in (
            (self._e2e_latency, timing.e2e_s),
            (self._queue_time, timing.queue_s),
            (self._prefill_time, timing.prefill_s),
            (self._decode_time, timing.decode_s),
            (self._inference_time, timing.inference_s),
            (self._time_per_output_token, timing.tpot_s),
        ):
            if seconds is not None:
                histogram.observe(seconds)

    def observe_pooled(self, timing: RequestTiming) -> None:
        """A text of a model that makes vectors ended: its vector is there, or it was dropped."""
        self._num_ends[timing.finish_reason or "abort"] += 1
        self._request_prompt_tokens.observe(timing.num_prompt_tokens)
        if timing.first_scheduled_at is not None:
            self.num_prompt_tokens += timing.num_prompt_tokens
        for histogram, seconds in ((self._e2e_latency, timing.e2e_s), (self._queue_time, timing.queue_s)):
            if seconds is not None:
                histogram.observe(seconds)

    def observe_step(self, num_tokens: int, duration_s: float) -> None:
        """The engine computed a step of ``num_tokens`` tokens."""
        self._iteration_tokens.observe(num_tokens)
        self._step_duration.observe(duration_s)

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
        total_drafts: int = 0,
        total_draft_tokens: int = 0,
        total_accepted_tokens: int = 0,
        total_accepted_per_pos: Sequence[int] = (),
    ) -> None:
        """Take over the engine's own counts; totals start again at zero with a new engine process."""
        self._num_running = num_running
        self._num_waiting = num_waiting
        self._num_used_blocks = num_used_blocks
        self._num_blocks = num_blocks
        self._prefix_queries.advance_to(total_prefix_queries)
        self._prefix_hits.advance_to(total_prefix_hits)
        self._preemptions.advance_to(total_preemptions)
        self._steps.advance_to(total_steps)
        self._drafts.advance_to(total_drafts)
        self._draft_tokens.advance_to(total_draft_tokens)
        self._accepted_tokens.advance_to(total_accepted_tokens)
        while len(self._accepted_per_pos) < len(total_accepted_per_pos):
            self._accepted_per_pos.append(_Total())
        for position, total in enumerate(self._accepted_per_pos):  # an engine that has just died counts none
            total.advance_to(total_accepted_per_pos[position] if total_accepted_per_pos else 0)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Metric]:
        usage = self._num_used_blocks / self._num_blocks if self._num_blocks else 0.0
        yield self._gauge("num_requests_running", "Sequences that take part in steps.", self._num_running)
        yield self._gauge("num_requests_waiting", "Sequences that wait for admission.", self._num_waiting)
        yield self._gauge("kv_cache_usage_perc", "Part of the KV cache that is held, from 0 to 1.", usage)
        if self.prefix == VLLM_PREFIX:
            yield self._gauge("gpu_cache_usage_perc", "Older name of kv_cache_usage_perc.", usage)
        yield self._gauge("kv_cache_used_blocks", "KV-cache blocks that some sequence holds.", self._num_used_blocks)
        yield self._gauge("kv_cache_total_blocks", "KV-cache blocks that there are.", self._num_blocks)
        if self._cache_config:
            info = GaugeMetricFamily(
                f"{self.prefix}cache_config_info", "How the KV cache is made.", labels=[*_LABELS, *self._cache_config]
            )
            info.add_metric([*self._label_values, *self._cache_config.values()], 1)
            yield info

    def _counters(self) -> Iterator[Metric]:
        counters = {
            "prefix_cache_queries": ("Prompt tokens looked up in the prefix cache.", self._prefix_queries.value),
            "prefix_cache_hits": ("Prompt tokens found in the prefix cache.", self._prefix_hits.value),
            "num_preemptions": ("Sequences preempted because blocks ran out.", self._preemptions.value),
            "engine_steps": ("Steps computed.", self._steps.value),
            "prompt_tokens": ("Prompt tokens of requests that have begun to answer.", self.num_prompt_tokens),
            "prompt_tokens_cached": ("Those of them that the prefix cache held.", self.num_cached_prompt_tokens),
            "generation_tokens": ("Tokens generated.", self.num_generation_tokens),
            "engine_restarts": ("Times that the engine process died.", self.num_engine_restarts),
            "requests_rejected": ("Requests refused because the queue was full.", self.num_rejected_requests),
        }
        if self._accepted_per_pos:
            counters |= {
                "spec_decode_num_drafts": ("Drafts that steps have checked.", self._drafts.value),
                "spec_decode_num_draft_tokens": ("Tokens of drafts.", self._draft_tokens.value),
                "spec_decode_num_accepted_tokens": ("Tokens of drafts accepted.", self._accepted_tokens.value),
            }
        for name, (help_text, value) in counters.items():
            counter = CounterMetricFamily(f"{self.prefix}{name}", help_text, labels=_LABELS)
            counter.add_metric(self._label_values, value)
            yield counter
        ends = CounterMetricFamily(
            f"{self.prefix}request_success", "Sequences that ended, by reason.", labels=[*_LABELS, "finished_reason"]
        )
        for reason, number in self._num_ends.items():
            ends.add_metric([*self._label_values, reason], number)
        yield ends
        if self._accepted_per_pos:
            accepted = CounterMetricFamily(
                f"{self.prefix}spec_decode_num_accepted_tokens_per_pos",
                "Tokens of drafts accepted, by their place in the draft, from 0.",
                labels=[*_LABELS, "position"],
            )
            for position, total in enumerate(self._accepted_per_pos):
                accepted.add_metric([*self._label_values, str(position)], total.value)
            yield accepted

    def _histograms(self) -> Iterator[Metric]:
        histograms = {
            "time_to_first_token_seconds": ("From arrival to the first token.", self.time_to_first_token),
            "inter_token_latency_seconds": ("Between two tokens of a sequence.", self.inter_token_latency),
            "request_time_per_output_token_seconds": (
                "Mean time per output token of a request, after its first.",
                self._time_per_output_token,
            ),
            "e2e_request_latency_seconds": ("From arrival to the end of a request.", self._e2e_latency),
            "request_queue_time_seconds": ("From arrival to the first step of a request.", self._queue_time),
            "request_inference_time_seconds": ("From the first step to the last token.", self._inference_time),
            "request_prefill_time_seconds": ("From the first step to the first token.", self._prefill_time),
            "request_decode_time_seconds": ("From the first to the last token.", self._decode_time),
            "request_prompt_tokens": ("Prompt tokens of a request.", self._request_prompt_tokens),
            "request_prefill_kv_computed_tokens": (
                "Prompt tokens of a request that the prefix cache did not hold.",
                self._request_computed_tokens,
            ),
            "request_generation_tokens": ("Tokens generated for a sequence.", self._request_generation_tokens),
            "request_max_num_generation_tokens": (
                "Tokens of the longest sequence of a request.",
                self._request_max_generation_tokens,
            ),
            "request_params_n": ("Sequences that a request asked for.", self._params_n),
            "request_params_max_tokens": ("Tokens that each sequence may have at most.", self._params_max_tokens),
            "iteration_tokens_total": ("Tokens computed in a step.", self._iteration_tokens),
            "step_duration_seconds": ("Duration of a step in the engine.", self._step_duration),
        }
        if self.prefix == VLLM_PREFIX:
            old_name = "Older name of inter_token_latency_seconds."
            histograms["time_per_output_token_seconds"] = (old_name, self.inter_token_latency)
        for name, (help_text, histogram) in histograms.items():
            family = HistogramMetricFamily(f"{self.prefix}{name}", help_text, labels=_LABELS)
            family.add_metric(self._label_values, histogram.cumulative_buckets(), histogram.sum)
            yield family

    def _gauge(self, name: str, help_text: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(f"{self.prefix}{name}", help_text, labels=_LABELS)
        gauge.add_metric(self._label_values, value)
        return gauge


class _Total:
    """A count that follows a total which somebody else counts and may start again at zero."""

    __slots__ = ("_last", "value")

    def __init__(self) -> None:
        self.value = 0
        self._last = 0

    def advance_to(self, total: int) -> None:
        if total != self._last:
            self.value += total - self._last if total > self._last else total
            self._last = total
