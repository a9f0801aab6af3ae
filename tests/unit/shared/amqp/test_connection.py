"""The life of a connection as methods back and forth, without a socket."""

import random
import struct

import pytest
from pamqp import commands, frame, heartbeat

from loopcast.amqp.connection import Connection, Login, Phase
from loopcast.amqp.consumer import ConsumeConnection
from loopcast.amqp.events import Closed, Ready
from loopcast.amqp.methods import PROTOCOL_HEADER
from loopcast.amqp.publisher import PublishConnection
from loopcast.broker.interface import Message, Settlement
from loopcast.errors import BrokerUnavailable, LogMissing

START = commands.Connection.Start(0, 9, {"product": "RabbitMQ"}, "AMQPLAIN PLAIN", "en_US")


class Peer:
    """A broker of a few words: says methods, and reads what the connection answered."""

    def __init__(self, connection):
        self.connection = connection
        self.events = []
        assert PROTOCOL_HEADER == connection.output()

    def bytes(self, data):
        """Say bytes; what is answered."""
        self.events += self.connection.receive(data)
        return self.answers()

    def says(self, *methods, channel=1):
        """Say methods; what is answered."""
        return self.bytes(
            b"".join(frame.marshal(m, 0 if m.name.startswith("Connection") else channel) for m in methods)
        )

    def answers(self):
        found, raw = [], self.connection.output()
        while raw:
            size, _, value = frame.unmarshal(raw)
            raw = raw[size:]
            found.append(value)
        return found

    def ready(self, heartbeat=60, frame_max=131072):
        self.says(START)
        self.says(commands.Connection.Tune(2047, frame_max, heartbeat))
        self.says(commands.Connection.OpenOk())
        self.says(commands.Channel.OpenOk())
        if isinstance(self.connection, PublishConnection):
            self.says(commands.Confirm.SelectOk())
        else:
            self.says(commands.Basic.QosOk())
            self.says(commands.Basic.ConsumeOk("loopcast"))
        self.events.clear()
        return self

    def names(self, *methods):
        return [m.name for m in self.says(*methods)]

    @property
    def error(self):
        """Why the connection closed."""
        (closed,) = [event for event in self.events if isinstance(event, Closed)]
        return closed.error


def publishing(**login):
    return Peer(PublishConnection(Login(**login)))


def consuming(**rest):
    return Peer(ConsumeConnection(Login(), "q", prefetch=100, **rest))


def message(id_="id", body=b"hello", key="a.b", **rest):
    return Message(exchange="loopcast.events", routing_key=key, body=body, message_id=id_, **rest)


def test_the_handshake_of_a_publisher():
    """Login, limits, virtual host, channel, confirm mode: one method for each answer, then it is ready."""
    peer = publishing(user="ann", password="s3:c/r@t", vhost="/team", name="producer-0", heartbeat=20)

    (start_ok,) = peer.says(START)
    assert ("PLAIN", "\0ann\0s3:c/r@t", "en_US") == (start_ok.mechanism, start_ok.response, start_ok.locale)
    assert "producer-0" == start_ok.client_properties["connection_name"]
    capabilities = start_ok.client_properties["capabilities"]
    assert all(
        capabilities[name]
        for name in (
            "publisher_confirms",
            "consumer_cancel_notify",
            "connection.blocked",
            "authentication_failure_close",
            "basic.nack",
        )
    )
    tune_ok, open_ = peer.says(commands.Connection.Tune(2047, 65536, 60))
    assert (1, 65536, 20) == (tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat)
    assert "/team" == open_.virtual_host
    assert ["Channel.Open"] == peer.names(commands.Connection.OpenOk())
    assert ["Confirm.Select"] == peer.names(commands.Channel.OpenOk())
    assert [] == peer.events
    assert [] == peer.says(commands.Confirm.SelectOk())
    assert [Ready(20)] == peer.events


