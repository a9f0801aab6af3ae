"""The producer as a process, over HTTP, with a real RabbitMQ behind it."""

import asyncio
import gzip
import json
import re
import signal
import socket
import time

import httpx
import pytest
from processes import Producer, read_log

from loopcast.events import parse, slice_data


@pytest.fixture(scope="module")
def producer(module_vhost_url, tmp_path_factory):
    """One producer for the module."""
    with Producer(module_vhost_url, tmp_path_factory.mktemp("producer") / "log") as running:
        yield running


@pytest.fixture
def log_of(module_vhost_url):
    """Reads what the log has of an experiment, once `count` of its events are there."""

    async def read(experiment, count):
        for _ in range(50):
            found = [m for m in await read_log(module_vhost_url, quiet=0.3) if m.headers["experiment"] == experiment]
            if len(found) >= count:
                break
        return found

    return read


CE_ID = "0192f0c1-0000-7000-8000-%012d"


def statuses(answer):
    return [event["status"] for event in answer.json()["events"]]


async def test_one_event_is_in_the_log_when_202_comes(producer, log_of):
    """The answer comes after the broker's confirm, and the log has the event byte for byte under its envelope."""
    raw = b'{"event":"loop_start","ts":"2026-11-20T17:38:28.606955+00:00","loop":"demo","n":1e999}'
    before = time.time()

    caller = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "rojo=1, congo=2"}
    answer = producer.post(raw, "one%2Fevent", loopcast_run="r1", **caller)

    assert 202 == answer.status_code
    assert {"accepted": 1, "duplicates": 0, "invalid": 0} == {k: v for k, v in answer.json().items() if k != "events"}
    (message,) = await log_of("one/event", 1)
    event = parse(message.body)
    assert raw == slice_data(message.body)
    assert (answer.json()["events"][0]["id"], "loop_start", "one%2Fevent.loop_start") == (
        event.id, event.type, message.routing_key,
    )  # fmt: skip
    assert ("one/event", "r1", "demo", "2026-11-20T17:38:28.606955Z", f"00-{'a' * 32}-{'b' * 16}-01") == (
        event.experiment, event.run, event.subject, event.time, event.traceparent,
    )  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{16}", event.emitter)
    assert ("00000000000000000001", True) == (event.sequence, before - 1 < event.recorded / 1e6 < time.time() + 1)
    headers = {name: value for name, value in message.headers.items() if not name.startswith("x-stream-off")}
    assert {
        "experiment": "one/event",
        "run": "r1",
        "emitter": event.emitter,
        "sequence": 1,
        "recorded": event.recorded,
        "partition": 0,
        "traceparent": event.traceparent,
        "tracestate": "rojo=1,congo=2",
        "x-stream-filter-value": "one%2Fevent",
    } == headers
    assert (event.id, "loopcast", "application/cloudevents+json", 2) == (
        message.message_id, message.app_id, message.content_type, message.delivery_mode,
    )  # fmt: skip


async def test_an_array_is_numbered_in_its_order(producer, log_of):
    """A batch keeps its order in the log, its numbers and its times grow, and a bad item refuses only itself."""
    body = (
        b'[{"event":"a"},{"event":"b c"},7,{"event":"c"},{"event":"d","x":"' + b"y" * 1_100_000 + b'"},{"event":"e"}]'
    )

    answer = producer.post(body, "array", loopcast_run="r")

    assert ["accepted", "invalid", "invalid", "accepted", "invalid", "accepted"] == statuses(answer)
    assert 202 == answer.status_code
    errors = [event.get("error", "") for event in answer.json()["events"]]
    assert "joined by dots" in errors[1]
    assert "JSON object" in errors[2]
    assert "1,048,576 bytes" in errors[4]
    events = [parse(message.body) for message in await log_of("array", 3)]
    assert ["a", "c", "e"] == [event.type for event in events]
    assert [1, 2, 3] == [event.number for event in events]
    assert events[0].recorded < events[1].recorded < events[2].recorded


