"""What `loopcast doctor` says of what it finds."""

import contextlib
import json

import pytest
from answering import Answering

from loopcast import metrics as inventory
from loopcast.cli.doctor import examine, places, run_doctor
from loopcast.cli.findings import Finding
from loopcast.metrics import Metrics
from loopcast.sdk import LoopcastTransport
from loopcast.up.state import write_state

PHASE = inventory.WEBHOOK_PHASE
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    """No spool but this test's."""
    monkeypatch.setenv("LOOPCAST_SPOOL_DIR", str(tmp_path / "spool"))


@pytest.fixture
def answering():
    """A server that gives one answer to everything, by its address."""
    with contextlib.ExitStack() as servers:
        yield lambda status, body: servers.enter_context(Answering(status, body)).url


def found(tmp_path, **named):
    where = {"url": NOWHERE, "gateway": NOWHERE, "amqp": "amqp://127.0.0.1:9/", **named}
    return {finding.part: finding for finding in examine(places(tmp_path, **where), tmp_path)}


def test_parts_that_do_not_answer_are_broken_each_with_a_way_out(tmp_path):
    """Broker, producer and gateway are looked at separately, and each says what to do."""
    findings = found(tmp_path)

    assert ["broken"] * 3 == [findings[part].verdict for part in ("broker", "producer", "gateway")]
    assert all(findings[part].do for part in ("broker", "producer", "gateway"))


def test_an_address_with_a_login_is_not_tried_and_not_shown(tmp_path):
    """A login would go out instead of the token: it is found wrong, without a word of it."""
    login = "http://me:s3cret@127.0.0.1:9"
    findings = found(tmp_path, url=login, gateway=login, ops=[login])

    for part in ("producer", "gateway", "service"):
        assert ("broken", True) == (findings[part].verdict, "LOOPCAST_TOKEN" in findings[part].found)
    assert "s3cret" not in repr(findings)


def test_nothing_to_look_at_is_said(tmp_path):
    """Without an address and without a running `up` it says how to name one."""
    findings = found(tmp_path, url="", gateway="", amqp="")

    assert "unsure" == findings["services"].verdict
    assert "LOOPCAST_GATEWAY_URL" in findings["services"].do


def test_what_up_says_is_found(tmp_path):
    """The addresses of a running `loopcast up` are used where none is named."""
    write_state(tmp_path, {"LOOPCAST_URL": "http://a", "LOOPCAST_GATEWAY_URL": "http://b/", "LOOPCAST_AMQP_URL": "c"})

    where = places(tmp_path, url="http://mine", gateway="", amqp="")

    assert ("http://mine", "http://b", "c") == (where.producer, where.gateway, where.broker)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"title": "Unauthorized", "detail": "No token."}', ["No token.", "loopcast token"]),
        (503, b'{"title": "The broker is away"}', ["The broker is away", "RabbitMQ"]),
        (404, b"<html>", ["404", "Is this a service"]),
    ],
)
def test_a_refusal_is_passed_on_with_what_to_do(tmp_path, answering, status, body, words):
    """What the service says is what the person reads."""
    finding = found(tmp_path, url=answering(status, body))["producer"]

    assert "broken" == finding.verdict
    assert all(word in finding.found + finding.do for word in words)


def test_a_stranger_is_no_gateway(tmp_path, answering):
    """A page that is not ours is not taken for a gateway."""
    assert "no gateway" in found(tmp_path, gateway=answering(200, b"<html>hello</html>"))["gateway"].found


def test_a_gateway_that_is_reading_is_not_broken(tmp_path, answering):
    """One that has not read the whole log is said to be on its way."""
    finding = found(tmp_path, gateway=answering(200, b'{"experiments": [], "complete": false}'))["gateway"]

    assert "unsure" == finding.verdict


def test_settings_that_no_service_takes_are_named_once(tmp_path, monkeypatch):
    """A wrong value, and a name that nothing reads, with the nearest that something does."""
    monkeypatch.setenv("LOOPCAST_PARTITIONS", "many")
    monkeypatch.setenv("LOOPCAST_PARTITION", "3")

    findings = [f for f in examine(places(tmp_path, url="", gateway="", amqp=""), tmp_path) if f.part == "settings"]

    assert ["broken", "unsure"] == [finding.verdict for finding in findings]
    assert "LOOPCAST_PARTITIONS='many'" in findings[0].found
    assert "LOOPCAST_PARTITIONS" in findings[1].do


def test_what_waits_in_a_spool_is_told(tmp_path):
    """Events that no producer took are shown with where they lie."""
    transport = LoopcastTransport(NOWHERE, "exp")
    transport.send({"event": "a"})
    finding = found(tmp_path)["spool"]
    transport.close(0)

    assert "unsure" == finding.verdict
    assert str(tmp_path / "spool") in finding.found


