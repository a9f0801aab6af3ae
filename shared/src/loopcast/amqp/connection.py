"""
One AMQP connection with one channel, without any I/O: bytes in and events out, bytes out in between.

The shell calls :meth:`Connection.receive` with what it read, :meth:`Connection.tick` in time, and writes what
:meth:`Connection.output` gives after each. What the channel is for is a subclass's matter
(:mod:`~loopcast.amqp.publisher`, :mod:`~loopcast.amqp.consumer`).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

from pamqp import base, commands
from pamqp.common import FieldTable

from loopcast.amqp import refusals
from loopcast.amqp.events import Closed, Event, Ready
from loopcast.amqp.faults import COMMAND_INVALID, UNEXPECTED_FRAME, Fault
from loopcast.amqp.methods import CHANNEL, HEARTBEAT, PROTOCOL_HEADER, encode_method
from loopcast.amqp.parser import FIRST_FRAME_MAX, Item, Method, Parser
from loopcast.errors import BrokerError, BrokerUnavailable

__all__ = ["TICKS", "Connection", "Login", "Phase"]

TICKS = 2
"""How often :meth:`Connection.tick` is due in a heartbeat's interval."""

SILENT_TICKS = 3
"""
How many ticks in a row may find nothing heard: 1.5 to 2 intervals after the last byte.

RabbitMQ sends a heartbeat every half interval, so three were missed by then (AMQP 0-9-1, 4.2.7: "two or more").
"""

