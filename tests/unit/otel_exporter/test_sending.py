"""What is sent arrives, whatever the backend does: over real gRPC and HTTP, to one that is told how to behave."""

import asyncio
import datetime as dt
import time

import grpc
import pytest
from otel_receiver import ANSWER_LOST, AWAY, BAD, Receiver, Refusal
from otel_streams import envelopes, fold, lines

from loopcast.broker.supervisor import Backoff
from loopcast.metrics import Metrics
from loopcast_otel_exporter.answers import SLOWLY, Again, Never, Taken, of_grpc, of_http
from loopcast_otel_exporter.encoding import encode_log, encode_span, logs_head, traces_head
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.pipeline import Pipeline, chunks
from loopcast_otel_exporter.sender import Sender
from loopcast_otel_exporter.transport import GrpcTransport, HttpTransport, Signal

RESOURCE = {"service.name": "loopcast"}


@pytest.fixture
def receiver():
    """A backend that takes everything until a test tells it otherwise."""
    with Receiver() as made:
        yield made


@pytest.fixture(params=["grpc", "http", "http-gzip"])
async def transport(request, receiver):
    """Both ways to the same backend."""
    options = {"headers": {"X-Key": "secret"}, "timeout": 5}
    if request.param == "grpc":
        made = GrpcTransport(receiver.grpc_endpoint, **options)
    else:
        made = HttpTransport(receiver.http_endpoint, compression=request.param == "http-gzip", **options)
    yield made
    await made.close()


def output():
    """Spans and log records of a recorded stream."""
    return fold(envelopes(lines("demo-parent"))).take()


class Buried:
    """The dead letters."""

    def __init__(self):
        self.found = []

    async def __call__(self, signal, request, reason, rejected):
        self.found.append((signal, request, reason, rejected))


def sender(transport, signal=Signal.TRACES):
    """A sender that waits next to nothing between tries."""
    head = traces_head(RESOURCE) if signal is Signal.TRACES else logs_head(RESOURCE)
    return Sender(transport, signal, head, Instruments(Metrics("t", "0")), backoff=Backoff(0.001, 0.01))


async def test_spans_and_logs_arrive_whole(transport, receiver):
    """Every span and record, with the headers that were asked for."""
    made, buried = output(), Buried()

    await sender(transport).send([encode_span(s) for s in made.spans], buried)
    await sender(transport, Signal.LOGS).send([encode_log(r) for r in made.logs], buried)

    assert sorted(s.name for s in made.spans) == receiver.names()
    assert {r.uid for r in made.logs} == set(receiver.logs)
    assert [] == receiver.faults()
    assert "secret" == receiver.headers[0]["x-key"]
    assert [] == buried.found


async def test_a_backend_that_is_away_gets_all_when_it_is_back(transport, receiver):
    """Tried again without limit."""
    left = [20]

    def behave(signal, request):
        left[0] -= 1
        if left[0] > 0:
            raise AWAY

    receiver.behave = behave
    spans = [encode_span(s) for s in output().spans]

    await sender(transport).send(spans, Buried())

    assert (20, len(spans)) == (len(receiver.requests), len(receiver.spans))


async def test_an_answer_that_is_lost_repeats_the_same_bytes(transport, receiver):
    """The backend took it and the answer went: the repeat is byte for byte the same, so nothing is there twice."""
    left = [3]

    def behave(signal, request):
        left[0] -= 1
        if left[0] >= 0:
            raise ANSWER_LOST

    receiver.behave = behave
    spans = [encode_span(s) for s in output().spans]

    await sender(transport).send(spans, Buried())

    assert (4, len(spans), []) == (len(receiver.requests), len(receiver.spans), receiver.faults())


async def test_one_bad_span_is_found_and_the_others_arrive(transport, receiver):
    """Halved down to the one at fault, which lies in the dead letters as a request that can be sent later."""

    def behave(signal, request):
        if any(s.name == "state sub" for r in request.resource_spans for c in r.scope_spans for s in c.spans):
            raise BAD

    receiver.behave = behave
    spans, buried = [encode_span(s) for s in output().spans], Buried()

    await sender(transport).send(spans, buried)

    assert len(spans) - 1 == len(receiver.spans)
    [(signal, request, reason, rejected)] = buried.found
    assert ("traces", 1) == (signal, rejected)
    assert "told to" in reason
    receiver.behave = lambda *_: 0
    assert Taken() == await transport.export(signal, request)
    assert len(spans) == len(receiver.spans)


