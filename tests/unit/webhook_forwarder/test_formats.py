"""Bodies: joined bytes, original objects, and messages for people."""

import datetime as dt
import json

import pytest

from loopcast.broker.interface import Delivery
from loopcast.events import parse
from loopcast.topology import APP_ID, CLOUDEVENT
from loopcast.trace_ids import trace_id
from loopcast_webhook_forwarder.endpoints import Endpoint
from loopcast_webhook_forwarder.formats import encode_payload

RUN = "0199c0de-0000-7000-8000-000000000000"
STARTED = int(RUN[:8] + RUN[9:13], 16) / 1000


def event(data: str, **attributes: object) -> Delivery:
    names = {
        "specversion": "1.0",
        "id": "e1",
        "source": "/experiments/exp-42/runs/r1",
        "type": "state_enter",
        "subject": "tune-prompt",
        "experimentid": "exp-42",
        "runid": RUN,
        **attributes,
    }
    head = json.dumps(names, separators=(",", ":"))[:-1]
    body = f'{head},"data":{data}}}'.encode()
    return Delivery(tag=1, routing_key="exp-42.x", body=body, message_id="e1", content_type=CLOUDEVENT, app_id=APP_ID)


def endpoint(format_: str, **more: object) -> Endpoint:
    return Endpoint(name="a", url="http://x.example", bindings=("#",), format=format_, **more)


ODD = '{"event": "x",  "weird" : 1.0e2, "text":"\\u00e4,\\"data\\":" }'


def test_a_batch_is_the_published_bytes_joined():
    """No event is parsed or written anew on its way: every byte of each is in the body."""
    events = [event(ODD), event("[1, 2]")]

    payload = encode_payload(events, endpoint("cloudevents-batch"))

    assert payload.content_type == "application/cloudevents-batch+json"
    assert payload.body == b"[" + events[0].body + b"," + events[1].body + b"]"
    assert len(json.loads(payload.body)) == 2


def test_one_cloudevent_is_the_published_bytes():
    """Structured mode of the CloudEvents HTTP binding."""
    payload = encode_payload([event(ODD)], endpoint("cloudevents"))

    assert (payload.content_type, payload.body) == ("application/cloudevents+json", event(ODD).body)


def test_little_loops_gets_its_own_objects_back():
    """A bare array of the original events, byte for byte as the loop wrote them."""
    payload = encode_payload([event(ODD), event('{"a":1}')], endpoint("little-loops"))

    assert payload.content_type == "application/json"
    assert payload.body == b"[" + ODD.encode() + b',{"a":1}]'


@pytest.mark.parametrize("format_", ["cloudevents-batch", "cloudevents", "little-loops", "slack", "github"])
def test_a_stranger_s_message_is_a_legal_body_too(format_):
    """What somebody published by hand breaks no batch."""
    stranger = Delivery(tag=1, routing_key="exp-42.note", body=b"\xff no json", message_id="s1", content_type="text/x")

    json.loads(encode_payload([stranger], endpoint(format_)).body)


def test_a_stranger_is_an_event_of_the_key_s_experiment():
    """A receiver sees one shape only."""
    stranger = Delivery(tag=1, routing_key="exp-42.note", body=b'{"a":1}', content_type="application/json")

    body = encode_payload([stranger], endpoint("cloudevents")).body

    assert parse(body).experiment == "exp-42"


def slack(data: dict[str, object], *, trace_url: str = "", **attributes: object) -> str:
    delivery = event(json.dumps(data), **attributes)
    asked = endpoint("slack", dashboard="https://loops.example/", trace_url=trace_url)
    body = json.loads(encode_payload([delivery], asked).body)
    assert body["blocks"][0]["text"]["text"] == body["text"]
    return body["text"]


def test_slack_says_what_a_person_wants_to_know():
    """Loop, outcome, state, steps, duration and where to look, in one line."""
    text = slack(
        {"final_state": "done", "iterations": 5, "terminated_by": "terminal", "failure_terminal": False},
        type="loop_complete",
        time=dt.datetime.fromtimestamp(STARTED + 12.3, dt.UTC).isoformat(),
    )

    assert text.startswith(":white_check_mark: *tune-prompt* completed in `done` after 5 steps in 12.3 s · ")
    assert f"<https://loops.example/#/experiments/exp-42/runs/{RUN}|exp-42>" in text


def test_slack_links_to_the_trace_of_a_loop_s_event():
    """Where a backend's address is known, under the id that `loopcast otel trace-id` prints; not for other events."""
    backend = "https://traces.example/trace/{trace_id}?theme={dark}"

    def text(**attributes):
        return slack({"loop": "tune-prompt"}, trace_url=backend, attempt=2, **attributes)

    trace = trace_id("exp-42", RUN, 2).hex()
    assert text(type="loop_start").endswith(f" · <https://traces.example/trace/{trace}?theme={{dark}}|trace>")
    assert "traces.example" not in text(type="custom")
    assert "|trace>" not in slack({}, type="loop_start", attempt=2)


def test_slack_tells_failure_from_success():
    """An error is a cross with its sentence, a stop a warning, a failing end state a failure."""
    error = slack({"terminated_by": "error", "error": "disk on fire"}, type="loop_complete")
    stopped = slack({"terminated_by": "user_stopped"}, type="loop_complete")
    failed = slack({"terminated_by": "terminal", "failure_terminal": True}, type="loop_complete")

    assert error.startswith(":x: *tune-prompt* failed (error) — disk on fire")
    assert stopped.startswith(":warning: *tune-prompt* stopped (user_stopped)")
    assert failed.startswith(":x: *tune-prompt* failed")


def test_slack_says_the_duration_that_the_run_s_id_knows():
    """A UUIDv7 run began at the time in its id."""
    end = dt.datetime.fromtimestamp(STARTED + 3725, dt.UTC).isoformat()

    assert "in 1 h 02 min" in slack({"terminated_by": "terminal"}, type="loop_complete", time=end)


@pytest.mark.parametrize("hostile", ["<!channel>", "<@U123>", "a & <b>", "```code```", "*bold*\n*lines*"])
def test_slack_text_mentions_nobody(hostile):
    """Output of a loop can neither mention people nor make links."""
    text = slack({"error": hostile}, type="custom", subject=hostile)

    assert "<!" not in text
    assert "<@" not in text
    assert "```" not in text
    assert text.count("<") == 1


def test_slack_says_how_many_it_left_out():
    """A message has a limit, and what is over it is counted."""
    events = [event(json.dumps({"state": "s" * 400})) for _ in range(60)]

    text = json.loads(encode_payload(events, endpoint("slack")).body)["text"]
    shown = text.count(":small_blue_diamond:")

    assert len(text) <= 3000
    assert f"and {60 - shown} more events" in text


def test_github_gets_a_repository_dispatch():
    """The shape that `POST /repos/{owner}/{repo}/dispatches` takes, at most ten keys in the payload."""
    body = json.loads(encode_payload([event('{"a":1}', type="loop_complete")], endpoint("github")).body)

    assert body["event_type"] == "loop_complete"
    assert body["client_payload"]["data"] == {"a": 1}
    assert body["client_payload"]["experiment"] == "exp-42"
    assert len(body["client_payload"]) <= 10
