"""Checkpoint records: what is written is read back, and which of several counts."""

import pytest

from loopcast.checkpoint.record import Record, choose, decode, encode
from loopcast.position import Position


def record(epoch, offset, *, form="f1", parts=None):
    """A record of a reader that stands at `offset`."""
    return Record(epoch, str(Position.of(0, offset, f"id-{offset}")), form, {"state": b"x"} if parts is None else parts)


def test_a_record_is_read_back_as_it_was_written():
    """Epoch, position, format and the parts' bytes."""
    written = record(3, 70, parts={"a": b"\x00\xff" * 5000, "b": b""})

    assert written == decode(encode(written))
    assert len(encode(written)) < 500


@pytest.mark.parametrize("body", [b"", b"{}", b"LCK\x02abc", encode(record(1, 1))[:-3], b"LCK\x01" + b"no zstd"])
def test_what_is_no_record_is_refused(body):
    """A cut, foreign or newer record is an error and never a wrong state."""
    with pytest.raises(ValueError, match="checkpoint"):
        decode(body)


def test_the_highest_epoch_counts_and_in_it_the_highest_position():
    """A late record of an old holder, written after the new one's, does not count."""
    bodies = [encode(r) for r in (record(1, 90), record(2, 50), record(2, 60), record(1, 99))]

    assert (record(2, 60), 2) == choose(bodies, "f1")


def test_another_format_counts_for_the_epoch_only():
    """A state of another version is read from the log anew, under an epoch above its writer's."""
    assert (None, 7) == choose([encode(record(7, 5, form="f0")), b"rubbish"], "f1")


def test_marks_have_no_state():
    """A record without parts is none to go on from."""
    assert (record(1, 5), 4) == choose([encode(record(1, 5)), encode(record(4, 9, parts={}))], "f1")
