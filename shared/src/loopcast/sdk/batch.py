"""Some records of a spool's segment, read to be sent."""

from __future__ import annotations

from typing import NamedTuple

from loopcast.sdk.framing import unframe
from loopcast.sdk.segments import Segment

__all__ = ["Batch", "load"]


class Batch(NamedTuple):
    """Records that were taken, and where each of them ends."""

    records: list[bytes]
    ends: list[int]
    segment: Segment


def load(plan: tuple[Segment, int], records: int, size: int) -> tuple[Batch, int]:
    """The batch that begins there, and how many bytes of damage were skipped; needs no lock, changes nothing."""
    segment, offset = plan
    end = segment.size
    stretch = segment.read(offset, size)
    found = unframe(stretch, records, last=offset + len(stretch) >= end)
    if not found.records and found.wanted:
        stretch = segment.read(offset, found.wanted)
        found = unframe(stretch, 1, last=offset + len(stretch) >= end)
    return Batch(found.records, [offset + e for e in found.ends], segment), found.damaged
