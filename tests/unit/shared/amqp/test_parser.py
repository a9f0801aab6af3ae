"""Bytes in, cut anywhere; what they say out, in order; a fault where the peer breaks the protocol, and only there."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from loopcast.amqp.parser import Acknowledged, Method, Parser, Returned


def plain(delivery):
    """Everything that a delivery has, comparable."""
    names = ("tag", "routing_key", "body", "message_id", "type", "content_type", "app_id", "timestamp", "redelivered")
    return (*(getattr(delivery, name) for name in names), delivery.offset, dict(delivery.headers))


def flat(items):
    """Items without the seams between batches of deliveries."""
    found = []
    for item in items:
        if isinstance(item, list):
            found += [plain(delivery) for delivery in item]
        elif isinstance(item, Method):
            found.append((item.channel, item.method.name, dict(item.method)))
        else:
            found.append(item)
    return found


def read(*chunks, frame_max=131072):
    """What a parser makes of `chunks`: the items and the fault's code."""
    parser = Parser()
    parser.limit(frame_max)
    items = [item for chunk in chunks for item in parser.feed(chunk)]
    return flat(items), None if parser.fault is None else parser.fault.code


def test_golden_delivery(says):
    """A captured delivery of an event, with its place in the stream, which is not among the headers."""
    parser = Parser()

    ((delivery,),) = parser.feed(says.captured)

    assert parser.fault is None
    assert 1 == delivery.tag
    assert not delivery.redelivered
    assert "exp-42.state_enter" == delivery.routing_key
    assert b"hello" == delivery.body
    assert 7 == delivery.offset
    assert "0190-0" == delivery.message_id
    assert "state_enter" == delivery.type
    assert "application/cloudevents+json" == delivery.content_type
    assert "loopcast" == delivery.app_id
    assert 0x6B00AB88 == delivery.timestamp
    assert says.captured_headers == delivery.headers


def test_golden_return_and_acknowledgements(says):
    """A captured return comes as what it was; acks and nacks with their tags."""
    data = says.captured_return + says.ack(3) + says.ack(2**40, multiple=True) + says.nack(5) + says.nack(6, True)

    items, fault = read(data)

    assert fault is None
    assert [
        Returned(312, "NO_ROUTE", "amq.topic", "nowhere.x", "ret"),
        Acknowledged(3, False, True),
        Acknowledged(2**40, True, True),
        Acknowledged(5, False, False),
        Acknowledged(6, True, False),
    ] == items


@pytest.fixture(scope="session")
def conversation(says):
    """Everything that comes on a channel, in bodies of every kind: empty, whole, in several frames."""
    return b"".join(
        [
            says.method(commands.Connection.Tune(2047, 4096, 60), 0),
            says.heartbeat,
            says.captured,
            says.delivery(2, b""),
            says.delivery(3, b"x" * 300, offset=9, headers={"experiment": "a"}, frame_max=108),
            says.blocked,
            says.deliver(4),
            # Other channels and heartbeats may come between the frames of a content (AMQP 0-9-1, 4.2.6).
            says.heartbeat,
            says.blocked,
            says.content(b"abc", message_id=b"four"),
            says.captured_return,
            says.ack(7, multiple=True),
            says.returned(b"five", body=b""),
            says.nack(8),
            says.delivery(5, redelivered=True, routing_key=b"\xc3\xa4.b"),
            says.method(commands.Channel.Close(404, "NOT_FOUND - no queue", 60, 20)),
        ]
    )


def test_the_whole_conversation(conversation):
    """The items come in the order of the wire."""
    items, fault = read(conversation)

    assert fault is None
    assert [1, 2, 3, 4, 5] == sorted(item[0] for item in items if len(item) == 11)
    assert 13 == len(items)


def test_the_parser_cut_at_every_byte(conversation):
    """Two reads, wherever the first ends, say the same as one."""
    whole = read(conversation)

    for cut in range(len(conversation) + 1):
        assert same(whole, read(conversation[:cut], conversation[cut:])), cut


