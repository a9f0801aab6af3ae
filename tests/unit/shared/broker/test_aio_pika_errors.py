"""What aio-pika raises, in our words."""

from __future__ import annotations

import pytest
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from loopcast.broker.aio_pika_errors import refusal
from loopcast.errors import BrokerUnavailable, LogMissing, TopologyMismatch


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ChannelNotFoundEntity("NOT_FOUND - no queue 'q' in vhost '/'"), LogMissing),
        (ChannelNotFoundEntity("NOT_FOUND - home node 'a@b' of durable queue 'q' is down or inaccessible"), None),
        (ChannelPreconditionFailed("PRECONDITION_FAILED - inequivalent arg 'x-queue-type'"), TopologyMismatch),
        (ChannelPreconditionFailed("PRECONDITION_FAILED - queue 'q' does not have a replica on the local node"), None),
    ],
)
def test_what_a_starting_broker_says_is_no_fault_of_the_topology(error, expected):
    """
    A queue whose leader or replica is not up yet is to be tried again; only what is not there or is otherwise says so.

    Regression: a reader that consumed while its stream's replica was starting was told of a mismatch.
    """
    assert (expected or BrokerUnavailable) is type(refusal(error))
