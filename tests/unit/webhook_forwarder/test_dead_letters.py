"""Dead letters: the event as it was, with why it lies there, and the way back."""

from hypothesis import given
from hypothesis import strategies as st

from loopcast.broker.interface import Delivery, Message
from loopcast_webhook_forwarder.dead_letters import DEAD, KEY, REPLAY, dead_letter, gap_letter, key_of, replayed

HEADERS = {"experiment": "exp-42", "recorded": 1_760_000_000_123_456, "traceparent": "00-a-b-01"}


def delivery(**more) -> Delivery:
    given_values = {
        "tag": 7,
        "routing_key": "exp-42.loop_complete",
        "body": b'{"data":1}',
        "message_id": "e1",
        "type": "loop_complete",
        "headers": HEADERS,
        "content_type": "application/cloudevents+json",
        "app_id": "loopcast",
        "timestamp": 1_760_000_000,
        **more,
    }
    return Delivery(**given_values)


def dead(event: Delivery, answer: bytes = b"no", reason: str = "HTTP 422") -> Message:
    return dead_letter("ci", event, reason=reason, attempts=3, answer=answer, since=5.5, now=99.9)


def delivered(message: Message) -> Delivery:
    """The message as a consumer gets it: under its queue's name."""
    return delivery(
        routing_key=message.routing_key, headers=dict(message.headers), body=message.body, message_id=message.message_id
    )


def test_a_dead_letter_is_the_event_and_its_history():
    """Body, id, type and headers stay; why, how often, what came back and when are added."""
    letter = dead(delivery())

    assert (letter.exchange, letter.routing_key) == ("", "loopcast.webhook.ci.dead")
    assert (letter.body, letter.message_id, letter.type) == (b'{"data":1}', "e1", "loop_complete")
    assert (letter.app_id, letter.content_type, letter.timestamp) == (
        "loopcast",
        "application/cloudevents+json",
        1_760_000_000,
    )
    assert HEADERS.items() <= letter.headers.items()
    assert letter.headers[f"{DEAD}reason"] == "HTTP 422"
    assert letter.headers[f"{DEAD}attempts"] == 3
    assert letter.headers[f"{DEAD}answer"] == "no"
    assert letter.headers[f"{DEAD}failing-since"] == 5
    assert letter.headers[f"{DEAD}at"] == 99
    assert letter.headers[KEY] == "exp-42.loop_complete"


@given(st.binary(max_size=5000), st.text(max_size=5000))
def test_an_answer_of_any_size_fits_into_headers(answer, reason):
    """All headers of a message have to fit into one frame, whatever an endpoint answers."""
    letter = dead(delivery(), answer, reason)

    assert sum(len(str(v).encode("utf-8", "replace")) for v in letter.headers.values()) < 10_000


def test_a_replay_is_the_event_without_its_death():
    """Same id, same body, its own key; nothing of the dead letter's headers, and a mark that asks no binding."""
    back = replayed("ci", delivered(dead(delivery())))

    assert (back.routing_key, back.message_id, back.body) == ("loopcast.webhook.ci", "e1", b'{"data":1}')
    assert back.headers == {**HEADERS, KEY: "exp-42.loop_complete", REPLAY: 1}
    assert key_of(delivered(back)) == "exp-42.loop_complete"


def test_an_event_that_dies_twice_keeps_its_first_key():
    """Death, replay, death: the routing key is still the published one, and the history is of the last death."""
    again = dead(delivered(replayed("ci", delivered(dead(delivery())))), reason="HTTP 400")

    assert again.headers[KEY] == "exp-42.loop_complete"
    assert again.headers[f"{DEAD}reason"] == "HTTP 400"
    assert REPLAY not in again.headers


def test_a_gap_names_its_range_and_count():
    """What nobody has any more is one letter that says where it was and how much."""
    letter = gap_letter("ci", id="gap-1", partition=2, first=10, last=19, reason="retention took it", now=1.0)

    assert letter.routing_key == "loopcast.webhook.ci.dead"
    assert letter.headers[f"{DEAD}partition"] == 2
    assert (letter.headers[f"{DEAD}first-offset"], letter.headers[f"{DEAD}last-offset"]) == (10, 19)
    assert letter.headers[f"{DEAD}count"] == 10