def same(first, second):
    """Equal, where a batch of deliveries may come before or after what stood between them in one read."""
    return first[1] == second[1] and sorted(map(repr, first[0])) == sorted(map(repr, second[0]))


def test_the_parser_fed_byte_by_byte(conversation):
    """As small as reads can be, in exactly the order of the wire."""
    items, fault = read(*(conversation[n : n + 1] for n in range(len(conversation))))

    assert fault is None
    assert [1, 2, 3, 4, 5] == [item[0] for item in items if len(item) == 11]
    assert same(read(conversation), (items, fault))


@given(st.lists(st.integers(0, 2000), max_size=30))
def test_the_parser_cut_in_many_places(conversation, cuts):
    """Any number of cuts says the same."""
    places = [0, *sorted(cuts), len(conversation)]
    chunks = [conversation[a:b] for a, b in itertools.pairwise(places)]

    assert same(read(conversation), read(*chunks))


def test_a_large_body_in_small_reads_is_not_copied_at_each(says):
    """A frame that comes in many reads is joined once: the reads before it is whole cost nothing but a list."""
    data = says.delivery(1, b"x" * 100_000)
    parser = Parser()

    for n in range(0, len(data) - 1, 100):
        assert [] == list(parser.feed(data[n : min(n + 100, len(data) - 1)]))

    assert len(parser._chunks) > 900
    ((delivery,),) = parser.feed(data[-1:])
    assert 100_000 == len(delivery.body)


def test_one_batch_for_one_read(says):
    """All deliveries of a read come in one list, so that they are handed over in one call."""
    parser = Parser()

    items = parser.feed(b"".join(says.delivery(n) for n in range(1, 101)) + says.heartbeat + says.delivery(101))

    assert [101] == [len(item) for item in items]


