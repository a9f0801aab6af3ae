"""
Calls as OpenTelemetry spans, linked to the traces of their events; nothing unless `OTEL_*` variables ask for it.

A call carries the events of many traces, so its span has a link to each instead of a parent
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/), and sends its own `traceparent`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from loopcast.broker.interface import Delivery
from loopcast.trace_context import context_of
from loopcast_webhook_forwarder.answers import Answer, Delivered, Fault, judge

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link

__all__ = ["CallSpan", "Tracing"]

SERVICE = "loopcast-webhook-forwarder"
MAX_LINKS = 128
"""What the SDK keeps of a span's links by default (`OTEL_SPAN_LINK_COUNT_LIMIT`)."""


class CallSpan(Protocol):
    """One call while it is made."""

    @property
    def headers(self) -> dict[str, str]:
        """What tells the endpoint of this span."""
        ...

    def ended(self, outcome: Answer | Fault) -> None:
        """What came of it."""
        ...


class Tracing:
    """Makes spans with `provider`, or none without one."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer(SERVICE)

    def close(self) -> None:
        """Send what is left. Blocking."""
        if self._provider is not None:
            self._provider.shutdown()

    @contextmanager
    def call(self, endpoint: str, url: str, events: Sequence[Delivery], attempt: int) -> Iterator[CallSpan]:
        """Trace one call while the block runs."""
        if self._tracer is None:
            yield _Untraced()
            return
        from opentelemetry.trace import SpanKind

        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "server.address": _host(url),
            "messaging.system": "rabbitmq",
            "messaging.batch.message_count": len(events),
            "loopcast.webhook.endpoint": endpoint,
            "loopcast.webhook.attempt": attempt,
        }
        links = list(_links(events))
        with self._tracer.start_as_current_span(
            f"POST {endpoint}", kind=SpanKind.CLIENT, links=links, attributes=attributes
        ) as span:
            yield _Traced(span)


class _Untraced:
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it

    def ended(self, outcome: Answer | Fault) -> None:
        """Nobody asked."""


class _Traced:
    def __init__(self, span: object) -> None:
        self._span = span

    @property
    def headers(self) -> dict[str, str]:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier

    def ended(self, outcome: Answer | Fault) -> None:
        from opentelemetry.trace import Span, StatusCode

        assert isinstance(self._span, Span)
        if isinstance(outcome, Answer):
            self._span.set_attribute("http.response.status_code", outcome.status)
        if not isinstance(judge(outcome), Delivered):
            self._span.set_status(StatusCode.ERROR, outcome.sentence)


def _links(events: Iterable[Delivery]) -> Iterator[Link]:
    """A link to each event's own trace, each once."""
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    found = (context_of(event.headers) for event in events)
    seen = {context.parent: context.state or "" for context in found if context.parent is not None}
    for parent, state in list(seen.items())[:MAX_LINKS]:
        extracted = propagator.extract({"traceparent": parent, "tracestate": state})
        context = get_current_span(extracted).get_span_context()
        if context.is_valid:
            yield Link(context)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