def test_what_a_full_spool_dropped_is_told(tmp_path):
    """Whether its process lives or not: how many, and which setting says how much it holds."""
    transport = LoopcastTransport(NOWHERE, "exp", max_bytes=5_000)
    for _ in range(100):
        transport.send({"event": "a"})
    finding = found(tmp_path)["spool"]
    full = transport.close(0).stats.full

    assert 0 < full < 100
    assert f"{full} events were dropped" in finding.found
    assert "LOOPCAST_SPOOL_MAX_BYTES" in finding.do


def test_the_exit_code_and_json_are_for_scripts(tmp_path, capsys):
    """Broken is 1; `--json` gives every finding."""
    code = run_doctor(data=tmp_path, url=NOWHERE, gateway="", amqp="", ops=(), json=True)

    findings = [Finding(**item) for item in json.loads(capsys.readouterr().out)]
    assert 1 == code
    assert {"producer": "broken", "gateway": "unsure"}.items() <= {f.part: f.verdict for f in findings}.items()


def test_lines_are_for_people(tmp_path, capsys):
    """Each finding is a line, and what to do stands under it."""
    run_doctor(data=tmp_path, url=NOWHERE, gateway="", amqp="", ops=(), json=False)

    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(" ! producer"))
    assert "Is it running" in lines[at + 1]


def metrics_of(service, *set_):
    """What a service's ops port answers, whose gauges have these values."""
    made = Metrics(service, "0")
    for definition, value, labels in set_:
        made.gauge(definition, **labels).set(value)
    return made.render()


@pytest.mark.parametrize(
    ("service", "sign", "verdict", "words"),
    [
        ("recorder", (inventory.RECORDER_FAILING, 1, {"sink": "sqlite"}), "broken", ["sqlite", "sink_failing"]),
        ("recorder", (inventory.RECORDER_FAILING, 1, {"sink": "jsonl"}), "broken", ["LOOPCAST_RECORDER_JSONL says"]),
        ("recorder", (inventory.RECORDER_LAG, 90, {"sink": "jsonl", "partition": "1"}), "unsure", ["jsonl", "90 s"]),
        ("otel-exporter", (inventory.OTEL_LAG, 61.4, {"partition": "0"}), "unsure", ["61 s", "LOOPCAST_OTLP_ENDPOINT"]),
        ("webhook-forwarder", (inventory.WEBHOOK_FAILING, 5, {"endpoint": "ci"}), "unsure", ["ci", "webhooks list"]),
        ("webhook-forwarder", (PHASE, 1, {"endpoint": "ci", "phase": "removed"}), "broken", ["ci", "webhooks drop ci"]),
        ("webhook-forwarder", (inventory.WEBHOOK_DEAD, 3, {"endpoint": "ci"}), "unsure", ["3 dead", "replay ci"]),
    ],
)
def test_what_fails_behind_a_port_that_answers_is_found(tmp_path, answering, *, service, sign, verdict, words):
    """A sink, a backend or an endpoint that is away is said with what to do, though the service is ready."""
    finding = found(tmp_path, ops=[answering(200, metrics_of(service, sign))])[service]

    assert verdict == finding.verdict
    assert all(word in finding.found + finding.do for word in words)


def test_a_service_that_is_well_is_said_to_be(tmp_path, answering):
    """Lags that catching up explains, and gauges at rest, are no complaint."""
    at_rest = (
        (inventory.OTEL_LAG, 5, {"partition": "0"}),
        (inventory.OTEL_LAG, 0, {"partition": "1"}),
    )
    assert "ok" == found(tmp_path, ops=[answering(200, metrics_of("otel-exporter", *at_rest))])["otel-exporter"].verdict


@pytest.mark.parametrize(
    ("status", "body", "part", "words"),
    [
        (503, metrics_of("recorder"), "recorder", "not ready"),
        (404, b"<html>", "service", "ops port"),
        (200, b"loopcast_nonsense{", "service", "ops port"),
    ],
)
def test_a_service_that_is_not_ready_or_none(tmp_path, answering, *, status, body, part, words):
    """What a probe refuses is broken, and so is a port that is another."""
    finding = found(tmp_path, ops=[answering(status, body)])[part]

    assert "broken" == finding.verdict
    assert words in finding.found + finding.do


def test_a_service_that_does_not_answer(tmp_path):
    """Nobody at the port that was named is broken, with where to look."""
    assert "broken" == found(tmp_path, ops=[NOWHERE])["service"].verdict