def test_the_handshake_of_a_consumer():
    """The prefetch is set before the consumer begins, and the consumer begins where it was told to."""
    peer = consuming(offset=128, exclusive=True)
    peer.says(START)
    peer.says(commands.Connection.Tune(2047, 131072, 60))
    peer.says(commands.Connection.OpenOk())

    (qos,) = peer.says(commands.Channel.OpenOk())
    assert (100, 0, False) == (qos.prefetch_count, qos.prefetch_size, qos.global_)
    (consume,) = peer.says(commands.Basic.QosOk())
    assert ("q", False, True, {"x-stream-offset": 128}) == (
        consume.queue,
        consume.no_ack,
        consume.exclusive,
        consume.arguments,
    )
    peer.says(commands.Basic.ConsumeOk("loopcast"))
    assert [Ready(10)] == peer.events


def test_a_consumer_that_wants_a_part_of_a_stream():
    """The filter's value goes out with leave for what has none; without one nothing of it is said."""
    some, everything = (
        ConsumeConnection(Login(), "q", prefetch=1, offset="first", only=only)._setup[-1].arguments
        for only in ("exp-1", None)
    )

    assert {"x-stream-offset": "first", "x-stream-filter": "exp-1", "x-stream-match-unfiltered": True} == some
    assert {"x-stream-offset": "first"} == everything


def test_the_broker_s_version_is_known():
    """What the broker says of itself at the start of the handshake is kept."""
    peer = consuming(offset=0)
    before = peer.connection.server_version
    peer.says(commands.Connection.Start(0, 9, {"version": "4.0.5"}, "PLAIN", "en_US"))

    assert ("", "4.0.5") == (before, peer.connection.server_version)


@pytest.mark.parametrize(("offset", "seconds"), [("@1760000000", 1760000000), ("@0", 0)])
def test_an_offset_that_is_a_time(offset, seconds):
    """A Unix time goes out as AMQP's timestamp."""
    connection = ConsumeConnection(Login(), "q", prefetch=1, offset=offset)
    consume = connection._setup[-1]

    assert seconds == consume.arguments["x-stream-offset"].timestamp()


@pytest.mark.parametrize(("ours", "broker", "agreed"), [(10, 60, 10), (60, 10, 10), (10, 0, 10), (0, 60, 0), (0, 0, 0)])
def test_heartbeats_are_agreed_on(ours, broker, agreed):
    """The shorter interval holds; a broker without one takes ours, and ours of 0 is never."""
    peer = publishing(heartbeat=ours)
    peer.says(START)

    tune_ok, _ = peer.says(commands.Connection.Tune(2047, 131072, broker))

    assert agreed == tune_ok.heartbeat


@pytest.mark.parametrize(("broker", "agreed"), [(0, 131072), (4096, 4096), (1_000_000, 131072)])
def test_frame_max_is_agreed_on(broker, agreed):
    """The smaller limit holds, and 0 is none of the broker's; bodies are split by it."""
    peer = publishing()
    peer.says(START)
    tune_ok, _ = peer.says(commands.Connection.Tune(2047, broker, 60))
    assert agreed == tune_ok.frame_max
    peer.says(commands.Connection.OpenOk())
    peer.says(commands.Channel.OpenOk())
    peer.says(commands.Confirm.SelectOk())

    peer.connection.publish([message(body=b"x" * 200_000)])

    _, _, *bodies = peer.answers()
    assert agreed - 8 == max(len(body.value) for body in bodies)


def test_login_by_certificate():
    """EXTERNAL sends no name and no password."""
    peer = Peer(PublishConnection(Login(external=True)))

    (start_ok,) = peer.says(commands.Connection.Start(0, 9, {}, "PLAIN EXTERNAL", "en_US"))

    assert ("EXTERNAL", "") == (start_ok.mechanism, start_ok.response)


def test_a_broker_without_our_mechanism():
    """What cannot log in says so."""
    peer = publishing()

    peer.says(commands.Connection.Start(0, 9, {}, "EXTERNAL", "en_US"))

    assert "PLAIN" in str(peer.error)


