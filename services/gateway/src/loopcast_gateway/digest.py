"""
What the log before a position comes to: its experiments and runs, and which of its messages were repeats. Pure.

A function of the log alone. So one that a gateway wrote down (the checkpoint) and the log after it give the same as
reading all of the log, and any gateway may write it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from loopcast import pulse
from loopcast.broker.interface import Delivery
from loopcast.holes import Hole
from loopcast.repeats import Repeats
from loopcast_gateway.catalog import Catalog
from loopcast_gateway.entry import Entry, is_repeat, to_entry
from loopcast_gateway.open_runs import OpenRuns

__all__ = ["FORMAT", "Digest"]

FORMAT = "gateway-1"
"""Of the parts of a checkpoint; another one is not read."""

REPEATED = 100_000
"""Offsets of repeats that are kept, so that a replay leaves out what the live feed left out."""

_offsets = msgspec.msgpack.Decoder(list[int])


class Digest:
    """
    What was read of one partition, told in little.

    One that is not `whole` began in the middle of the log, where a number may jump because what was before it is not
    known: it says of nothing that it is missing.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self._whole = whole
        self.catalog = Catalog()
        self.runs = OpenRuns()
        self.repeats = Repeats()
        self._repeated: OrderedDict[int, None] = OrderedDict()
        self._holes: list[Hole] = []

    def read(self, delivery: Delivery, partition: int) -> Entry | None:
        """Take the next message; the event that it is, None for what viewers never see."""
        entry = to_entry(delivery, partition)
        if entry is None:
            if (beat := pulse.from_delivery(delivery)) is not None:
                self.runs.beat(beat)
            return None
        if is_repeat(delivery, self.repeats):
            self._repeated[delivery.offset] = None
            if len(self._repeated) > REPEATED:
                self._repeated.popitem(last=False)
            return None
        self.catalog.add(entry)
        self.runs.add(entry)
        if self.repeats.skipped and self._whole and (missing := self.repeats.hole(delivery.headers.get("attempt"))):
            self._holes.append(hole := Hole(entry.experiment, entry.run, missing))
            self.runs.miss(hole)
        return entry

    def missed(self) -> list[Hole]:
        """What never came before the events that were read, each hole once."""
        holes, self._holes = self._holes, []
        return holes

    def lead_in(self, delivery: Delivery) -> None:
        """Know a message from before the first that counts, so that a repeat of it is known for one."""
        is_repeat(delivery, self.repeats)

    def repeated(self, offset: int) -> bool:
        """Whether the message at `offset` was found to be a repeat."""
        return offset in self._repeated

    def dump(self) -> dict[str, bytes]:
        """The parts of a checkpoint."""
        return {
            "catalog": self.catalog.dump(),
            "runs": self.runs.dump(),
            "repeats": self.repeats.dump(),
            "repeated": msgspec.msgpack.encode(list(self._repeated)),
        }

    @classmethod
    def load(cls, parts: Mapping[str, bytes]) -> Digest:
        """
        Read back what :meth:`dump` gave.

        Raises:
            ValueError: it did not, or another version did.
        """
        digest = cls()
        try:
            digest.catalog.load(parts["catalog"])
            digest.runs.load(parts["runs"])
            digest.repeats = Repeats.load(parts["repeats"])
            digest._repeated = OrderedDict.fromkeys(_offsets.decode(parts["repeated"]))
        except (KeyError, msgspec.MsgspecError) as error:
            raise ValueError(f"this is no checkpoint of a gateway's: {error}") from None
        return digest
