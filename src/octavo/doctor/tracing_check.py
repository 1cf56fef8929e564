"""Traces: whether they could be sent with these settings. Whether a collector listens is not asked."""

from __future__ import annotations

from octavo.config.schema import ServerConfig
from octavo.doctor.findings import Findings
from octavo.observe.tracing import TracingError, start_tracing

_SHUTDOWN_TIMEOUT_S = 5.0


def check_tracing(config: ServerConfig, findings: Findings) -> None:
    """Get ready to send traces, as a server does, and send none."""
    if config.otlp_traces_endpoint is None:
        return
    try:
        start_tracing(config.otlp_traces_endpoint).shutdown(_SHUTDOWN_TIMEOUT_S)
    except TracingError as error:
        findings.error("tracing", str(error))