async def test_ndjson_streams_without_a_length(producer, log_of):
    """Lines are taken as they come, chunked, and each is a result of its own."""
    lines = [b'{"event":"line","n":%d}\n' % n for n in range(3000)]

    def chunks():
        text = b"".join(lines) + b"{broken\n" + b'{"event":"last"}'
        for start in range(0, len(text), 7001):
            yield text[start : start + 7001]

    answer = producer.post(chunks(), "lines", "application/x-ndjson")

    assert 202 == answer.status_code
    assert (3001, 1) == (answer.json()["accepted"], answer.json()["invalid"])
    assert "invalid" == statuses(answer)[3000]
    messages = await log_of("lines", 3001)
    assert [b.strip() for b in lines] == [slice_data(message.body) for message in messages[:-1]]


async def test_events_are_taken_while_their_stream_is_open(producer, log_of):
    """A line is in the log before the next one is sent: a stream that stays open is live."""
    came = asyncio.Event()

    async def lines():
        yield b'{"event":"first"}\n'
        await came.wait()
        yield b'{"event":"second"}\n'

    async with httpx.AsyncClient(timeout=60) as client:
        request = asyncio.create_task(
            client.post(
                f"{producer.url}/v1/experiments/live/events",
                content=lines(),
                headers={"content-type": "application/x-ndjson"},
            )
        )
        (message,) = await log_of("live", 1)
        assert b'{"event":"first"}' == slice_data(message.body)
        came.set()
        assert 2 == (await request).json()["accepted"]


async def test_cloudevents_keep_their_attributes(producer, log_of):
    """What the SDK stamped is what the log has, the producer's time of taking it added."""
    events = [
        {
            "specversion": "1.0", "id": CE_ID % n, "source": "/experiments/ce/runs/r", "type": "state_enter",
            "experimentid": "ce", "runid": "r", "attempt": 1, "emitter": "0123456789abcdef", "sequence": f"{n:020}",
            "data": {"n": n},
        }
        for n in (1, 2)
    ]  # fmt: skip

    answer = producer.post(json.dumps(events), "ce", "application/cloudevents-batch+json")
    one = producer.post(json.dumps({**events[0], "id": CE_ID % 3}), "ce", "application/cloudevents+json")

    assert (["accepted"] * 2, ["accepted"]) == (statuses(answer), statuses(one))
    messages = await log_of("ce", 3)
    assert [CE_ID % n for n in (1, 2, 3)] == [message.message_id for message in messages]
    assert [1, 2, 1] == [message.headers["sequence"] for message in messages]
    assert {"0123456789abcdef"} == {message.headers["emitter"] for message in messages}


async def test_the_same_id_is_published_once(producer, log_of):
    """A repeat of a confirmed id is a duplicate, in the same request and in a later one; it is not in the log again."""
    event = {"specversion": "1.0", "id": "same", "source": "urn:s", "type": "t", "data": {}}

    first = producer.post(json.dumps([event, event]), "again", "application/cloudevents-batch+json")
    second = producer.post(json.dumps(event), "again", "application/cloudevents+json")
    elsewhere = producer.post(json.dumps({**event, "source": "urn:other"}), "again", "application/cloudevents+json")

    assert ["accepted", "duplicate"] == statuses(first)
    assert (["duplicate"], 1) == (statuses(second), second.json()["duplicates"])
    assert ["accepted"] == statuses(elsewhere)
    assert ["urn:s", "urn:other"] == [parse(m.body).source for m in await log_of("again", 2)]


async def test_an_idempotency_key_makes_plain_events_repeatable(producer, log_of):
    """The same request with the same key is a repeat; such events are known by their ids, not by a number of ours."""
    body = b'[{"event":"a"},{"event":"b"}]'

    answers = [producer.post(body, "keyed", idempotency_key="k-1") for _ in range(2)]

    assert [["accepted"] * 2, ["duplicate"] * 2] == list(map(statuses, answers))
    assert answers[0].json()["events"][0]["id"] == answers[1].json()["events"][0]["id"]
    messages = await log_of("keyed", 2)
    assert ["a", "b"] == [message.type for message in messages]
    assert {None} == {message.headers.get("sequence") for message in messages}


