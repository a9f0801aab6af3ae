"""The broker objects of an endpoint: the arguments that lose nothing on any RabbitMQ."""

import pytest

from loopcast.topology import WEBHOOK_NAME, webhook_dead_letters, webhook_names, webhook_queue, webhook_state


def test_an_endpoint_s_queue_loses_nothing_and_keeps_its_order():
    """One consumer at a time, a delivery limit that no return reaches, and no length at which it refuses or drops."""
    queue = webhook_queue("ci")

    assert queue.name == "loopcast.webhook.ci"
    assert queue.declared == {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": 1_000_000_000,
    }


def test_dead_letters_are_kept_for_ever():
    """Neither time nor number takes a dead letter away."""
    queue = webhook_dead_letters("ci")

    assert queue.name == "loopcast.webhook.ci.dead"
    assert queue.declared == {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}


def test_the_state_is_a_small_stream():
    """It never grows beyond what a start reads in a moment."""
    queue = webhook_state("ci")

    assert (queue.name, queue.kind) == ("loopcast.state.webhook.ci", "stream")
    assert queue.arguments["x-max-length-bytes"] == 32_000_000


def test_the_list_of_endpoints_is_no_endpoint_s():
    """It lies where a forwarder may write anyway, under a name that no endpoint can have."""
    name = webhook_names().name.removeprefix(webhook_state("").name)

    assert name != webhook_names().name
    assert WEBHOOK_NAME.match(name) is None


@pytest.mark.parametrize(
    ("name", "legal"), [("ci", True), ("a-1", True), ("a" * 63, True), ("", False), ("A", False), ("a.b", False),
                        ("a_b", False), ("a" * 64, False), ("ci\n", False)],
)  # fmt: skip
def test_names_cannot_name_another_object(name, legal):
    """No dot, so that no endpoint's queue is another's dead letters."""
    assert bool(WEBHOOK_NAME.match(name)) is legal
