"""Live viewers, sorted by what they are sent: the bytes for each sort are made once, however many it has. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loopcast_gateway.entry import Entry

if TYPE_CHECKING:
    from loopcast_gateway.dialects import Dialect
    from loopcast_gateway.filters import Filter
    from loopcast_gateway.hub import Subscription, Viewer

__all__ = ["Audience"]


class Audience:
    """The viewers who follow the same experiment, or everything, live."""

    __slots__ = ("_patient", "_sorts")

    def __init__(self) -> None:
        self._sorts: dict[tuple[Dialect, Filter | None], dict[Viewer, None]] = {}
        # How many of a sort let events wait for others.
        self._patient: Counter[tuple[Dialect, Filter | None]] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._sorts.values()))

    def __bool__(self) -> bool:
        return bool(self._sorts)

    def __iter__(self) -> Iterator[Viewer]:
        return (viewer for viewers in self._sorts.values() for viewer in viewers)

    def add(self, subscription: Subscription) -> None:
        """Let the viewer of `subscription` be sent to."""
        viewer = subscription.viewer
        sort = viewer.dialect, subscription.filter
        self._sorts.setdefault(sort, {})[viewer] = None
        if subscription.coalesce_ms:
            self._patient[sort] += 1

    def discard(self, subscription: Subscription) -> bool:
        """No more; whether it was."""
        sort = subscription.viewer.dialect, subscription.filter
        viewers = self._sorts.get(sort)
        if viewers is None or subscription.viewer not in viewers:
            return False
        del viewers[subscription.viewer]
        if subscription.coalesce_ms:
            self._patient[sort] -= 1
            if not self._patient[sort]:
                del self._patient[sort]
        if not viewers:
            del self._sorts[sort]
        return True

    def send(self, entries: Sequence[Entry], *, several: bool) -> tuple[int, int]:
        """Give `entries` to every viewer that wants them; how many deliveries that makes, and of them that may wait."""
        deliveries = patient = 0
        for (dialect, filter_), viewers in self._sorts.items():
            wanted = entries if filter_ is None else [e for e in entries if filter_.wants(e)]
            if not wanted:
                continue
            chunks = dialect.join([dialect.live(entry, several=several) for entry in wanted])
            for viewer in viewers:
                for chunk in chunks:
                    viewer.put(chunk)
            deliveries += len(wanted) * len(viewers)
            if self._patient:
                patient += len(wanted) * self._patient[dialect, filter_]
        return deliveries, patient
