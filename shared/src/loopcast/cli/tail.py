"""`loopcast tail`: events as they come, over a gateway that may go and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json as jsonlib
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from loopcast.cli.access import HOW_TO_SHOW, bearer_header, refusal
from loopcast.cli.event_lines import EventLines
from loopcast.cli.moments import parse_moment
from loopcast.cli.progress import Progress
from loopcast.errors import ConfigurationError
from loopcast.up.state import http_address

__all__ = ["run_tail", "wanted"]

SUBPROTOCOL = Subprotocol("loopcast.v1.json")
MIN_BACKOFF, MAX_BACKOFF = 0.5, 20.0
"""Seconds between tries, with full jitter."""


class Viewer:
    """What is watched, how far each experiment was seen, and how it is shown."""

    def __init__(self, progress: Progress, *, json: bool, limit: int) -> None:
        self._progress = progress
        self._lines = EventLines(json=json)
        self._left = limit or -1
        self._shown = False

    def subscriptions(self) -> list[str]:
        """The commands for a new connection: go on where the last one ended."""
        return [jsonlib.dumps(command) for command in self._progress.commands()]

    def take(self, frame: dict[str, Any]) -> bool:
        """Show a frame; False when enough was seen."""
        kind = frame.get("type")
        self._progress.take(frame)
        if kind == "event":
            self._lines.show(frame["event"])
            self._shown = True
            self._left -= 1
            return self._left != 0
        if kind == "subscribed":
            if frame.get("recovered") is False:
                self._note(f"{frame['experiment_id']}: events are missing here ({frame.get('reason')})")
        elif kind == "gap":
            self._note(f"{frame['experiment_id']}: events are missing here ({frame.get('reason')})")
        elif kind == "caught_up" and not frame.get("events") and not self._shown:
            what = "anything" if frame["experiment_id"] == "*" else frame["experiment_id"]
            self._note(f"the log has nothing such of {what}; waiting for what comes …")
        elif kind == "log":
            self._note("the log is back" if frame.get("connected") else "the gateway cannot read the log; waiting …")
        elif kind == "error":
            if frame.get("name") == "unauthorized":
                # Its words are for who writes a client.
                raise ConfigurationError(f"The gateway asks who watches. {HOW_TO_SHOW}")
            hint = f" {HOW_TO_SHOW}" if frame.get("name") == "permission_denied" else ""
            raise ConfigurationError(f"The gateway refused: {frame.get('message')}{hint}")
        return True

    def _note(self, sentence: str) -> None:
        print(sentence, file=sys.stderr)


def run_tail(progress: Progress, *, json: bool, limit: int, url: str, data: Path) -> int:
    """
    Watch until Ctrl-C or until `limit` events were seen; the exit code.

    Raises:
        ConfigurationError: no gateway is named and none runs here, what is named is no URL, or it refuses.
    """
    target = http_address(url, data, "LOOPCAST_GATEWAY_URL").replace("http", "ws", 1) + "/ws"
    viewer = Viewer(progress, json=json, limit=limit)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_watch(target, viewer))
    return 0


def wanted(
    experiments: Sequence[str], *, start: str, since: str, last: int, types: Sequence[str], exclude: Sequence[str]
) -> Progress:
    """
    What is to be watched, out of what a person wrote.

    Raises:
        ConfigurationError: two beginnings are given, or one that is none.
    """
    if start not in ("now", "earliest"):
        raise ConfigurationError(f"--from {start!r} must be now or earliest.")
    if (start != "now") + bool(since) + bool(last) > 1:
        raise ConfigurationError("Give one beginning: --from earliest, --since or --last.")
    history: dict[str, object] = {"since_ts": parse_moment(since)} if since else {"limit": last} if last else {}
    filters = {name: list(given) for name, given in (("types", types), ("exclude", exclude)) if given}
    return Progress(experiments or ["*"], "last" if last else start, history=history, filters=filters)


async def _watch(target: str, viewer: Viewer) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    tries = 0
    while True:
        try:
            async with connect(
                target, subprotocols=[SUBPROTOCOL], additional_headers=bearer_header(), max_size=None, compression=None
            ) as socket:
                tries = 0
                if await _follow(socket, viewer):
                    return
        except InvalidStatus as refused:
            if refused.response.status_code != 503:
                raise refusal(target, refused.response.status_code, _detail(refused)) from None
        except InvalidHandshake as refused:
            raise ConfigurationError(f"{target} refused the connection: {refused}") from None
        except OSError as error:
            if not tries:
                print(f"{target} does not answer ({error}); trying again …", file=sys.stderr)
        tries += 1
        # Full jitter, so that many clients do not come back at the same moment.
        await asyncio.sleep(random.uniform(0, min(MAX_BACKOFF, MIN_BACKOFF * 2**tries)))  # noqa: S311


def _detail(refused: InvalidStatus) -> str:
    """What the gateway said, in its own words where it did."""
    try:
        return str(jsonlib.loads(refused.response.body or b"{}")["detail"])
    except (ValueError, KeyError, TypeError):
        return str(refused)


async def _follow(socket: ClientConnection, viewer: Viewer) -> bool:
    """Watch over one connection; True when enough was seen, False when it went and another try makes sense."""
    try:
        for command in viewer.subscriptions():
            await socket.send(command)
        async for message in socket:
            if not viewer.take(jsonlib.loads(message)):
                return True
    except ConnectionClosed as closed:
        if closed.rcvd is not None and 4500 <= closed.rcvd.code < 5000:
            raise ConfigurationError(f"The gateway closed for good: {closed.rcvd.reason}") from None
    return False