def test_a_login_refused():
    """The broker's own words are the reason."""
    peer = publishing()
    peer.says(START)

    answers = peer.names(commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused using PLAIN.", 0, 0))

    assert ["Connection.CloseOk"] == answers
    assert isinstance(peer.error, BrokerUnavailable)
    assert "ACCESS_REFUSED - Login was refused using PLAIN (403)" in str(peer.error)


def test_a_queue_that_is_not_there():
    """A 404 while the channel is set up is a missing log, and the connection is left in order."""
    peer = consuming()
    peer.says(START)
    peer.says(commands.Connection.Tune(2047, 131072, 60), commands.Connection.OpenOk(), commands.Channel.OpenOk())
    peer.says(commands.Basic.QosOk())

    answers = peer.names(commands.Channel.Close(404, "NOT_FOUND - no queue 'q' in vhost '/'", 60, 20))

    assert ["Channel.CloseOk", "Connection.Close"] == answers
    assert isinstance(peer.error, LogMissing)
    assert "no queue 'q'" in str(peer.error)


@pytest.mark.parametrize(("code", "kind"), [(404, LogMissing), (403, BrokerUnavailable), (406, BrokerUnavailable)])
def test_a_channel_closed_in_the_middle(code, kind):
    """Channel errors end the link, with the reason; only 404 is a missing log."""
    peer = publishing().ready()

    peer.says(commands.Channel.Close(code, "WHY - because", 60, 40))

    assert kind is type(peer.error)
    assert f"WHY - because ({code})" in str(peer.error)
    assert Phase.CLOSED is peer.connection.phase


def test_a_consumer_cancelled():
    """A deleted queue ends the link as a missing log (basic.cancel from the broker)."""
    peer = consuming().ready()

    assert ["Connection.Close"] == peer.names(commands.Basic.Cancel("loopcast", True))
    assert isinstance(peer.error, LogMissing)


def test_closing_in_order(says):
    """First the channel, then the connection; deliveries that still come are not handed over."""
    peer = consuming().ready()

    assert [] == peer.connection.close()
    assert ["Channel.Close"] == [m.name for m in peer.answers()]
    assert [] == peer.says(commands.Basic.Cancel("loopcast", True))
    assert [] == peer.bytes(says.delivery(1))
    assert ["Connection.Close"] == peer.names(commands.Channel.CloseOk())
    assert [] == peer.events
    peer.says(commands.Connection.CloseOk())
    assert [Closed(None)] == peer.events
    assert [] == peer.connection.close()
    assert [] == peer.connection.lost(None)


def test_closing_while_the_broker_closes():
    """Both sides close at once: both are answered, and it was asked for."""
    peer = publishing().ready()
    peer.connection.close()
    peer.answers()

    assert ["Channel.CloseOk"] == peer.names(commands.Channel.Close(404, "NOT_FOUND", 60, 40))
    assert ["Connection.CloseOk"] == peer.names(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0))
    assert peer.error is None


def test_closing_before_it_is_ready():
    """Who gives up during the handshake is not held up by it."""
    peer = publishing()
    peer.says(START)

    assert [Closed(None)] == peer.connection.close()


@pytest.mark.parametrize(
    ("words", "reason"),
    [((), "is it the right port"), ((START,), "was lost"), ((START, commands.Connection.Tune(1, 0, 0)), "was lost")],
)
def test_a_socket_lost_during_the_handshake(words, reason):
    """Hanging up before the first word hints at the port and TLS; later it is a lost connection."""
    peer = publishing()
    peer.says(*words)

    (closed,) = peer.connection.lost(ConnectionResetError("reset by peer"))

    assert reason in str(closed.error)


def test_blocked_and_unblocked():
    """The broker's reason stands while it takes nothing."""
    peer = publishing().ready()

    peer.says(commands.Connection.Blocked("low on memory"))
    assert "low on memory" == peer.connection.blocked
    peer.says(commands.Connection.Blocked(""))
    assert peer.connection.blocked
    peer.says(commands.Connection.Unblocked())
    assert peer.connection.blocked is None


def test_flow_is_answered():
    """Channel.flow is acknowledged, as the protocol demands."""
    (flow_ok,) = publishing().ready().says(commands.Channel.Flow(False))

    assert ("Channel.FlowOk", False) == (flow_ok.name, flow_ok.active)


def test_heartbeats_fill_the_silence(says):
    """A tick sends a heartbeat only where nothing else was sent since the last."""
    peer = publishing().ready()
    peer.connection.tick()
    peer.answers()

    peer.connection.tick()
    assert [heartbeat.Heartbeat] == [type(a) for a in peer.answers()]
    peer.connection.publish([message()])
    peer.answers()
    peer.bytes(says.heartbeat)
    peer.connection.tick()
    assert [] == peer.answers()
    peer.connection.tick()
    assert [heartbeat.Heartbeat] == [type(a) for a in peer.answers()]


