"""What a visitor may do in the middle of a stream, whose beginning was permitted."""

import pytest

from loopcast.auth import Authenticator, Buckets
from loopcast.auth.tokens import make_token
from loopcast.metrics import Metrics
from loopcast.origins import Origins
from loopcast.settings import ProducerSettings
from loopcast_producer.gate import Gate
from loopcast_producer.problems import Refusal

SECRET = "a-secret-of-more-than-thirty-two-bytes"


@pytest.fixture
def clock():
    """Unix time, to be moved on."""
    return [1_000_000.0]


@pytest.fixture
def gate(clock):
    """A gate that asks for tokens."""
    settings = ProducerSettings(jwt_secret=SECRET, jwt_leeway_seconds=5)
    authenticator = Authenticator(settings, Metrics("producer", "0"), clock=lambda: clock[0])
    return Gate(authenticator, Origins.of(settings), Buckets(None), lambda: clock[0])


async def test_a_stream_is_permitted_for_as_long_as_its_token(gate, clock):
    """Until the token's time and the leeway are over it goes on, then it is 401."""
    token = make_token(SECRET, publish=("ci-*",), now=clock[0], ttl=60)
    visitor = await gate.admit([(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())])

    clock[0] += 64
    visitor.may_go_on("ci-1")
    clock[0] += 1
    with pytest.raises(Refusal) as caught:
        visitor.may_go_on("ci-1")

    assert 401 == caught.value.problem.status


async def test_a_stream_goes_nowhere_else(gate, clock):
    """What is looked at again is also where it may go."""
    token = make_token(SECRET, publish=("ci-*",), now=clock[0], ttl=60)
    visitor = await gate.admit([(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())])

    visitor.may_go_on(None)
    with pytest.raises(Refusal) as caught:
        visitor.may_go_on("other")

    assert 403 == caught.value.problem.status
