"""Whatever bytes come: no error but a fault, the same however they are cut, and memory in proportion to them."""

import random

import pytest
from pamqp import commands

from loopcast.amqp.parser import Method, Parser
from loopcast.broker.interface import Delivery

INPUTS = 1_000_000
"""How many the long run tries; the short one is a fraction of it."""


@pytest.fixture(scope="module")
def corpus(says):
    """Whole frames of every kind that a broker sends."""
    headers = {"experiment": "exp-42", "run": "r", "sequence": 7, "live": True}
    return [
        says.heartbeat,
        says.captured,
        says.captured_return,
        says.ack(5),
        says.nack(6, True),
        says.blocked,
        says.delivery(1, b""),
        says.delivery(2, b"x" * 40, headers=headers, offset=3),
        says.delivery(3, b"y" * 40, frame_max=28),
        says.returned(b"id"),
        says.method(commands.Connection.Tune(2047, 131072, 60), 0),
        says.method(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0), 0),
        says.method(commands.Channel.Close(404, "NOT_FOUND", 60, 20)),
        says.method(
            commands.Connection.Start(0, 9, {"product": "RabbitMQ", "capabilities": {"a": True}}, "PLAIN", "en"), 0
        ),
        says.method(commands.Basic.Cancel("loopcast", True)),
    ]


def mutated(random, data):
    """`data` with something wrong: bits, bytes, lengths, parts missing, doubled or moved."""
    data = bytearray(data)
    for _ in range(random.choice((0, 1, 1, 1, 2, 4, 8))):
        if not data:
            break
        at = random.randrange(len(data))
        match random.randrange(6):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.choice((0, 1, 2, 3, 8, 60, 80, 0x7F, 0x80, 0xCE, 0xFF))
            case 2:
                del data[at : at + random.randrange(1, 9)]
            case 3:
                data[at:at] = random.randbytes(random.randrange(1, 9))
            case 4:
                data[at:at] = data[at : at + random.randrange(1, 64)]
            case _:
                data[at : at + 4] = random.randrange(2**32).to_bytes(4, "big")
    return bytes(data)


def one_input(random, corpus):
    """A few frames, most of them with something wrong; sometimes nothing but noise."""
    if random.random() < 0.02:
        return random.randbytes(random.randrange(64))
    return b"".join(mutated(random, random.choice(corpus)) for _ in range(random.randrange(1, 4)))


def read(chunks):
    """What comes out, in a form that compares, and the fault's code."""
    parser = Parser()
    found = []
    for chunk in chunks:
        for item in parser.feed(chunk):
            if isinstance(item, list):
                found += [told(delivery) for delivery in item]
            elif isinstance(item, Method):
                found.append(repr((item.channel, item.method.name, list(item.method))))
            else:
                found.append(repr(item))
    held = sum(map(len, parser._chunks))
    return sorted(found), None if parser.fault is None else parser.fault.code, held


def told(delivery: Delivery):
    return repr((delivery.tag, delivery.body, delivery.message_id, delivery.offset, dict(delivery.headers)))


def fuzz(random, corpus, inputs):
    """Try `inputs` inputs, each whole and cut; how many ended in a fault and how many did not."""
    faults = 0
    for _ in range(inputs):
        data = one_input(random, corpus)
        whole = read([data])
        cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(4)))
        cut = read([data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)])
        assert whole == cut, (data, cuts)
        assert whole[2] <= len(data), data
        faults += whole[1] is not None
    return faults, inputs - faults


def test_fuzz_a_little(corpus):
    """A few thousand inputs, the same in every run; both ends are reached often."""
    faults, fine = fuzz(random.Random(20251120), corpus, INPUTS // 200)

    assert min(faults, fine) > 500


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fuzz_a_million(corpus):
    """A million inputs, others in every run; the seed is in the failure's output."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)

    faults, fine = fuzz(random.Random(seed), corpus, INPUTS)

    assert min(faults, fine) > 100_000
