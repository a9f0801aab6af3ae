"""What a request may cost the producer: its peak of memory, whatever comes, however long and however packed."""

import gzip
import sys
import zlib
from pathlib import Path

import httpx
import pytest
from processes import Producer

from loopcast_producer.receipt import MAX_STREAM_RESULTS

MB = 1_000_000
ALLOWED = 48 * MB
"""A window of unconfirmed messages, the pieces of a body on their way, and what the interpreter keeps of both."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads a process's peak of memory from /proc"),
]


@pytest.fixture(scope="module")
def producer(module_vhost_url, tmp_path_factory):
    """One producer for the module, warm, and a log that is kept short."""
    limits = {"LOOPCAST_LOG_MAX_BYTES": "130000000", "LOOPCAST_WINDOW_BYTES": "8388608"}
    with Producer(module_vhost_url, tmp_path_factory.mktemp("producer") / "log", **limits) as running:
        running.post(lines(20), "warm", "application/x-ndjson")
        yield running


@pytest.fixture
def peak(producer):
    """How far the producer's memory rose at most since the test began, in bytes."""
    proc = Path(f"/proc/{producer.process.pid}")

    def high():
        status = (proc / "status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    (proc / "clear_refs").write_text("5")
    before = high()
    return lambda: high() - before


def lines(millions, size=20_000):
    """So many million bytes of lines."""
    line = b'{"event":"bulk","text":"' + b"x" * (size - 30) + b'"}\n'
    for _ in range(millions * MB // len(line)):
        yield line


@pytest.mark.parametrize("millions", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_stream_of_lines_takes_the_memory_of_a_few(producer, peak, millions):
    """However long the stream is, each event is in the log and the peak is the same."""
    answer = producer.post(lines(millions), "long", "application/x-ndjson")

    assert (202, sum(1 for _ in lines(millions))) == (answer.status_code, answer.json()["accepted"])
    assert peak() < ALLOWED


def test_a_long_stream_lists_its_first_results(producer):
    """What comes after the bound is counted and not listed, so that hundreds of long streams may be open at once."""
    answer = producer.post(b'{"event":"x"}\n' * (MAX_STREAM_RESULTS + 5), "listed", "application/x-ndjson").json()

    assert (MAX_STREAM_RESULTS + 5, MAX_STREAM_RESULTS, 5) == (
        answer["accepted"],
        len(answer["events"]),
        answer["omitted"],
    )


def test_a_packed_stream_takes_the_memory_of_a_few(producer, peak):
    """The same, compressed on its way: it is unpacked piece by piece."""

    def packed():
        squeeze = zlib.compressobj(1, wbits=31)
        for n in range(2000):
            # A text of its own each: what repeats too well is taken for a bomb.
            words = " ".join(str((n * 7919 + i * 104_729) % 1_000_003) for i in range(3000))
            yield squeeze.compress(b'{"event":"packed","text":"' + words.encode() + b'"}\n')
        yield squeeze.flush()

    answer = httpx.post(
        f"{producer.url}/v1/experiments/packed/events",
        content=packed(),
        headers={"content-type": "application/x-ndjson", "content-encoding": "gzip"},
        timeout=120,
    )

    assert (202, 2000) == (answer.status_code, answer.json()["accepted"])
    assert peak() < ALLOWED


def test_a_line_without_end_is_thrown_away_as_it_comes(producer, peak):
    """One line of half a gigabyte is one refused item, and the line behind it is taken."""

    def endless():
        yield b'{"event":"endless","text":"'
        for _ in range(500):
            yield b"x" * MB
        yield b'"}\n{"event":"next"}\n'

    answer = producer.post(endless(), "endless", "application/x-ndjson")

    assert ["invalid", "accepted"] == [event["status"] for event in answer.json()["events"]]
    assert "LOOPCAST_MAX_EVENT_BYTES" in answer.json()["events"][0]["error"]
    assert peak() < ALLOWED


@pytest.fixture(scope="module")
def bomb():
    """A gigabyte that is a megabyte; to make it takes seconds."""
    squeeze = zlib.compressobj(9, wbits=31)
    return b"".join([*(squeeze.compress(b"[" + b" " * (10 * MB)) for _ in range(100)), squeeze.flush()])


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/json", "application/cloudevents-batch+json"])
def test_a_bomb_is_refused_before_it_unpacks(producer, peak, bomb, kind):
    """A gigabyte in a megabyte is 413, whatever it says to be, with little of it in memory."""
    answer = producer.post(bomb, "bomb", kind, content_encoding="gzip")

    assert (413, "urn:loopcast:problem:body-too-large") == (answer.status_code, answer.json()["type"])
    assert peak() < ALLOWED


def test_bombs_in_members_add_up(producer, peak):
    """Many small gzip members, each within the free megabyte, are one bomb all the same."""
    member = gzip.compress(b'{"event":"a"}\n' + b" " * 900_000)

    answer = producer.post(member * 500, "bomb", "application/x-ndjson", content_encoding="gzip")

    assert (413, "urn:loopcast:problem:body-too-large") == (answer.status_code, answer.json()["type"])
    assert peak() < ALLOWED