def test_a_silent_broker_is_given_up():
    """Between one and a half and two intervals after the last byte, whatever it was, the connection is over."""
    peer = publishing().ready(heartbeat=10)
    assert [] == peer.connection.tick()
    assert [] == peer.connection.tick()
    peer.bytes(b"\x08\x00\x00")
    for _ in range(3):
        assert [] == peer.connection.tick()

    (closed,) = peer.connection.tick()

    assert "silent for 15 s" in str(closed.error)
    assert [] == peer.connection.tick()


@pytest.mark.parametrize(
    "method",
    [
        START,
        commands.Connection.Tune(1, 0, 0),
        commands.Connection.OpenOk(),
        commands.Connection.CloseOk(),
        commands.Connection.Secure("x"),
        commands.Channel.OpenOk(),
        commands.Channel.CloseOk(),
        commands.Basic.QosOk(),
        commands.Queue.DeclareOk("q", 0, 0),
        commands.Basic.Publish(0, "x", "y"),
    ],
)
def test_methods_out_of_their_order(method):
    """What nobody asked for ends the connection with 503, and the broker is told."""
    peer = publishing().ready()

    (close,) = peer.says(method)

    assert ("Connection.Close", 503) == (close.name, close.reply_code)
    assert isinstance(peer.error, BrokerUnavailable)
    assert method.name in str(peer.error)


def test_the_wrong_answer_in_the_handshake():
    """Each step of the setup has one answer."""
    peer = publishing()
    peer.says(START)
    peer.says(commands.Connection.Tune(1, 0, 0), commands.Connection.OpenOk())

    (close,) = peer.says(commands.Confirm.SelectOk())

    assert 503 == close.reply_code


def test_bytes_that_are_no_amqp(says):
    """A malformed frame ends the connection with its code; what came whole before it counts."""
    peer = publishing().ready()
    peer.connection.publish([message()])
    peer.answers()

    (close,) = peer.bytes(says.ack(1) + b"nonsense")

    assert 501 == close.reply_code
    assert [(1, False, Settlement.CONFIRMED)] == [e for e in peer.events if not isinstance(e, Closed)]
    assert "not AMQP 0-9-1" in str(peer.error)
    assert [] == peer.bytes(says.ack(1))


def test_what_is_no_broker_at_all():
    """A web server, or a port that wants TLS, is named as what it is not; nothing is said to it."""
    peer = publishing()

    assert [] == peer.bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert "not AMQP 0-9-1" in str(peer.error)


def test_content_on_the_wrong_connection(says):
    """A publisher gets no deliveries and a consumer no confirms; neither comes before the channel is open."""
    assert 505 == publishing().ready().bytes(says.delivery(1))[0].reply_code
    assert 505 == consuming().ready().bytes(says.ack(1))[0].reply_code
    early = publishing()
    early.says(START)
    assert 505 == early.bytes(says.ack(1))[0].reply_code


def test_confirms_and_returns(says):
    """What is published is settled by tag, a returned message as returned."""
    peer = publishing().ready()
    assert [] == peer.connection.publish([message("a"), message("b"), message("c")])
    peer.answers()

    peer.bytes(says.returned(b"b") + says.ack(3, multiple=True))

    assert [
        (1, True, Settlement.CONFIRMED),
        (2, False, Settlement.RETURNED),
        (3, True, Settlement.CONFIRMED),
    ] == peer.events


def test_what_cannot_be_encoded_is_rejected(caplog, says):
    """It is rejected for itself, its neighbours go out, and the broker's tags are understood behind it."""
    peer = publishing().ready()

    settled = peer.connection.publish([message("a"), message("b" * 300), message("c")])

    assert [(2, False, Settlement.REJECTED)] == settled
    assert ["a", "c"] == [a.properties.message_id for a in peer.answers() if hasattr(a, "properties")]
    assert "255" in caplog.text
    peer.bytes(says.ack(2, multiple=True))
    assert [(3, True, Settlement.CONFIRMED)] == peer.events