async def test_partial_success_is_kept_and_not_sent_again(transport, receiver):
    """Which items were refused is not said: the whole request lies in the dead letters, and is sent once."""
    receiver.behave = lambda *_: 2
    spans, buried = [encode_span(s) for s in output().spans], Buried()

    await sender(transport).send(spans, buried)

    assert 1 == len(receiver.requests)
    assert [("traces", "not these", 2)] == [(s, reason, n) for s, _, reason, n in buried.found]


async def test_the_backends_own_delay_is_kept(transport, receiver):
    """RetryInfo and Retry-After: not before."""
    refusals = [Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, retry_after=1)]

    def behave(signal, request):
        if refusals:
            raise refusals.pop()

    receiver.behave = behave
    await sender(transport).send([encode_span(output().spans[0])], Buried())

    first, second = (moment for moment, _, _ in receiver.requests)
    assert second - first >= 1


async def test_a_backend_that_is_not_there_is_waited_for():
    """Connection refused is no answer."""
    transport = HttpTransport("http://127.0.0.1:1", headers={}, timeout=1)
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sender(transport).send([encode_span(output().spans[0])], Buried()), 0.5)
    finally:
        await transport.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, Again("UNAVAILABLE: m")),
        (grpc.StatusCode.CANCELLED, Again("CANCELLED: m")),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Again("DEADLINE_EXCEEDED: m")),
        (grpc.StatusCode.ABORTED, Again("ABORTED: m")),
        (grpc.StatusCode.OUT_OF_RANGE, Again("OUT_OF_RANGE: m")),
        (grpc.StatusCode.DATA_LOSS, Again("DATA_LOSS: m")),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Never("RESOURCE_EXHAUSTED: m")),
        (grpc.StatusCode.INVALID_ARGUMENT, Never("INVALID_ARGUMENT: m")),
        (grpc.StatusCode.INTERNAL, Never("INTERNAL: m")),
        (grpc.StatusCode.UNAUTHENTICATED, Again("UNAUTHENTICATED: m", SLOWLY)),
        (grpc.StatusCode.PERMISSION_DENIED, Again("PERMISSION_DENIED: m", SLOWLY)),
    ],
)
def test_what_a_grpc_status_means(code, expected):
    """OTLP's table, and a login that is refused is no reason to throw data away."""
    assert expected == of_grpc(code, "m", None)


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        (429, "7", Again("HTTP 429: b", 7.0)),
        (503, "Fri, 20 Nov 2026 20:00:30 GMT", Again("HTTP 503: b", 30.0)),
        (502, "soon", Again("HTTP 502: b")),
        (504, None, Again("HTTP 504: b")),
        (400, None, Never("HTTP 400: b")),
        (413, None, Never("HTTP 413: b")),
        (500, None, Never("HTTP 500: b")),
        (401, None, Again("HTTP 401: b", SLOWLY)),
        (301, None, Again("HTTP 301: b", SLOWLY)),
    ],
)
def test_what_an_http_status_means(status, retry_after, expected):
    """OTLP's table, with both forms of Retry-After."""
    now = dt.datetime(2026, 11, 20, 20, 0, tzinfo=dt.UTC)

    assert expected == of_http(status, retry_after, "b", now)


def test_chunks_keep_the_order_and_both_limits():
    """At most three items and five bytes; what is larger alone goes alone."""
    items = [b"aa", b"bb", b"c", b"dddddddd", b"e", b"f", b"g", b"h"]

    expected = [[b"aa", b"bb", b"c"], [b"dddddddd"], [b"e", b"f", b"g"], [b"h"]]
    assert expected == [list(chunk) for chunk in chunks(items, 3, 5)]


async def test_one_batch_is_on_its_way_and_the_next_waits(receiver):
    """A backend that is away stops the caller at the second flush: memory does not grow."""
    receiver.behave = lambda *_: time.sleep(0.3)
    transport = GrpcTransport(receiver.grpc_endpoint, headers={}, timeout=5)
    pipeline = Pipeline(sender(transport), None, Buried(), max_items=512, max_bytes=10**6)
    done = []

    async def after():
        done.append(len(receiver.spans))

    try:
        pipeline.add(output())
        await pipeline.flush(after)
        assert [] == done
        pipeline.add(output())
        await pipeline.flush()
        assert [len(output().spans)] == done
    finally:
        await pipeline.close()
        await transport.close()
