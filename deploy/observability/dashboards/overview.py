"""The dashboard "Octavo": whether all is well, and where to look if it is not."""

from __future__ import annotations

from deploy.observability.dashboards.panels import (
    INSTANCE,
    MODEL,
    Panel,
    Query,
    Section,
    p95,
    quantiles,
    stat,
    summed_rate,
)

OVERVIEW = [
    Section(
        "Now",
        [
            stat(
                "Servers",
                "Octavo servers that Prometheus reads.",
                "short",
                f"count(octavo_num_requests_running{MODEL})",
            ),
            stat("Requests", "Requests that end per second.", "reqps", summed_rate("octavo_request_success_total")),
            stat("Output", "Tokens generated per second.", "ops", summed_rate("octavo_generation_tokens_total")),
            stat("Running", "Sequences that take part in steps.", "short", f"sum(octavo_num_requests_running{MODEL})"),
            stat(
                "Waiting", "Sequences that wait for admission.", "short", f"sum(octavo_num_requests_waiting{MODEL})", 10
            ),
            stat(
                "KV cache",
                "Part of the KV-cache blocks that is held, of the fullest server.",
                "percentunit",
                f"max(octavo_kv_cache_usage_perc{MODEL})",
                0.95,
            ),
            stat(
                "TTFT p95",
                "Time to the first token that 95 of 100 requests stay under.",
                "s",
                p95("octavo_time_to_first_token_seconds")[0].expr,
                5,
            ),
            stat(
                "Engine restarts",
                "Times that an engine process died in the time shown.",
                "short",
                f"sum(increase(octavo_engine_restarts_total{MODEL}[$__range]))",
                1,
            ),
        ],
    ),
    Section(
        "Traffic",
        [
            Panel(
                "Requests by end",
                "Requests that end per second: stop is the model's own end, length a limit, abort a client that left.",
                "reqps",
                [Query(summed_rate("octavo_request_success_total", by="finished_reason"), "{{finished_reason}}")],
                stacked=True,
            ),
            Panel(
                "Tokens",
                "Prompt tokens read and tokens generated per second.",
                "ops",
                [
                    Query(summed_rate("octavo_prompt_tokens_total"), "prompt"),
                    Query(summed_rate("octavo_generation_tokens_total"), "generated"),
                ],
            ),
            Panel(
                "HTTP answers by status",
                "HTTP answers per second of all routes.",
                "reqps",
                [Query(summed_rate("http_requests_total", INSTANCE, by="status"), "{{status}}")],
                stacked=True,
            ),
        ],
    ),
    Section(
        "Latency",
        [
            Panel(
                "Time to first token",
                "From the arrival of a request to its first token.",
                "s",
                quantiles("octavo_time_to_first_token_seconds"),
            ),
            Panel(
                "Inter-token latency",
                "Between two tokens of a sequence.",
                "s",
                quantiles("octavo_inter_token_latency_seconds"),
            ),
            Panel(
                "End-to-end latency",
                "From the arrival of a request to its end.",
                "s",
                quantiles("octavo_e2e_request_latency_seconds"),
            ),
        ],
    ),
    Section(
        "Engine",
        [
            Panel(
                "Sequences",
                "Sequences that take part in steps, and those that wait for admission.",
                "short",
                [
                    Query(f"octavo_num_requests_running{MODEL}", "running {{instance}}"),
                    Query(f"octavo_num_requests_waiting{MODEL}", "waiting {{instance}}"),
                ],
            ),
            Panel(
                "KV cache usage",
                "Part of the KV-cache blocks that is held.",
                "percentunit",
                [Query(f"octavo_kv_cache_usage_perc{MODEL}", "{{instance}}")],
            ),
            Panel(
                "Prefix-cache hit rate",
                "Part of the prompt tokens whose keys and values were in the cache already.",
                "percentunit",
                [
                    Query(
                        f"{summed_rate('octavo_prefix_cache_hits_total')}"
                        f" / {summed_rate('octavo_prefix_cache_queries_total')}",
                        "hits",
                    )
                ],
            ),
            Panel(
                "Tokens per step",
                "Tokens that one step of the engine computes.",
                "short",
                quantiles("octavo_iteration_tokens_total"),
            ),
            Panel("Step duration", "Time of one step of the engine.", "s", quantiles("octavo_step_duration_seconds")),
            Panel(
                "Steps and preemptions",
                "Steps computed per second, and sequences that had to give up their blocks.",
                "ops",
                [
                    Query(summed_rate("octavo_engine_steps_total"), "steps"),
                    Query(summed_rate("octavo_num_preemptions_total"), "preemptions"),
                ],
            ),
            Panel(
                "Refused requests",
                "Requests per second that were refused with 503 because the queue was full.",
                "reqps",
                [Query(summed_rate("octavo_requests_rejected_total", by="instance"), "{{instance}}")],
                width=12,
            ),
            Panel(
                "Engine restarts",
                "Times that the engine process died since the server started.",
                "short",
                [Query(f"octavo_engine_restarts_total{MODEL}", "{{instance}}")],
                width=12,
            ),
        ],
    ),
    Section(
        "Host and GPU",
        [
            Panel(
                "CPU",
                "Cores that each process keeps busy. The API process answers in one thread: near 1 it is the limit.",
                "short",
                [
                    Query(f"rate(process_cpu_seconds_total{INSTANCE}[$__rate_interval])", "API {{instance}}"),
                    Query(
                        f"rate(octavo_engine_process_cpu_seconds_total{INSTANCE}[$__rate_interval])",
                        "engine {{instance}}",
                    ),
                ],
            ),
            Panel(
                "Memory",
                "Memory that each process holds, and what the machine has left.",
                "bytes",
                [
                    Query(f"process_resident_memory_bytes{INSTANCE}", "API {{instance}}"),
                    Query(f"octavo_engine_process_resident_memory_bytes{INSTANCE}", "engine {{instance}}"),
                    Query(f"octavo_host_memory_available_bytes{INSTANCE}", "available {{instance}}"),
                ],
            ),
            Panel(
                "Open files",
                "File descriptors of the API process, mostly connections, and how many it may open.",
                "short",
                [
                    Query(f"process_open_fds{INSTANCE}", "open {{instance}}"),
                    Query(f"process_max_fds{INSTANCE}", "limit {{instance}}"),
                ],
            ),
            Panel(
                "GPU utilisation",
                "Part of the time in which the GPU computed anything.",
                "percentunit",
                [Query(f"octavo_gpu_utilization_ratio{INSTANCE}", "GPU {{gpu}} {{instance}}")],
                width=6,
            ),
            Panel(
                "GPU memory",
                "Memory in use on the GPU by all processes, and all that there is.",
                "bytes",
                [
                    Query(f"octavo_gpu_memory_used_bytes{INSTANCE}", "used, GPU {{gpu}} {{instance}}"),
                    Query(f"octavo_gpu_memory_total_bytes{INSTANCE}", "total, GPU {{gpu}} {{instance}}"),
                ],
                width=6,
            ),
            Panel(
                "GPU temperature",
                "Temperature of the GPU.",
                "celsius",
                [Query(f"octavo_gpu_temperature_celsius{INSTANCE}", "GPU {{gpu}} {{instance}}")],
                width=6,
            ),
            Panel(
                "GPU power",
                "Power that the GPU draws.",
                "watt",
                [Query(f"octavo_gpu_power_watts{INSTANCE}", "GPU {{gpu}} {{instance}}")],
                width=6,
            ),
        ],
    ),
]
