"""A disk that is really full under the SDK's spool."""

import time

import pytest
from scripted import ScriptedProducer
from small_disk import fill, small_disk

from loopcast import LoopcastTransport
from loopcast.sdk import spool as spool_module

AWAY = "http://127.0.0.1:9"
DISK_BYTES = 256 * 1024
TEXT = "x" * 1000


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KiB."""
    with small_disk(tmp_path / "disk", DISK_BYTES) as folder:
        yield folder


@pytest.fixture
def producer():
    """A producer that takes everything."""
    with ScriptedProducer() as running:
        yield running


def send(transport, numbers):
    for n in numbers:
        transport.send({"event": "x", "n": n, "text": TEXT})


def numbers(producer):
    """What came, each once: a cursor that no disk took means that some come again."""
    found = {event["id"]: event["data"]["n"] for _, _, batch, _ in producer.requests for event in batch}
    return list(found.values())


@pytest.mark.parametrize(
    # The oldest are those on the disk.
    ("policy", "expected"),
    [("drop_oldest", (range(600, 1000), 0)), ("drop_newest", (range(400), 100))],
)
def test_a_full_disk_stops_nothing(producer, disk, caplog, policy, expected):
    """What the disk does not take waits in memory, up to the same bound; then the policy holds. All is counted."""
    producer.hold.clear()
    transport = LoopcastTransport(producer.url, "e", "r", spool=disk / "spool", max_bytes=400 * 1480 + 700, full=policy)
    send(transport, range(1000))
    full = transport.stats
    producer.script = [503, 503]
    producer.hold.set()
    report = transport.close(20)

    assert (1000, 1000) == (full.emitted, full.accepted + full.spooled + full.dropped)
    assert full.in_memory > 100
    kept, on_disk = expected
    assert full.spooled - full.in_memory >= on_disk
    assert full.full == full.dropped > 500
    sentence = "wait in memory alone, the spool (LOOPCAST_SPOOL_DIR) does not take them: No space left on device"
    assert sentence in caplog.text
    assert (True, 1000) == (report.complete, report.stats.accepted + report.stats.dropped)
    assert sorted(numbers(producer)) == numbers(producer)
    assert len(set(kept) - set(numbers(producer))) < 60
    assert report.stats.accepted == len(numbers(producer))


def test_a_disk_with_room_again_is_used_again(producer, disk, monkeypatch, caplog):
    """Events that waited in memory go to the disk at the end, and the next process delivers all of them in order."""
    monkeypatch.setattr(spool_module, "DISK_AGAIN_SECONDS", 0.2)
    filler = fill(disk / "filler")
    transport = LoopcastTransport(AWAY, "e", "r", spool=disk / "spool")
    send(transport, range(50))
    full = transport.stats
    filler.unlink()
    time.sleep(0.25)
    send(transport, range(50, 100))
    roomy = transport.stats
    left = transport.close(0.1)
    # The same address, now with a producer behind it.
    for about in disk.rglob("about.json"):
        about.write_text(about.read_text().replace(AWAY, producer.url))
    following = LoopcastTransport(producer.url, "e", "r", spool=disk / "spool")
    send(following, [100])
    report = following.close(20)

    assert (50, 50, 0) == (full.spooled, full.in_memory, full.dropped)
    assert roomy.in_memory <= 50 < roomy.spooled
    assert (False, 100, 0, 0) == (left.complete, left.stats.spooled, left.stats.unsaved, left.stats.in_memory)
    assert (True, 100) == (report.complete, report.stats.inherited)
    assert list(range(101)) == numbers(producer)


def test_a_disk_that_stays_full_says_what_is_lost(disk, caplog):
    """Nothing took them, nobody came: they are lost with the process, and counted and said."""
    fill(disk / "filler")
    transport = LoopcastTransport(AWAY, "e", "r", spool=disk / "spool")
    send(transport, range(50))
    report = transport.close(0.2)

    assert (False, 50, 0, 50) == (report.complete, report.stats.dropped, report.stats.spooled, report.stats.unsaved)
    assert "50 of 50 events are lost" in caplog.text
