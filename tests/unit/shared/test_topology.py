"""The names in the broker."""

import pytest

from loopcast.errors import ConfigurationError
from loopcast.topology import Topology, log_stream, parse_age


def test_one_partition() -> None:
    """With one partition the log is one stream, bound to the topic exchange itself."""
    topology = Topology()

    assert ["loopcast.events", "loopcast.log.partitions"] == [e.name for e in topology.exchanges]
    assert [("loopcast.log.0", "stream")] == [(q.name, q.kind) for q in topology.queues]
    assert [("loopcast.events", "loopcast.log.0", "queue", "#")] == [
        (b.source, b.destination, b.to, b.key) for b in topology.bindings
    ]


def test_more_partitions() -> None:
    """With more, a headers exchange spreads the log, and what matches no partition goes to a queue of its own."""
    topology = Topology(partitions=2)
    exchanges = {e.name: e for e in topology.exchanges}
    spread = [b for b in topology.bindings if b.source == "loopcast.log"]

    assert "headers" == exchanges["loopcast.log"].kind
    assert {"alternate-exchange": "loopcast.log.stray"} == exchanges["loopcast.log"].arguments
    assert [("loopcast.log.0", 0), ("loopcast.log.1", 1)] == [(b.destination, b.arguments["partition"]) for b in spread]
    assert {"all"} == {b.arguments["x-match"] for b in spread}
    assert ("loopcast.log.stray", "quorum") in {(q.name, q.kind) for q in topology.queues}
    assert ("loopcast.log.stray", "loopcast.log.stray") in {(b.source, b.destination) for b in topology.bindings}


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_complete(partitions: int) -> None:
    """Every binding leads from an exchange to an object of the same topology, and everything is reachable."""
    topology = Topology(partitions=partitions, log_bindings=("a.#", "b.#"))
    exchanges = {e.name for e in topology.exchanges}
    queues = {q.name for q in topology.queues}
    alternates = {str(e.arguments["alternate-exchange"]) for e in topology.exchanges if e.kind == "headers"}
    reached = {(b.to, b.destination) for b in topology.bindings}

    assert {b.source for b in topology.bindings} <= exchanges
    assert {("queue", q) for q in queues} == {r for r in reached if r[0] == "queue"}
    assert alternates <= exchanges
    assert {"a.#", "b.#"} == {b.key for b in topology.bindings if b.source == "loopcast.events"}


def test_number_is_stored() -> None:
    """Two numbers of partitions give one marker with two alternates, which the broker refuses to redeclare."""
    one, other = Topology(partitions=1).marker, Topology(partitions=2).marker

    assert one.name == other.name
    assert ({"alternate-exchange": "1"}, {"alternate-exchange": "2"}) == (one.arguments, other.arguments)


def test_retention() -> None:
    """A stream is declared with its age, its size and fine segments."""
    declared = Topology(max_age="12h", max_bytes=9).queues[0].declared

    assert {
        "x-queue-type": "stream",
        "x-max-age": "12h",
        "x-max-length-bytes": 9,
        "x-stream-max-segment-size-bytes": 67_108_864,
    } == declared


def test_definitions() -> None:
    """The definitions have every object once, with the virtual host in each, as RabbitMQ imports them."""
    topology = Topology(partitions=2, log="other")
    definitions = topology.definitions("team")

    assert [e.name for e in topology.exchanges] == [e["name"] for e in definitions["exchanges"]]
    assert [q.declared for q in topology.queues] == [q["arguments"] for q in definitions["queues"]]
    assert [b.key for b in topology.bindings] == [b["routing_key"] for b in definitions["bindings"]]
    assert {"team"} == {o["vhost"] for objects in definitions.values() for o in objects}
    assert {
        "source": "loopcast.events",
        "vhost": "team",
        "destination": "other",
        "destination_type": "exchange",
        "routing_key": "#",
        "arguments": {},
    } == definitions["bindings"][0]
    assert {
        "name": "other",
        "vhost": "team",
        "type": "headers",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {"alternate-exchange": "other.stray"},
    } in definitions["exchanges"]


@pytest.mark.parametrize("partitions", [0, -1, 256])
def test_bad_partitions(partitions: int) -> None:
    """A number of partitions that a token cannot hold is refused before the broker is asked."""
    with pytest.raises(ConfigurationError, match="must be 1 to 255"):
        Topology(partitions=partitions)


@pytest.mark.parametrize("log", ["", "x" * 250, "loopcast.events"])
def test_bad_log_name(log: str) -> None:
    """A log's name that is none, or another object's, is refused."""
    with pytest.raises(ConfigurationError, match="cannot be the log's name"):
        Topology(log=log)


@pytest.mark.parametrize(
    ("age", "seconds"),
    [("1s", 1), ("2m", 120), ("12h", 43_200), ("7D", 604_800), ("1M", 2_592_000), ("1Y", 31_536_000)],
)
def test_age(age: str, seconds: int) -> None:
    """An age has RabbitMQ's units."""
    assert seconds == parse_age(age)


@pytest.mark.parametrize("age", ["", "7", "7d", "0D", "-1D", "7 D", "7D ", "7D\n", "1.5h", "\u0667D"])
def test_bad_age(age: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ValueError, match="such as 7D"):
        parse_age(age)


def test_log_stream() -> None:
    """A partition's stream is the log's name and the partition."""
    assert "loopcast.log.3" == log_stream("loopcast.log", 3)
    assert ("loopcast.log.0", "loopcast.log.1") == Topology(partitions=2).streams
