"""The outbox: the same bytes, in few writes, and a limit that cannot close the same viewer for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.protocol import CLIENT, OPEN
from websockets.protocol import Protocol as Parser

from loopcast_gateway.flusher import SLICE, Flusher
from loopcast_gateway.frames import CHUNK_BYTES, text_frame
from loopcast_gateway.outbox import WRITE_BYTES, LineOutbox, Outbox

sizes = st.one_of(st.integers(1, 2000), st.integers(WRITE_BYTES - 2, WRITE_BYTES * 2))


@given(st.lists(st.one_of(sizes, st.none()), max_size=30))
def test_what_goes_in_comes_out(steps):
    """Puts and takes in any order give the bytes in theirs, in writes of a bounded size unless one chunk is larger."""
    outbox, put, taken = Outbox(), [], []
    for number, size in enumerate(steps):
        if size is None:
            taken.append(outbox.take())
        else:
            put.append(bytes([number % 256]) * size)
            outbox.put(put[-1])
        assert sum(map(len, put)) - sum(map(len, taken)) == outbox.size
    while outbox.size:
        taken.append(outbox.take())

    assert b"".join(put) == b"".join(taken)
    assert all(len(write) <= WRITE_BYTES or write in put for write in taken)
    assert b"" == outbox.take()


@pytest.mark.parametrize("outbox", [Outbox(), LineOutbox()])
def test_a_ping_behind_a_large_event_closes_nobody(outbox):
    """What was sent is not too much because of a ping behind it; with an event behind it it is, and so are pongs."""
    outbox.put_frame(b"ping")
    assert not outbox.over(100, unsent=1000)
    outbox.put(b"event")
    assert outbox.over(100, unsent=1000)
    outbox.take()
    for _ in range(100):
        outbox.put_frame(b"pong")
    assert outbox.over(100, unsent=0)
    outbox.take()

    assert not outbox.over(100, unsent=1000)
    outbox.put(b"event")
    assert outbox.over(100, unsent=1000)


def test_chunks_are_not_copied_one_by_one():
    """A chunk that is alone is written as it is, the bytes of all its viewers."""
    outbox, chunk = Outbox(), b"x" * 10
    outbox.put(chunk)

    assert outbox.take() is chunk


@given(st.integers(1, 10**7), st.integers(0, 10**7), st.integers(1, 10**6))
def test_over_counts_the_socket_too(size, unsent, limit):
    """A viewer is over its limit by what waits here and in the socket together; by the socket alone never."""
    outbox = Outbox()

    assert not outbox.over(limit, unsent=unsent)
    outbox.put(b"x" * min(size, 1000))
    assert (outbox.size + unsent > limit) == outbox.over(limit, unsent=unsent)
    outbox.clear()
    assert not outbox.over(limit, unsent=unsent)
    assert b"" == outbox.take()


def test_lines_wait_apart_and_leave_together():
    """Lines that wait are one message when they are written, and a control frame keeps its place between messages."""
    outbox = LineOutbox()
    for line in (b"one", b"two"):
        outbox.put(line)
    outbox.put_frame(b"\x8a\x00")
    outbox.put(b"three")

    assert text_frame(b"one\ntwo") + b"\x8a\x00" + text_frame(b"three") == outbox.take()
    assert 0 == outbox.size
    outbox.put(b"four")
    outbox.clear()
    assert (0, b"") == (outbox.size, outbox.take())


@given(st.lists(st.integers(1, CHUNK_BYTES), min_size=1, max_size=12))
def test_messages_of_lines_are_bounded(lengths):
    """Lines fill messages up to a bounded size, and every line comes out, in its order."""
    outbox, lines, written = LineOutbox(), [bytes([65 + n]) * size for n, size in enumerate(lengths)], b""
    for line in lines:
        outbox.put(line)
    while outbox.size:
        written += outbox.take()
    parser = Parser(CLIENT, state=OPEN, max_size=None)
    parser.receive_data(written)
    messages = [bytes(frame.data) for frame in parser.events_received()]

    assert lines == [line for message in messages for line in message.split(b"\n")]
    assert all(len(message) <= CHUNK_BYTES + len(lines) for message in messages)


def test_who_waits_for_more_is_written_once():
    """A flusher that lets viewers wait begins once for all of them, and goes on at once where there are many."""
    begun, turns, log = [], [], []
    flusher = Flusher(turns.append, begun.append)
    viewers = [Recorded(log, flusher) for _ in range(SLICE + 1)]
    for viewer in viewers:
        flusher.add(viewer)

    assert (1, 0) == (len(begun), len(turns))
    begun.pop()()
    assert (SLICE, 1) == (len(log), len(turns))
    turns.pop()()
    assert viewers == log


class Recorded:
    """A viewer that notes when it was flushed."""

    def __init__(self, log, flusher):
        self._log, self._flusher = log, flusher

    def flush(self):
        self._log.append(self)


def test_everybody_is_flushed_once_and_in_slices():
    """Each viewer is flushed once a turn, in the order of coming, and others get a turn between the slices."""
    turns, log = [], []
    flusher = Flusher(turns.append)
    viewers = [Recorded(log, flusher) for _ in range(2 * SLICE + 1)]
    for viewer in viewers:
        flusher.add(viewer)
    lengths = []
    while turns:
        assert not flusher.idle
        turns.pop(0)()
        lengths.append(len(log))

    assert viewers == log
    assert [SLICE, 2 * SLICE, 2 * SLICE + 1] == lengths
    assert flusher.idle
