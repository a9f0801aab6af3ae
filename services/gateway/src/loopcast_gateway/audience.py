"""Live viewers, sorted by what they are sent: the bytes for each sort are made once, however many it has. Pure."""

from __future__ import annotations

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

    __slots__ = ("_sorts",)

    def __init__(self) -> None:
        self._sorts: dict[tuple[Dialect, Filter | None], dict[Viewer, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._sorts.values()))

    def __bool__(self) -> bool:
        return bool(self._sorts)

    def __iter__(self) -> Iterator[Viewer]:
        return (viewer for viewers in self._sorts.values() for viewer in viewers)

    def add(self, subscription: Subscription) -> None:
        """Let the viewer of `subscription` be sent to."""
        viewer = subscription.viewer
        self._sorts.setdefault((viewer.dialect, subscription.filter), {})[viewer] = None

    def discard(self, subscription: Subscription) -> bool:
        """No more; whether it was."""
        sort = subscription.viewer.dialect, subscription.filter
        viewers = self._sorts.get(sort)
        if viewers is None or subscription.viewer not in viewers:
            return False
        del viewers[subscription.viewer]
        if not viewers:
            del self._sorts[sort]
        return True

    def send(self, entries: Sequence[Entry], *, several: bool) -> int:
        """Give `entries` to every viewer that wants them; how many deliveries that makes."""
        deliveries = 0
        for (dialect, filter_), viewers in self._sorts.items():
            wanted = entries if filter_ is None else [e for e in entries if filter_.wants(e)]
            if not wanted:
                continue
            chunks = dialect.join([dialect.live(entry, several=several) for entry in wanted])
            for viewer in viewers:
                for chunk in chunks:
                    viewer.put(chunk)
            deliveries += len(wanted) * len(viewers)
        return deliveries
