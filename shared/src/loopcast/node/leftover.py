"""
What an earlier process left in a data folder: a server that still runs, or is about to end.

A server whose owner lives is somebody's and is reported; one whose owner is gone is nobody's and is ended.
"""

from __future__ import annotations

import time

from loopcast.errors import NodeError
from loopcast.node.layout import Layout
from loopcast.node.processes import end, is_alive

__all__ = ["end_leftover"]

_PATIENCE = 25.0
_POLL = 0.05


def end_leftover(layout: Layout) -> None:
    """
    See to it that nothing serves this folder.

    Raises:
        NodeError: a living process has a node there.
    """
    recorded = layout.processes()
    guardian = recorded.get("guardian", 0)
    on_this_folder = str(layout.order)
    if is_alive(guardian, on_this_folder):
        owner = recorded.get("owner", 0)
        if is_alive(owner):
            raise NodeError(f"{layout.data} is in use by process {owner}: end that one, or choose another data folder.")
        _await_end(guardian, on_this_folder)
    for pid, marker in (
        (layout.server_pid(), layout.node_name()),
        (recorded.get("server", 0), layout.node_name().partition("@")[0]),
        (recorded.get("epmd", 0), "epmd"),
    ):
        end(pid, marker, _PATIENCE)


def _await_end(guardian: int, marker: str) -> None:
    """Its owner is gone, so it is ending its server already; interrupting that would only cost a recovery."""
    deadline = time.monotonic() + _PATIENCE
    while is_alive(guardian, marker) and time.monotonic() < deadline:
        time.sleep(_POLL)
    end(guardian, marker, _PATIENCE)
