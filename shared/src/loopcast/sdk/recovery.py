"""What a process that died left in its folder, as a spool again."""

from __future__ import annotations

from loopcast.sdk.folder import SpoolFolder
from loopcast.sdk.framing import unframe
from loopcast.sdk.segments import Segment
from loopcast.sdk.spool import SET_ASIDE, Spool

__all__ = ["recover"]


def recover(folder: SpoolFolder) -> Spool:
    """
    The spool that another process left in `folder`.

    A tail that it tore by dying in the middle of a write is cut; damage before that is counted in `damaged`, and
    in `unreadable` how many records it cost at least.

    Raises:
        OSError: a segment cannot be opened or read now. Nothing is lost by it: `folder` is as it was, still held.
    """
    spool = Spool(0, "drop_newest", folder=folder)
    number, offset, spool.dropped = folder.read_cursor()
    opened: list[Segment] = []
    for found in folder.numbers():
        try:
            segment = folder.segment(found)
            opened.append(segment)
            content = segment.read(0, segment.size)
        except OSError:
            for unused in opened:
                unused.close()
            raise
        start = min(offset, segment.size) if found == number else 0
        if SET_ASIDE < found < number:
            segment.delete()
            continue
        whole = unframe(content[start:], len(content), last=True)
        segment.size = start + whole.read
        spool.unreadable += whole.lost
        spool.adopt(segment, start, whole.records)
    return spool
