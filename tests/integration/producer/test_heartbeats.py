"""Heartbeats of open runs: taken, put where readers can find them, and seen by nobody who did not ask."""

import json

import httpx
import pytest
from processes import Producer, read_log

from loopcast.broker.interface import Delivery
from loopcast.pulse import from_delivery


@pytest.fixture(scope="module")
def producer(module_vhost_url, tmp_path_factory):
    """One producer with two partitions for the module."""
    with Producer(module_vhost_url, tmp_path_factory.mktemp("producer") / "log", LOOPCAST_PARTITIONS="2") as running:
        yield running


def beat(producer, body, experiment="exp", run="r1", **headers):
    url = f"{producer.url}/v1/experiments/{experiment}/runs/{run}/heartbeat"
    return httpx.post(url, content=body, headers={"content-type": "application/json", **headers}, timeout=30)


async def test_a_heartbeat_is_in_the_log_of_its_experiment(producer, module_vhost_url):
    """204 comes when the log has it, in the partition of its experiment and in no other."""
    told = {"pid": 4711, "host": "worker", "emitter": "0123456789abcdef"}
    producer.post(b'{"event":"before"}', "a%2Fb", loopcast_run="r/1")

    answer = beat(producer, json.dumps(told), "a%2Fb", "r%2F1")

    assert (204, b"", None) == (answer.status_code, answer.content, answer.headers.get("content-length"))
    logs = [await read_log(module_vhost_url, f"loopcast.log.{n}", quiet=0.5) for n in range(2)]
    (log,) = [messages for messages in logs if messages]
    event, record = log
    assert ("before", "loopcast.heartbeat") == (event.type, record.type)
    delivery = Delivery(tag=1, routing_key="", body=record.body, type=record.type, app_id=record.app_id)
    pulse = from_delivery(delivery)
    assert ("a/b", "r/1", 4711, "worker", "0123456789abcdef") == (
        pulse.experiment, pulse.run, pulse.pid, pulse.host, pulse.emitter,
    )  # fmt: skip
    assert json.loads(event.body)["recordedtime"] < pulse.recordedtime


@pytest.mark.parametrize(
    ("body", "experiment", "run", "status", "words"),
    [
        (b"{broken", "e", "r", 400, "not JSON"),
        (b'{"pid":"x"}', "e", "r", 422, '{"pid": 1,'),
        (b"[]", "e", "r", 422, '{"pid": 1,'),
        (b'{"host":"' + b"x" * 5000 + b'"}', "e", "r", 413, "4,096 bytes"),
        (b"{}", "~", "r", 422, "reserved"),
        (b"{}", "", "r", 422, "empty"),
        (b"{}", "e", "", 422, "empty"),
        (b"{}", "e", "%ff", 422, "UTF-8"),
        (b"{}", "e", "a/b", 404, "no address"),
    ],
)
def test_what_is_no_heartbeat_is_refused_in_words(producer, *, body, experiment, run, status, words):
    """Each fault has its status and its sentence, and none is a heartbeat in the log."""
    answer = beat(producer, body, experiment, run)

    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert words in answer.json()["detail"]


def test_a_wrong_method_says_the_right_one(producer):
    """A heartbeat is posted."""
    answer = httpx.get(f"{producer.url}/v1/experiments/e/runs/r/heartbeat")

    assert (405, "POST") == (answer.status_code, answer.headers["allow"])


def test_many_in_one_connection(producer):
    """A 204 leaves the connection as it was: the next request is answered too."""
    with httpx.Client() as client:
        url = f"{producer.url}/v1/experiments/e/runs/r/heartbeat"
        answers = [client.post(url, json={"pid": n}) for n in range(5)]
        answers.append(client.post(f"{producer.url}/v1/experiments/e/events", json={"event": "x"}))

    assert [204] * 5 + [202] == [answer.status_code for answer in answers]


def test_without_a_broker_it_is_503(tmp_path):
    """A heartbeat that the log does not have was not taken."""
    producer = Producer("amqp://guest:guest@127.0.0.1:9/", tmp_path / "log").start(ready=False)
    try:
        answer = beat(producer, b"{}")
    finally:
        producer.kill()

    assert (503, "1") == (answer.status_code, answer.headers["retry-after"])


async def test_who_may_not_send_may_not_say_that_it_lives(vhost_url, tmp_path):
    """A token's publish patterns hold for heartbeats as for events."""
    settings = {"LOOPCAST_JWT_SECRET": "s" * 40}
    with Producer(vhost_url, tmp_path / "log", **settings) as producer:
        answer = beat(producer, b"{}", authorization="Bearer nonsense")

    assert 401 == answer.status_code