async def test_events_that_name_their_own_experiment(producer, log_of):
    """On /v1/events each event goes where it says, made to fit, or to nowhere in particular."""
    answer = producer.post(
        json.dumps([{"experiment_id": 4711, "type": "run.started"}, {"experiment_id": "a/b", "type": "odd one"}, {}]),
        None,
    )

    assert ["accepted"] * 3 == statuses(answer)
    assert ["4711.run.started"] == [m.routing_key for m in await log_of("4711", 1)]
    assert ["a%2Fb.odd%20one"] == [m.routing_key for m in await log_of("a/b", 1)]
    assert ["~.message"] == [m.routing_key for m in await log_of("~", 1)]


def test_gzip_is_taken(producer):
    """A compressed body is what it unpacks to."""
    body = gzip.compress(b'[{"event":"a"},{"event":"b"}]')

    assert ["accepted"] * 2 == statuses(producer.post(body, "packed", content_encoding="gzip"))


BAD = {
    "not json": (b"hello", {}, 400, "not JSON"),
    "cut off": (b'{"event":', {}, 400, "ends in the middle"),
    "empty": (b"", {}, 400, "empty"),
    "not an object": (b"42", {}, 422, "JSON object"),
    "a text": (b'"hello"', {}, 422, "JSON object"),
    "bad type": (b'{"event":"a b"}', {}, 422, "joined by dots"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400, "deeper than 200"),
    "deep array": (b"[" * 100_000 + b"]" * 100_000, {}, 400, "too deep"),
    "event too large": (b'{"a":"' + b"x" * 1_100_000 + b'"}', {}, 413, "LOOPCAST_MAX_EVENT_BYTES"),
    "100 MB": (b'{"a":"' + b"x" * 100_000_000 + b'"}', {}, 413, "67,108,864 bytes"),
    "wrong type": (b"a=b", {"content_type": "application/x-www-form-urlencoded"}, 415, "curl: -H"),
    "wrong encoding": (b"{}", {"content_encoding": "br"}, 415, "gzip"),
    "no gzip": (b"{}", {"content_encoding": "gzip"}, 400, "not gzip"),
    "bomb": (gzip.compress(b"[" + b" " * 60_000_000 + b"]"), {"content_encoding": "gzip"}, 413, "unpacks to more than"),
    "half a gzip": (gzip.compress(b"{}" * 99)[:20], {"content_encoding": "gzip"}, 400, "cut off"),
    "no cloudevent": (b'{"event":"a"}', {"content_type": "application/cloudevents+json"}, 422, "CloudEvent"),
    "empty experiment": (b"{}", {"experiment": ""}, 422, "empty"),
    "long experiment": (b"{}", {"experiment": "x" * 256}, 422, "at most 255"),
    "control character": (b"{}", {"experiment": "a%0Ab"}, 422, "control character"),
    "not utf-8": (b"{}", {"experiment": "%ff"}, 422, "UTF-8"),
    "reserved": (b"{}", {"experiment": "~"}, 422, "reserved"),
    "bare slash": (b"{}", {"experiment": "a/b"}, 404, "%2F"),
    "bad run": (b"{}", {"loopcast_run": "r" * 256}, 422, "Loopcast-Run"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_words(producer, name):
    """Each kind has its status and a sentence that helps, and the next event is taken as if nothing had been."""
    body, how, status, words = BAD[name]

    answer = producer.post(body, **how)

    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    problem = answer.json()
    assert words in problem["detail"]
    assert status == problem["status"]
    assert problem["type"].startswith("urn:loopcast:problem:")
    assert ["accepted"] == statuses(producer.post(b"{}", "after"))


def test_a_wrong_method_and_a_wrong_address(producer):
    """405 says which method, 404 which address."""
    wrong = httpx.get(f"{producer.url}/v1/events")
    nowhere = httpx.post(f"{producer.url}/v1/event")

    assert (405, "POST") == (wrong.status_code, wrong.headers["allow"])
    assert (404, True) == (nowhere.status_code, "/v1/experiments/<experiment>/events" in nowhere.json()["detail"])


def test_a_large_body_of_lines_takes_little_memory(producer):
    """100 MB of lines go through in the memory that a few lines take."""
    line = b'{"event":"bulk","text":"' + b"x" * 50_000 + b'"}\n'

    def lines():
        for _ in range(2000):
            yield line

    before = producer.metric("process_resident_memory_bytes")
    answer = producer.post(lines(), "bulk", "application/x-ndjson")

    assert (202, 2000) == (answer.status_code, answer.json()["accepted"])
    assert producer.metric("process_resident_memory_bytes") - before < 60_000_000


def test_a_client_that_goes_away_is_forgotten(producer):
    """Half a body and a closed connection leave nothing behind, not even a line in the log."""
    size = producer.log.stat().st_size
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-"
    for half in (head, head + b'Type: application/json\r\nContent-Length: 100\r\n\r\n{"ev'):
        with socket.create_connection(("127.0.0.1", producer.port)) as s:
            s.sendall(half)

    assert ["accepted"] == statuses(producer.post(b"{}", "after"))
    assert "" == producer.log.read_text()[size:]


def test_openapi_documents_both_addresses(producer):
    """The document has both routes with their content types, answers and headers, and is at two addresses itself."""
    document = httpx.get(f"{producer.url}/v1/openapi.json").json()
    assert document == httpx.get(f"{producer.url}/openapi.json").json()

    operations = [document["paths"][path]["post"] for path in ("/v1/experiments/{experiment}/events", "/v1/events")]
    for operation in operations:
        assert {"application/json", "application/x-ndjson", "application/cloudevents+json",
                "application/cloudevents-batch+json"} == set(operation["requestBody"]["content"])  # fmt: skip
        assert {"202", "400", "408", "413", "415", "422", "503"} <= set(operation["responses"])
        assert {"Loopcast-Run", "Loopcast-Source", "Idempotency-Key"} <= {p["name"] for p in operation["parameters"]}


def test_metrics_count_events_and_answers(producer):
    """What was accepted and what was refused shows, without an experiment in any label."""
    accepted, invalid = (f'loopcast_producer_events_total{{status="{s}"}}' for s in ("accepted", "invalid"))
    answered = 'loopcast_producer_requests_total{status="422"}'
    before = [producer.metric(name) for name in (accepted, invalid, answered)]

    producer.post(b'[{},{"event":" "}]', "counted")
    producer.post(b'{"event":" "}', "counted")

    assert [1, 2, 1] == [producer.metric(n) - b for n, b in zip((accepted, invalid, answered), before, strict=True)]
    assert "counted" not in httpx.get(f"{producer.ops_url}/metrics").text


async def test_partitions_each_have_their_log(broker, tmp_path):
    """With several partitions each experiment's events go to one stream, in order, numbered without a hole."""
    url = broker.add_vhost("test-partitions")
    with Producer(url, tmp_path / "log", LOOPCAST_PARTITIONS="3") as producer:
        for _ in range(3):
            body = json.dumps([{"experiment_id": f"e{n}", "n": n} for n in range(30)])
            assert 30 == producer.post(body, None, loopcast_run="shared").json()["accepted"]
        found = {}
        for n in range(3):
            last = {}
            for message in await read_log(url, f"loopcast.log.{n}", quiet=0.5):
                key = (message.headers["run"], message.headers["emitter"])
                assert last.get(key, 0) + 1 == message.headers["sequence"]
                last[key] = message.headers["sequence"]
                found.setdefault(message.headers["experiment"], set()).add(n)
    broker.delete_vhost("test-partitions")

    assert {f"e{n}" for n in range(30)} == set(found)
    assert {1} == set(map(len, found.values()))
    assert {0, 1, 2} == set.union(*found.values())


def test_sigterm_finishes_what_is_in_flight(module_vhost_url, tmp_path):
    """A request that has begun is answered; then the process ends with 0."""
    with Producer(module_vhost_url, tmp_path / "log") as producer, socket.socket() as s:
        s.connect(("127.0.0.1", producer.port))
        s.settimeout(20)
        s.sendall(b"POST /v1/experiments/last/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 16\r\n\r\n{\"event\"")  # fmt: skip
        time.sleep(0.3)
        producer.process.send_signal(signal.SIGTERM)
        assert "draining" in producer.wait(status=503)
        s.sendall(b':"last"}')
        answer = s.recv(65536)

        assert b"202" == answer[9:12]
        assert 0 == producer.process.wait(20)


def test_sigterm_tells_an_open_stream_how_far_it_came(module_vhost_url, tmp_path):
    """A stream without an end holds up no restart: it is answered with what was taken of it, and goes on elsewhere."""
    head = "POST /v1/experiments/last/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    line = b'{"event":"last"}\n'
    with Producer(module_vhost_url, tmp_path / "log", LOOPCAST_DRAIN_SECONDS="4") as producer, socket.socket() as s:
        s.connect(("127.0.0.1", producer.port))
        s.settimeout(20)
        s.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + b"11\r\n" + line + b"\r\n")
        producer.process.send_signal(signal.SIGTERM)
        assert "draining" in producer.wait(status=503)
        s.sendall(b"11\r\n" + line + b"\r\n")
        raw = b""
        while data := s.recv(65536):
            raw += data
        head, _, body = raw.partition(b"\r\n\r\n")

        assert (b"503", True) == (head[9:12], b"retry-after: 1" in head)
        problem = json.loads(body)
        assert ("urn:loopcast:problem:going-away", 2) == (problem["type"], problem["accepted"])
        assert 0 == producer.process.wait(20)


def post_request(body, *more, path="/v1/experiments/wire/events", version="1.1"):
    head = "".join(f"{line}\r\n" for line in ("Host: localhost", "Content-Type: application/json", *more))
    return f"POST {path} HTTP/{version}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read_answers(s, count):
    """Status and body of `count` answers, and what came after them."""
    data, answers = b"", []
    while len(answers) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        size = int(re.search(rb"content-length: (\d+)", head)[1]) if end else 0
        if end and len(rest) >= size:
            answers.append((int(head[9:12]), json.loads(rest[:size])))
            data = rest[size:]
            continue
        received = s.recv(65536)
        assert received, (answers, data)
        data += received
    return answers, data


async def test_pipelined_requests_are_answered_in_order(producer, log_of):
    """Requests that come before the last is answered wait for it, in their order, whatever way each goes."""
    requests = [
        post_request(b'{"event":"p","n":1}'),
        post_request(b'{"event":"p","n":2}', "Content-Encoding: identity"),
        b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post_request(b"{broken"),
        post_request(b'{"event":"p","n":3}', path="/v1/experiments/wire/events?query=1"),
        post_request(b'{"event":"p","n":4}'),
    ]
    with socket.create_connection(("127.0.0.1", producer.port)) as s:
        s.settimeout(20)
        s.sendall(b"".join(requests))
        answers, rest = read_answers(s, len(requests))
        s.sendall(requests[0])
        read_answers(s, 1)

    assert ([202, 202, 200, 400, 202, 202], b"") == ([status for status, _ in answers], rest)
    assert [1, 2, 3, 4, 1] == [json.loads(slice_data(message.body))["n"] for message in await log_of("wire", 5)]


@pytest.mark.parametrize(("more", "version"), [(["Connection: close"], "1.1"), ([], "1.0")])
def test_a_connection_that_is_not_kept_is_closed(producer, more, version):
    """A client that wants no more gets its answer and the end."""
    with socket.create_connection(("127.0.0.1", producer.port)) as s:
        s.settimeout(20)
        s.sendall(post_request(b"{}", *more, version=version))
        ((status, _),), rest = read_answers(s, 1)

        assert (202, b"", b"") == (status, rest, s.recv(1))


def test_a_body_is_asked_for_where_the_client_waits(producer):
    """`Expect: 100-continue` is answered, also where the body will be refused."""
    with socket.create_connection(("127.0.0.1", producer.port)) as s:
        s.settimeout(20)
        request = post_request(b'{"event":"x"}', "Expect: 100-continue")
        s.sendall(request[:-13])
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == s.recv(100)
        s.sendall(request[-13:])
        ((status, _),), _ = read_answers(s, 1)

    assert 202 == status
