"""What is remembered of requests is bounded, whoever sends them."""

import gc
import tracemalloc

from loopcast.settings import ProducerSettings
from loopcast_producer.app import service_of
from loopcast_producer.envelopes import Origin, cloudevent
from loopcast_producer.remembered import MAX_LENGTH, remembered

LONG = b"x" * 60_000


async def test_a_stranger_leaves_nothing_behind():
    """Paths, hosts, origins and types of 60 KB are answered, and not kept: nobody knows yet who sends them."""
    api = service_of(ProducerSettings(amqp_url="amqp://127.0.0.1:1/", jwt_secret="x" * 40)).app

    async def answer(path, *headers):
        async def receive():
            return {"type": "http.disconnect"}

        return (await api.respond("POST", path, headers, receive)).status

    local = (b"host", b"127.0.0.1")
    requests = [
        lambda n: (b"/v1/experiments/%d%b/events" % (n, LONG), local),
        lambda n: (b"/v1/experiments/%d%b/runs/r/heartbeat" % (n, LONG), local),
        lambda n: (b"/v1/events", (b"host", b"%d%b" % (n, LONG))),
        lambda n: (b"/v1/events", local, (b"origin", b"https://%d%b" % (n, LONG))),
    ]
    assert [401, 401, 403, 403] == [await answer(*request(0)) for request in requests]
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(1, 50):
            for request in requests:
                await answer(*request(n))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 10 * len(LONG)


async def test_a_sender_leaves_nothing_behind():
    """Nor are long sources kept, of requests and of CloudEvents, whose runs are derived from them."""
    raw = b'{"specversion":"1.0","id":"1","source":"%d%b","type":"t","data":{}}'
    api = service_of(ProducerSettings(amqp_url="amqp://127.0.0.1:1/")).app

    async def receive():
        return {"type": "http.request", "body": b"{}"}

    gc.collect()
    tracemalloc.start()
    try:
        for n in range(50):
            source = b"%d%b" % (n, LONG)
            kind = (b"content-type", b"application/json;x=" + source)
            headers = [(b"host", b"127.0.0.1"), (b"loopcast-source", source), kind]
            assert 503 == (await api.respond("POST", b"/v1/experiments/e/events", headers, receive)).status
            cloudevent(raw % (n, LONG), Origin(experiment="e"), max_bytes=100_000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 10 * len(LONG)


def test_an_answer_is_asked_for_once():
    """What was asked before is known, until there are too many; long questions are asked each time."""
    asked = []

    def answer(question):
        asked.append(question)
        return len(asked)

    known = remembered(answer, entries=2)
    long = ("x" * MAX_LENGTH, None, b"y")

    assert [1, 2, 1, 2] == [known(question) for question in (("a", None), "b", ("a", None), "b")]
    assert [3, 4] == [known(long), known(long)]
    assert [5, 6, 5] == [known(question) for question in ("c", "b", "c")]
