"""The outbox: the same bytes, in few writes, and a limit that cannot close the same viewer for ever."""

from hypothesis import given
from hypothesis import strategies as st

from loopcast_gateway.flusher import SLICE, Flusher
from loopcast_gateway.outbox import WRITE_BYTES, Outbox

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