_REPLY_SUCCESS = 200
_CAPABILITIES: FieldTable = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a connection presents. `external` leaves it to the TLS certificate who this is (SASL EXTERNAL)."""

    user: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's documented default
    vhost: str = "/"
    name: str = ""
    heartbeat: int = 10
    external: bool = False


class Phase(enum.Enum):
    """How far a connection is; each waits for the broker's method of that name."""

    START = enum.auto()
    TUNE = enum.auto()
    OPEN = enum.auto()
    SETUP = enum.auto()
    """The channel's own methods are on their way."""
    READY = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class Connection:
    """The state of one connection. `setup` is what opens the channel for its purpose, each method answered in turn."""

    def __init__(self, login: Login, setup: Sequence[base.Frame]) -> None:
        self.blocked: str | None = None
        self.server_version = ""
        """The broker's reason while it reads nothing more from this connection, else None."""
        self.phase = Phase.START
        self._login = login
        self._setup = deque((commands.Channel.Open(), *setup))
        self._awaited: base.Frame | None = None
        self._parser = Parser()
        self._output: list[bytes] = [PROTOCOL_HEADER]
        self._events: list[Event] = []
        self._frame_max = FIRST_FRAME_MAX
        self._heartbeat = 0.0
        self._heard = False
        self._silent_ticks = 0
        self._said = True

    def receive(self, data: bytes) -> list[Event]:
        """Take what the socket gave."""
        self._heard = True
        try:
            for item in self._parser.feed(data):
                if self.phase is not Phase.CLOSED:
                    self._take(item)
            if self._parser.fault is not None:
                raise self._parser.fault
        except Fault as fault:
            self._fail(fault)
        return self._new_events()

    def lost(self, error: Exception | None) -> list[Event]:
        """Take it that the socket is gone."""
        if self.phase is Phase.CLOSING:
            self._close(None)
        elif self.phase is not Phase.CLOSED:
            self._close(refusals.lost(error, greeted=self.phase is not Phase.START))
        return self._new_events()

    def tick(self) -> list[Event]:
        """Send a heartbeat where nothing else was sent since the last tick, and notice that the broker is silent."""
        self._silent_ticks = 0 if self._heard else self._silent_ticks + 1
        self._heard = False
        if self._silent_ticks >= SILENT_TICKS and self.phase is not Phase.CLOSED:
            self._close(refusals.silent(self._silent_ticks / TICKS * self._heartbeat))
        elif not self._said:
            self._output.append(HEARTBEAT)
        self._said = False
        return self._new_events()

    def close(self) -> list[Event]:
        """Begin to close channel and connection, in order; :class:`Closed` says when it is done."""
        if self.phase is Phase.READY:
            self._send(commands.Channel.Close(_REPLY_SUCCESS, "Goodbye", 0, 0))
            self.phase = Phase.CLOSING
        elif self.phase is not Phase.CLOSED and self.phase is not Phase.CLOSING:
            self._close(None)
        return self._new_events()

    def output(self) -> bytes:
        """Everything that is to be written now."""
        if not self._output:
            return b""
        # A heartbeat goes out where nothing else did, so it does not count itself.
        self._said = self._output != [HEARTBEAT]
        output, self._output = self._output, []
        return b"".join(output)

    def _take(self, item: Item) -> None:
        if isinstance(item, Method):
            handler = self._HANDLERS.get(type(item.method))
            if handler is None:
                raise Fault(COMMAND_INVALID, f"nobody asked for {item.method.name}")
            handler(self, item.method)
        elif self.phase not in (Phase.READY, Phase.CLOSING):
            raise Fault(UNEXPECTED_FRAME, "a content or acknowledgement came before the channel was open")
        else:
            self._content(item)

    def _content(self, item: Item) -> None:
        """Take what the channel is for."""
        raise NotImplementedError

    def _opened(self) -> None:
        """Take it that the channel is set up."""

    def _send(self, method: base.Frame, channel: int = CHANNEL) -> None:
        self._output.append(encode_method(channel, method))

    def _new_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _close(self, error: BrokerError | None) -> None:
        self.phase = Phase.CLOSED
        self._events.append(Closed(error))

    def _fail(self, fault: Fault) -> None:
        if self.phase is Phase.CLOSED:
            return
        if self.phase is not Phase.START:
            self._send(commands.Connection.Close(fault.code, fault.text[:255], 0, 0), 0)
        text = f"The connection was closed because what came is not AMQP 0-9-1 as it should be: {fault.text}."
        self._close(BrokerUnavailable(text))

    # The handshake (AMQP 0-9-1, 2.2.4).

    def _on_start(self, method: Any) -> None:
        self._expect(Phase.START, method)
        mechanism = "EXTERNAL" if self._login.external else "PLAIN"
        if mechanism not in (method.mechanisms or "").split():
            raise Fault(COMMAND_INVALID, f"the broker does not let anybody log in by {mechanism}")
        self.server_version = str((method.server_properties or {}).get("version", ""))
        properties: FieldTable = {
            "product": "Loopcast",
            "version": version("loopcast"),
            "platform": "Python",
            "connection_name": self._login.name,
            "capabilities": _CAPABILITIES,
        }
        response = "" if self._login.external else f"\0{self._login.user}\0{self._login.password}"
        self._send(commands.Connection.StartOk(properties, mechanism, response, "en_US"), 0)
        self.phase = Phase.TUNE

    def _on_tune(self, method: Any) -> None:
        self._expect(Phase.TUNE, method)
        # 0 is "no limit of mine" (2.2.4, "connection.tune").
        self._frame_max = min(method.frame_max or FIRST_FRAME_MAX, FIRST_FRAME_MAX)
        wanted = self._login.heartbeat
        self._heartbeat = min(wanted, method.heartbeat) if wanted and method.heartbeat else wanted
        self._parser.limit(self._frame_max)
        self._send(commands.Connection.TuneOk(1, self._frame_max, int(self._heartbeat)), 0)
        self._send(commands.Connection.Open(self._login.vhost), 0)
        self.phase = Phase.OPEN

    def _on_open_ok(self, method: Any) -> None:
        self._expect(Phase.OPEN, method)
        self.phase = Phase.SETUP
        self._next_setup()

    def _on_reply(self, method: base.Frame) -> None:
        self._expect(Phase.SETUP, method)
        assert self._awaited is not None
        if method.name not in self._awaited.valid_responses:
            raise Fault(COMMAND_INVALID, f"{method.name} came as the answer to {self._awaited.name}")
        self._next_setup()

    def _next_setup(self) -> None:
        if self._setup:
            self._awaited = self._setup.popleft()
            self._send(self._awaited)
        else:
            self._awaited = None
            self.phase = Phase.READY
            self._opened()
            self._events.append(Ready(self._heartbeat))

    def _expect(self, phase: Phase, method: base.Frame) -> None:
        if self.phase is not phase:
            raise Fault(COMMAND_INVALID, f"{method.name} came out of its order")

    # The end, from either side (2.2.4, "connection.close"; "channel.close").

    def _on_connection_close(self, method: Any) -> None:
        self._send(commands.Connection.CloseOk(), 0)
        asked = self.phase is Phase.CLOSING
        self._close(None if asked else refusals.connection_closed(method.reply_code, method.reply_text))

    def _on_connection_close_ok(self, method: base.Frame) -> None:
        self._expect(Phase.CLOSING, method)
        self._close(None)

    def _on_channel_close(self, method: Any) -> None:
        self._send(commands.Channel.CloseOk())
        if self.phase is not Phase.CLOSING:
            self._give_up(refusals.channel_closed(method.reply_code, method.reply_text))

    def _on_channel_close_ok(self, method: base.Frame) -> None:
        self._expect(Phase.CLOSING, method)
        self._send(commands.Connection.Close(_REPLY_SUCCESS, "Goodbye", 0, 0), 0)

    def _give_up(self, error: BrokerError) -> None:
        """Leave the broker for `error`, without waiting for its farewell."""
        self._send(commands.Connection.Close(_REPLY_SUCCESS, "Goodbye", 0, 0), 0)
        self._close(error)

    # What may come at any time.

    def _on_blocked(self, method: Any) -> None:
        self.blocked = method.reason or "no reason given"

    def _on_unblocked(self, _: base.Frame) -> None:
        self.blocked = None

    def _on_flow(self, method: Any) -> None:
        self._send(commands.Channel.FlowOk(method.active))

    def _on_cancel(self, _: base.Frame) -> None:
        if self.phase is not Phase.CLOSING:
            self._give_up(refusals.cancelled())

    _HANDLERS: ClassVar[dict[type[base.Frame], Callable[[Connection, Any], None]]] = {
        commands.Connection.Start: _on_start,
        commands.Connection.Tune: _on_tune,
        commands.Connection.OpenOk: _on_open_ok,
        commands.Channel.OpenOk: _on_reply,
        commands.Confirm.SelectOk: _on_reply,
        commands.Basic.QosOk: _on_reply,
        commands.Basic.ConsumeOk: _on_reply,
        commands.Connection.Close: _on_connection_close,
        commands.Connection.CloseOk: _on_connection_close_ok,
        commands.Channel.Close: _on_channel_close,
        commands.Channel.CloseOk: _on_channel_close_ok,
        commands.Connection.Blocked: _on_blocked,
        commands.Connection.Unblocked: _on_unblocked,
        commands.Channel.Flow: _on_flow,
        commands.Basic.Cancel: _on_cancel,
    }