def test_nothing_goes_out_once_it_is_over():
    """Publishing and acknowledging on a dead connection does nothing, and raises nothing."""
    peer = publishing().ready()
    peer.connection.lost(None)
    assert [] == peer.connection.publish([message()])
    assert b"" == peer.connection.output()

    peer = consuming().ready()
    peer.connection.close()
    peer.answers()
    peer.connection.ack(1, multiple=True)
    assert b"" == peer.connection.output()


def test_golden_ack():
    """The bytes of an acknowledgement, for one and for all before it."""
    peer = consuming().ready()

    peer.connection.ack(258, multiple=True)
    peer.connection.ack(3, multiple=False)

    assert (
        b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x01\x02\x01\xce"
        b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50\x00\x00\x00\x00\x00\x00\x00\x03\x00\xce"
    ) == peer.connection.output()


def test_deliveries_in_one_event(says):
    """What a read brings comes as one event, the answer to the setup before it."""
    peer = consuming()
    peer.says(START)
    peer.says(commands.Connection.Tune(1, 0, 0), commands.Connection.OpenOk(), commands.Channel.OpenOk())
    peer.says(commands.Basic.QosOk())

    peer.bytes(says.method(commands.Basic.ConsumeOk("loopcast")) + says.delivery(1) + says.heartbeat + says.delivery(2))

    ready, deliveries = peer.events
    assert Ready(10) == ready
    assert [1, 2] == [delivery.tag for delivery in deliveries]


def test_a_plain_connection_takes_no_content(says):
    """The base class serves nothing by itself."""
    peer = Peer(Connection(Login(), []))
    peer.says(START)
    peer.says(commands.Connection.Tune(1, 0, 0), commands.Connection.OpenOk(), commands.Channel.OpenOk())

    with pytest.raises(NotImplementedError):
        peer.bytes(says.ack(1))


def test_noise_never_raises(says):
    """Whatever comes at whatever point, a connection answers or ends; it never raises, and ends once."""
    words = [frame.marshal(m, c) for c, m in ((0, START), (0, commands.Connection.Tune(1, 0, 0)))]
    words += [
        frame.marshal(m, c)
        for c, m in (
            (0, commands.Connection.OpenOk()),
            (1, commands.Channel.OpenOk()),
            (1, commands.Confirm.SelectOk()),
            (1, commands.Basic.QosOk()),
            (1, commands.Basic.ConsumeOk("loopcast")),
        )
    ]
    later = [says.ack(1, True), says.nack(2), says.delivery(1), says.returned(b"id"), says.blocked, says.heartbeat]
    later += [frame.marshal(commands.Channel.Close(404, "x", 0, 0), 1), frame.marshal(commands.Channel.CloseOk(), 1)]
    later += [frame.marshal(commands.Connection.CloseOk(), 0), frame.marshal(commands.Basic.Cancel("x", True), 1)]
    noise = random.Random(7)
    for _ in range(3000):
        connection = noise.choice([PublishConnection(Login()), ConsumeConnection(Login(), "q", prefetch=1)])
        events = []
        for word in words[: noise.randrange(len(words) + 1)]:
            if not (isinstance(connection, PublishConnection) and word in words[5:]) and not (
                isinstance(connection, ConsumeConnection) and word == words[4]
            ):
                events += connection.receive(word)
        for _ in range(noise.randrange(6)):
            data = bytearray(noise.choice(later + words))
            if noise.random() < 0.3:
                data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
            action = noise.randrange(12)
            events += connection.close() if action == 0 else connection.tick() if action == 1 else []
            events += connection.receive(bytes(data))
            if isinstance(connection, PublishConnection):
                connection.publish([message()])
            connection.output()
        events += connection.lost(None)

        assert 1 == sum(isinstance(event, Closed) for event in events)
        assert Phase.CLOSED is connection.phase


def test_a_heartbeat_is_one_frame():
    """Eight bytes (AMQP 0-9-1, 4.2.7)."""
    peer = publishing().ready()
    peer.connection.tick()
    peer.connection.output()
    peer.connection.tick()

    assert (8, 0, 0, 0xCE) == struct.unpack(">BHIB", peer.connection.output())
