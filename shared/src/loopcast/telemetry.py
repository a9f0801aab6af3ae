"""
A service's own telemetry: spans of what it publishes and processes, by the OpenTelemetry SDK.

Off unless somebody configures it with the standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT` or its `_TRACES_` form, or
`OTEL_TRACES_EXPORTER`; https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). It has
nothing to do with the traces of loops, which come from the log under ids of their own: these spans have a service name
and a provider of their own, and links to the contexts in which events were made, not parents, as the messaging
conventions have it for batches (semantic conventions 1.44, "Messaging spans"; Development).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from loopcast.broker.interface import Delivery
from loopcast.errors import ConfigurationError
from loopcast.trace_context import TraceContext, context_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Link

__all__ = ["Telemetry", "is_configured", "provider_of_environment"]

MAX_LINKS = 128
CLOSE_SECONDS = 5.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_configured(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the standard variables ask for traces."""
    environ = os.environ if environ is None else environ
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(map(environ.get, _ENDPOINTS)) or environ.get("OTEL_TRACES_EXPORTER", "") != ""


class Telemetry:
    """
    The spans of one service.

    Args:
        service: its `service.name`, where `OTEL_SERVICE_NAME` names no other.
        version: its `service.version`.

    Raises:
        ConfigurationError: it is configured, and the SDK is not installed.
    """

    def __init__(self, service: str, version: str) -> None:
        self._provider = provider_of_environment(service, version)

    @property
    def is_on(self) -> bool:
        """Whether anything is recorded."""
        return self._provider is not None

    def publishing(
        self, destination: str, count: int, contexts: Iterable[TraceContext] = ()
    ) -> AbstractContextManager[None]:
        """A batch is being published to `destination`, an exchange; the contexts that made it are linked."""
        return _NOTHING if self._provider is None else self._span("publish", destination, count, contexts)

    def processing(
        self, source: str, count: int, contexts: Iterable[TraceContext] = ()
    ) -> AbstractContextManager[None]:
        """A batch from `source`, a stream or queue, is being processed; the contexts that made it are linked."""
        return _NOTHING if self._provider is None else self._span("process", source, count, contexts)

    def reading(self, source: str, deliveries: Sequence[Delivery]) -> AbstractContextManager[None]:
        """The same of a batch as it was delivered; where nothing is recorded, nothing is looked at."""
        if self._provider is None:
            return _NOTHING
        return self.processing(source, len(deliveries), _contexts(deliveries))

    def close(self) -> None:
        """Send what is left, as far as that goes in five seconds: a receiver that is away must not hold the end up."""
        if self._provider is not None:
            thread = threading.Thread(target=self._provider.shutdown, name="telemetry-close", daemon=True)
            thread.start()
            thread.join(CLOSE_SECONDS)

    @contextlib.contextmanager
    def _span(self, operation: str, destination: str, count: int, contexts: Iterable[TraceContext]) -> Iterator[None]:
        from opentelemetry.trace import SpanKind

        assert self._provider is not None
        publishes = operation == "publish"
        attributes: dict[str, str | int] = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": operation,
            "messaging.operation.type": "send" if publishes else "process",
            "messaging.destination.name": destination,
            "messaging.batch.message_count": count,
        }
        span = self._provider.get_tracer("loopcast").start_as_current_span(
            f"{operation} {destination}",
            kind=SpanKind.PRODUCER if publishes else SpanKind.CONSUMER,
            attributes=attributes,
            links=_links(contexts),
        )
        with span:
            yield


_NOTHING = contextlib.nullcontext()


def _contexts(deliveries: Sequence[Delivery]) -> Iterator[TraceContext]:
    return (context_of(delivery.headers) for delivery in deliveries)


def provider_of_environment(service: str, version: str) -> TracerProvider | None:
    """
    The SDK's tracer provider that the standard variables describe; None where they ask for none.

    Raises:
        ConfigurationError: they ask, and the SDK is not installed.
    """
    return _provider(service, version) if is_configured() else None


def _provider(service: str, version: str) -> TracerProvider:
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigurationError(
            "OTEL_* variables ask for the service's own traces: unset them, or, in a checkout of Loopcast, "
            "pip install './shared[telemetry]'."
        ) from None
    named = {"service.version": version}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        named["service.name"] = service
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    return provider


def _exporter() -> SpanExporter:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _links(contexts: Iterable[TraceContext]) -> list[Link]:
    """A link to each span, the first of them where there are many."""
    from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

    links: dict[str, Link] = {}
    for parent, state in contexts:
        if parent is None or parent in links:
            continue
        _, trace, span, flags = parent.split("-")
        members = TraceState.from_header([state]) if state else None
        context = SpanContext(int(trace, 16), int(span, 16), True, TraceFlags(int(flags, 16)), members)
        links[parent] = Link(context)
        if len(links) == MAX_LINKS:
            break
    return list(links.values())