FAULTS = {
    "a kind that does not exist": (b"\x07\x00\x01\x00\x00\x00\x00\xce", 501),
    "another version of AMQP": (b"AMQP\x00\x00\x09\x01", 501),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", 501),
    "an alert of TLS": (b"\x15\x03\x01\x00\x02\x02\x46\x00", 501),
    "no end mark": (b"\x08\x00\x00\x00\x00\x00\x00\xcf", 501),
    "a channel that is not open": (b"\x01\x00\x02\x00\x00\x00\x04\x00\x0a\x00\x0a\xce", 504),
    "a frame larger than agreed": (b"\x03\x00\x01\x00\x02\x00\x00xxxxxxxxxxxx", 501),
    "a heartbeat with a payload": (b"\x08\x00\x00\x00\x00\x00\x01x\xce", 501),
    "a heartbeat on a channel": (b"\x08\x00\x01\x00\x00\x00\x00\xce", 501),
    "an empty method": (b"\x01\x00\x01\x00\x00\x00\x00\xce", 502),
    "a method that does not exist": (b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\xff\xce", 502),
    "a method cut short": (b"\x01\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x1e\x07\xce", 502),
    "an ack cut short": (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x50\x00\xce", 502),
    "an ack on channel 0": (
        b"\x01\x00\x00\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x01\x00\xce",
        505,
    ),
    "a body out of nothing": (b"\x03\x00\x01\x00\x00\x00\x01x\xce", 505),
    "a header out of nothing": (b"\x02\x00\x01\x00\x00\x00\x0e" + b"\x00\x3c" + b"\x00" * 12 + b"\xce", 505),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name, says):
    """Each breach ends the reading with its code, and what came before it is told."""
    data, code = FAULTS[name]

    assert ([Acknowledged(1, False, True)], code) == read(says.ack(1) + data)
    assert ([Acknowledged(1, False, True)], code) == read(*(bytes((b,)) for b in says.ack(1) + data))


def test_faults_inside_a_content(says):
    """Each breach between the frames of a content has its code."""
    deliver, content = says.deliver(1), says.content(b"hello")
    size = struct.unpack_from(">I", content, 3)[0]
    header, body = content[: size + 8], content[size + 8 :]
    breaches = {
        "a body before the header": (deliver + body, 505),
        "two headers": (deliver + header + header, 505),
        "another delivery inside": (deliver + deliver, 505),
        "an ack inside": (deliver + says.ack(1), 505),
        "a method of the channel inside": (deliver + says.method(commands.Channel.OpenOk()), 505),
        "more body than announced": (deliver + header + says.frame(3, 1, b"x" * 6), 501),
        "another class": (deliver + says.frame(2, 1, struct.pack(">HHQH", 10, 0, 5, 0)) + body, 502),
        "a header cut short": (deliver + says.frame(2, 1, b"\x00\x3c\x00\x00"), 502),
        "a content on channel 0": (deliver + says.frame(2, 0, struct.pack(">HHQH", 60, 0, 5, 0)) + body, 505),
        "a delivery on channel 0": (says.frame(1, 0, deliver[7:-1]) + header + body, 505),
        "a header without its end mark": (deliver + header[:-1] + b"\x00" + body, 501),
        "a body without its end mark": (deliver + header + body[:-1] + b"\x00", 501),
    }
    for name, (data, code) in breaches.items():
        assert ([], code) == read(data), name
        assert ([], code) == read(*(bytes((b,)) for b in data)), name


def test_a_body_behind_the_last_is_a_fault(says):
    """A content ends where its header said, an empty one with the header."""
    body = says.frame(3, 1, b"x")

    for whole in (says.delivery(1, b""), says.delivery(1, b"hello")):
        items, code = read(whole + body)
        assert (1, 505) == (len(items), code)


def test_nothing_is_read_behind_a_fault(says):
    """A parser that met a fault stays at it."""
    parser = Parser()
    parser.feed(b"nonsense")
    code = parser.fault.code

    assert () == parser.feed(says.ack(1))
    assert code == parser.fault.code


def test_frame_max_holds_for_every_frame(says):
    """A frame over the limit is a fault also where it is whole in the buffer, and one at the limit is none."""
    data = says.delivery(1, b"x" * 4088)

    assert read(data, frame_max=4096)[1] is None
    assert ([], 501) == read(says.delivery(1, b"x" * 4089), frame_max=4096)
    assert ([], 501) == read(says.delivery(1, headers={"h": "x" * 5000}), frame_max=4096)


def test_properties_of_strangers(says):
    """All fourteen properties of class basic are passed over or read, in many choices."""
    fields = [
        (0x8000, b"\x03a/b"),
        (0x4000, b"\x04gzip"),
        (0x2000, b"\x00\x00\x00\x04\x01at\x01"),
        (0x1000, b"\x01"),
        (0x0800, b"\x09"),
        (0x0400, b"\x02co"),
        (0x0200, b"\x02re"),
        (0x0100, b"\x0260"),
        (0x0080, b"\x02id"),
        (0x0040, b"\x00\x00\x00\x00\x00\x00\x00\x05"),
        (0x0020, b"\x02ty"),
        (0x0010, b"\x02us"),
        (0x0008, b"\x02ap"),
        (0x0004, b"\x02cl"),
    ]
    for choice in range(0, 1 << len(fields), 13):
        chosen = [field for n, field in enumerate(fields) if choice >> n & 1]
        flags = sum(flag for flag, _ in chosen)
        data = says.deliver(1) + says.header(flags, b"".join(raw for _, raw in chosen))

        (delivery,), fault = read(data)

        assert fault is None
        assert (
            "id" if flags & 0x0080 else "",
            "ty" if flags & 0x0020 else "",
            "a/b" if flags & 0x8000 else "",
            "ap" if flags & 0x0008 else "",
            5 if flags & 0x0040 else 0,
        ) == delivery[3:8]
        assert ({"a": True} if flags & 0x2000 else {}) == delivery[-1]


@pytest.mark.parametrize(
    ("flags", "properties"),
    [
        (0x8000, b""),
        (0x8000, b"\x05abc"),
        (0x2000, b"\x00\x00"),
        (0x2000, b"\x00\x00\x00\x09abc"),
        (0x0040, b"\x00\x00\x00"),
        (0x1000, b""),
        (0x0080, b"\x02idx"),
        (0x0000, b"x"),
        (0x8001, b"\x01a"),
        (0x0002, b"x"),
        (0xB0E8, b""),
        (0xB0E8, b"\x01a\x00\x00\x00\x00\x02\x02id\x00\x00\x00\x00\x00\x00\x00\x05\x02ty\x05ap"),
        (0xB0E8, b"\x01a\x00\x00\x00\x00\x02\x02id\x00\x00\x00\x00\x00\x00\x00\x05\x02ty\x02apx"),
    ],
)
def test_properties_that_do_not_fill_their_frame(says, flags, properties):
    """A field over the end of the header, or bytes behind the last, is a fault, also where the delivery is whole."""
    data = says.deliver(1) + says.header(flags, properties, 1) + says.frame(3, 1, b"x")

    assert ([], 502) == read(data)


@pytest.mark.parametrize("payload", [b"", b"\x02ct", b"\x02ct" + b"\x00" * 9, b"\x02ct" + b"\x00" * 9 + b"\x01x\x05ab"])
def test_a_delivery_method_cut_short(says, payload):
    """A basic.deliver whose fields reach over its end is a fault."""
    data = says.frame(1, 1, b"\x00\x3c\x00\x3c" + payload) + says.content(b"x")

    assert ([], 502) == read(data)


@pytest.mark.parametrize("payload", [b"", b"\x00\x01", b"\x00\x01\x05ab", b"\x00\x01\x01a\x01b\x01cx"])
def test_a_return_method_cut_short(says, payload):
    """A basic.return whose fields do not fill it is a fault."""
    assert ([], 502) == read(says.frame(1, 1, b"\x00\x3c\x00\x32" + payload) + says.content(b"x"))


def test_the_offset_wherever_the_broker_puts_it(says):
    """A broker that puts the offset elsewhere among the headers, or writes it otherwise, is understood."""
    first = b"\x0fx-stream-offsetl\x00\x00\x00\x00\x00\x00\x00\x09\x01at\x01"
    small = b"\x01at\x01\x0fx-stream-offsetb\x09"
    text = b"\x0fx-stream-offsetS\x00\x00\x00\x03nix\x01at\x01"
    value = b"\x01aS\x00\x00\x00\x0fx-stream-offset"

    for table, offset, headers in (
        (first, 9, {"a": True}),
        (small, 9, {"a": True}),
        (text, -1, {"a": True}),
        (value, -1, {"a": "x-stream-offset"}),
    ):
        properties = struct.pack(">I", len(table)) + table
        (delivery,), fault = read(says.deliver(1) + says.header(0x2000, properties, 1) + says.frame(3, 1, b"x"))
        assert (None, offset, headers) == (fault, *delivery[-2:])


def test_text_that_is_no_utf_8(says):
    """A stranger's bytes in a property are read with marks, and end nothing."""
    (delivery,), fault = read(says.delivery(1, message_id=b"\xff\xfe", routing_key=b"a.\xff"))

    assert (None, "a.�", "��") == (fault, delivery[1], delivery[3])


def test_texts_that_look_alike_stay_apart(says):
    """What is remembered of routing keys is not taken for a type with the same bytes."""
    twin = b"\x0floopcast.events\x03a.b"
    properties = bytes((len(twin),)) + twin

    (first, second), _ = read(
        says.delivery(1) + says.deliver(2) + says.header(0x0020, properties, 1) + says.frame(3, 1, b"x")
    )

    assert "a.b" == first[1]
    assert twin.decode() == second[4]


def test_what_is_remembered_is_bounded(says):
    """Routing keys without end do not fill the memory."""
    from loopcast.amqp import delivering

    parser = Parser()
    for n in range(20000):
        ((delivery,),) = parser.feed(says.delivery(n, routing_key=b"e.%d" % n))
        assert f"e.{n}" == delivery.routing_key

    assert len(delivering._routing_keys) <= 16384
