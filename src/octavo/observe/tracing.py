"""OpenTelemetry traces over OTLP: set up when a collector is named, flushed at the end, and never in the way.

Everything of OpenTelemetry is imported when tracing is started, since the packages are an extra of this one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from octavo.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_GRPC = "grpc"
_HTTP = "http/protobuf"
_HTTP_PATH = "/v1/traces"
_EXPORTER_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)
_REPEAT_LOG_AFTER_S = 60.0


class TracingError(ValueError):
    """Traces cannot be sent with these settings; the message is for users."""


class Tracing:
    """The way of spans to a collector.

    Spans wait in a bounded queue and are sent in batches by a thread; what does not fit or cannot be sent is lost and
    logged. ``OTEL_BSP_*``, ``OTEL_TRACES_SAMPLER*``, ``OTEL_RESOURCE_ATTRIBUTES`` and the other variables of the
    OpenTelemetry SDK hold.

    Attributes:
        tracer: what makes spans.
        with_content: whether prompts and outputs may be in them.
    """

    def __init__(self, provider: TracerProvider, exporter: SpanExporter, *, with_content: bool) -> None:
        self._provider = provider
        self._exporter = exporter
        self.tracer = provider.get_tracer("octavo", __version__)
        self.with_content = with_content

    def shutdown(self, timeout_s: float) -> bool:
        """Send what still waits, for ``timeout_s`` at most; returns whether there was time enough."""
        # In a thread that does not keep the process alive: the SDK itself would wait half a minute for a collector.
        flushing = threading.Thread(target=self._provider.shutdown, name="trace-flush", daemon=True)
        flushing.start()
        flushing.join(timeout_s)
        if flushing.is_alive():
            self._exporter.shutdown()  # ends the waiting between two tries
        return not flushing.is_alive()


def start_tracing(endpoint: str, *, with_content: bool = False, environ: Mapping[str, str] = os.environ) -> Tracing:
    """Get ready to send spans to the OpenTelemetry collector at ``endpoint``.

    The protocol is gRPC, or HTTP if ``OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`` (or the one for all signals) is
    ``http/protobuf``. Headers, certificates, compression and timeouts come from the ``OTEL_EXPORTER_OTLP_*`` variables.
    Whether a collector listens is not checked.

    Raises:
        TracingError: the packages are not installed, or the endpoint, the protocol or another variable is wrong.
    """
    protocol = next((environ[name] for name in _PROTOCOL_VARIABLES if environ.get(name)), _GRPC)
    if protocol not in (_GRPC, _HTTP):
        names = " or ".join(_PROTOCOL_VARIABLES)
        raise TracingError(f"the protocol of traces must be {_GRPC} or {_HTTP}, not {protocol!r} ({names})")
    _check_endpoint(endpoint, protocol)
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        make_exporter = _make_grpc_exporter if protocol == _GRPC else _make_http_exporter
        exporter = make_exporter(endpoint)
    except ImportError as error:
        raise TracingError(
            f"otlp_traces_endpoint needs packages that are not installed ({error.name}): pip install 'octavo[otel]'"
        ) from None
    except Exception as error:  # whatever the SDK finds in its variables; they have no other check
        raise TracingError(f"traces cannot be sent to {endpoint}: {error} (see the OTEL_* variables)") from error
    for name in _EXPORTER_LOGGERS:
        logging.getLogger(name).filters = [_NotOften()]
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, exporter, with_content=with_content)


def _check_endpoint(endpoint: str, protocol: str) -> None:
    try:
        parts = urlsplit(endpoint)
        has_password = "@" in parts.netloc
        is_complete = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_password = is_complete = False
    if has_password:  # it would be repeated in the log with each failure
        raise TracingError(
            "otlp_traces_endpoint must not hold a user name or password; put credentials into "
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS, e.g. 'authorization=Bearer%20KEY'"
        )
    if protocol == _GRPC and "://" not in endpoint:
        host, _, port = endpoint.rpartition(":")
        is_complete = bool(host) and port.isdecimal()
    if not is_complete or (protocol == _HTTP and parts.scheme not in ("http", "https")):
        example = "http://localhost:4317" if protocol == _GRPC else f"http://localhost:4318{_HTTP_PATH}"
        raise TracingError(f"otlp_traces_endpoint {endpoint!r} is not the address of a collector, like {example}")


def _make_grpc_exporter(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint)


def _make_http_exporter(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    has_path = urlsplit(endpoint).path.strip("/") != ""
    return OTLPSpanExporter(endpoint=endpoint if has_path else endpoint.rstrip("/") + _HTTP_PATH)


def _resource() -> Resource:
    """Say who sends: ``octavo``, unless ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` say otherwise."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    named = OTELResourceDetector().detect().attributes
    return Resource.create({"service.name": "octavo", "service.version": __version__, **named})


class _NotOften(logging.Filter):
    """Lets a message through once a minute: a collector that is away is news, not with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self._last_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is logged."""
        now = time.monotonic()
        if now - self._last_at.get(record.msg, float("-inf")) < _REPEAT_LOG_AFTER_S:
            return False
        self._last_at[record.msg] = now
        return True
