"""Checks a whole configuration of ``octavo serve`` without starting it, and finds every problem at once.

What serve itself would check is asked of the same functions, so that both say the same. Nothing is downloaded, and no
weight is read.
"""

from __future__ import annotations

from collections.abc import Iterable

from octavo.config.schema import ServerConfig
from octavo.config.sources import PartialConfig
from octavo.doctor.combinations import check_combinations
from octavo.doctor.findings import Findings
from octavo.doctor.listening import check_listening
from octavo.doctor.tracing_check import check_tracing

_OF_ENGINE_SIZE = {"device", "dtype", "max_model_len", "block_size", "gpu_memory_utilization", "kv_cache_memory_bytes"}


def validate(settings: PartialConfig[ServerConfig], problems: Iterable[str] = ()) -> Findings:
    """Check a configuration; a check that would need a value which is wrong is left out.

    Args:
        problems: what is known to be wrong already, one line each.
    """
    findings = Findings()
    config, wrong = settings.config, settings.wrong
    for problem in (*problems, *settings.problems):
        findings.error("settings", problem)
    if not wrong & {"host", "port"}:
        check_listening(config, findings)
    check_tracing(config, findings)
    check_combinations(config, findings)
    if wrong & {"model", "revision", "tokenizer", "load_format"}:
        return findings
    from octavo.doctor.model_check import check_model  # these load torch, which wrong settings need not wait for

    kind = check_model(config, findings)
    if kind is not None and not wrong & {"lora_modules", "max_lora_rank", "max_cpu_loras"}:
        from octavo.doctor.adapter_check import check_adapters

        check_adapters(config, kind, findings)
    if kind is not None and not wrong & _OF_ENGINE_SIZE:
        from octavo.doctor.memory_check import check_memory

        check_memory(config, kind, findings)
    return findings
