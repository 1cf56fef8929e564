"""The dashboard "Octavo: requests and KV cache": why requests take as long as they do."""

from __future__ import annotations

from deploy.observability.dashboards.panels import (
    INSTANCE,
    MODEL,
    Panel,
    Query,
    Section,
    heatmap,
    mean,
    quantiles,
    summed_rate,
)

REQUEST_DETAILS = [
    Section(
        "Where the time of a request goes",
        [
            Panel(
                "Mean parts of a request",
                "Waiting for the first step, computing the prompt, and generating: together the life of a request.",
                "s",
                [
                    mean("octavo_request_queue_time_seconds", "queue"),
                    mean("octavo_request_prefill_time_seconds", "prefill"),
                    mean("octavo_request_decode_time_seconds", "decode"),
                ],
                stacked=True,
            ),
            Panel(
                "Queue time",
                "From the arrival of a request to its first step.",
                "s",
                quantiles("octavo_request_queue_time_seconds"),
            ),
            Panel(
                "Prefill time",
                "From the first step of a request to its first token.",
                "s",
                quantiles("octavo_request_prefill_time_seconds"),
            ),
            Panel(
                "Decode time",
                "From the first token of a request to its last.",
                "s",
                quantiles("octavo_request_decode_time_seconds"),
            ),
            Panel(
                "Inference time",
                "From the first step of a request to its last token.",
                "s",
                quantiles("octavo_request_inference_time_seconds"),
            ),
            Panel(
                "Time per output token",
                "Mean time between the tokens of one request.",
                "s",
                quantiles("octavo_request_time_per_output_token_seconds"),
            ),
            heatmap(
                "Time to first token, spread",
                "Requests by the time to their first token.",
                "octavo_time_to_first_token_seconds",
                "s",
            ),
            heatmap(
                "End-to-end latency, spread",
                "Requests by the time from their arrival to their end.",
                "octavo_e2e_request_latency_seconds",
                "s",
            ),
        ],
    ),
    Section(
        "HTTP",
        [
            Panel(
                "HTTP requests by route",
                "HTTP answers per second.",
                "reqps",
                [Query(summed_rate("http_requests_total", INSTANCE, by="handler"), "{{handler}}")],
                width=12,
            ),
            Panel(
                "HTTP duration by route",
                "From a request to the end of its answer, streams included.",
                "s",
                quantiles("http_request_duration_seconds", INSTANCE, by="handler"),
                width=12,
            ),
        ],
    ),
    Section(
        "What is asked",
        [
            heatmap("Prompt length", "Requests by tokens of their prompt.", "octavo_request_prompt_tokens", "short"),
            heatmap("Output length", "Requests by tokens generated.", "octavo_request_generation_tokens", "short"),
            Panel(
                "max_tokens",
                "The limit that requests set for their output.",
                "short",
                quantiles("octavo_request_params_max_tokens"),
            ),
            Panel(
                "Prompt tokens computed",
                "Prompt tokens of a request that the prefix cache did not hold.",
                "short",
                quantiles("octavo_request_prefill_kv_computed_tokens"),
            ),
            Panel(
                "Longest output of a request",
                "Tokens of the longest of a request's sequences.",
                "short",
                quantiles("octavo_request_max_num_generation_tokens"),
            ),
            Panel(
                "Sequences per request",
                "Mean of the parameter n.",
                "short",
                [mean("octavo_request_params_n", "n")],
                width=24,
                height=6,
            ),
        ],
    ),
    Section(
        "KV cache",
        [
            Panel(
                "KV-cache blocks",
                "Blocks that sequences hold, and all that there are.",
                "short",
                [
                    Query(f"octavo_kv_cache_used_blocks{MODEL}", "used {{instance}}"),
                    Query(f"octavo_kv_cache_total_blocks{MODEL}", "total {{instance}}"),
                ],
            ),
            Panel(
                "Prefix cache",
                "Prompt tokens looked up in the prefix cache per second, and those found there.",
                "ops",
                [
                    Query(summed_rate("octavo_prefix_cache_queries_total"), "looked up"),
                    Query(summed_rate("octavo_prefix_cache_hits_total"), "found"),
                ],
            ),
            Panel(
                "Preemptions",
                "Sequences per second that had to give up their blocks and compute them again.",
                "ops",
                [Query(summed_rate("octavo_num_preemptions_total", by="instance"), "{{instance}}")],
            ),
            Panel(
                "Cache settings",
                "How the KV cache of each server is set up.",
                "short",
                [Query(f"octavo_cache_config_info{INSTANCE}", "{{instance}}")],
                kind="table",
                width=24,
            ),
        ],
    ),
]
