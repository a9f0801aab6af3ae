"""
One WebSocket: bytes in, commands out; shared frames in, one write a tick out.

uvicorn hands over the connection with the handshake's bytes (`--ws`), and it is finished here, without ASGI: a task and
a receive loop for each viewer is what costs memory, and a viewer only listens. The `websockets` library parses; what is
sent goes to the transport as it is.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from websockets.frames import CloseCode as WireCode
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, SEND_EOF, SERVER
from websockets.protocol import Protocol as Parser
from websockets.server import ServerProtocol

from loopcast_gateway import close_codes
from loopcast_gateway.access import Guest
from loopcast_gateway.admission import Admitted, Refusal, admit
from loopcast_gateway.close_codes import CloseCode
from loopcast_gateway.credentials import BEARER
from loopcast_gateway.dialects import DIALECTS, JSON, PROMPTLOOPER, Dialect
from loopcast_gateway.frames import close_frame, text_frame
from loopcast_gateway.handshake import choose_subprotocol, refuse
from loopcast_gateway.outbox import LineOutbox, Outbox
from loopcast_gateway.protocol import ErrorName, Gap, Lagging, Refused, encode
from loopcast_gateway.protocol import Frame as Wire

if TYPE_CHECKING:
    from loopcast_gateway.gateway import Gateway

__all__ = ["Connection"]

HIGH_WATER = 64 * 1024
"""Bytes in the transport's own buffer, from which on chunks wait in the outbox."""

UNSENT_BYTES = 128 * 1024
"""What the kernel may hold of a viewer unsent (`TCP_NOTSENT_LOWAT`): it would take 2.5 MB before it says anything."""

LAGGING = 4
"""From the limit's fourth part on, a viewer is told that it reads too slowly."""
WIRE_PING = b"\x89\x00"
"""An empty ping frame (RFC 6455, 5.5.2)."""

PROTOCOL = "sec-websocket-protocol"

PART_COST = 1 / 16
"""What a frame that is no ping takes of the commands that a viewer may send; the command itself is counted besides."""

MAX_PARTS = 1024
"""Frames of one message: empty ones have no bytes that the limit of a message would count."""

CLOSE_SECONDS = 3.0
"""How long a peer has to answer a close frame."""

_logger = logging.getLogger("loopcast_gateway.websockets")
_logger.setLevel(logging.CRITICAL)
"""The parser would log each peer that goes without a word."""


class Connection(asyncio.Protocol):
    """A viewer. uvicorn makes one for each request to upgrade, so it may also be refused."""

    __slots__ = (
        "_closing", "_ended", "_ending", "_flusher", "_gateway", "_heard", "_known", "_lagging", "_left", "_outbox",
        "_parser", "_parts", "_paused", "_queued", "_room", "_transport", "dialect", "errors", "guest",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, known: set[Connection]) -> None:
        self._gateway = gateway
        self._known = known
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: Parser | None = None
        self._parts: list[bytes] | None = None
        self.dialect: Dialect = JSON
        self._outbox = Outbox()
        self._flusher = gateway.flusher
        self._paused = False
        self._queued = False
        self._lagging = False
        self._ending = False
        self._ended = False
        self._closing: asyncio.TimerHandle | None = None
        self._room: asyncio.Event | None = None
        self._heard = 0.0
        self._left = False
        self.errors = 0
        self.guest = Guest("")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; uvicorn calls this on an open connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._known.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, for whatever reason."""
        del exc
        self._known.discard(self)
        self._gateway.stalls.flows(self)
        if self._closing is not None:
            self._closing.cancel()
        if self._parser is not None:
            code = self._parser.close_sent or self._parser.close_rcvd
            self._gateway.left(self, int(code.code) if code is not None else int(WireCode.ABNORMAL_CLOSURE))
        self._outbox.clear()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take bytes: first the handshake, then frames."""
        if self._parser is None:
            self._shake_hands(data)
        else:
            self._heard = asyncio.get_running_loop().time()
            self._parser.receive_data(data)
            self._parsed(self._parser)

    def eof_received(self) -> None:
        """The peer sends nothing more, which a WebSocket takes for its end."""

    def pause_writing(self) -> None:
        """The socket is full: what comes waits here."""
        self._paused = True
        self._gateway.stalls.full(self, self.unsent, asyncio.get_running_loop().time())

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._gateway.stalls.flows(self)
        self.flush()

    def shutdown(self) -> None:
        """The server stops."""
        if self._parser is None:
            self._transport.close()
        else:
            self.close(close_codes.RESTART)

    @property
    def unsent(self) -> int:
        """Bytes that the transport was given and the kernel has not taken."""
        return self._transport.get_write_buffer_size()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait here, and in the transport."""
        return self._outbox.size + self.unsent

    @property
    def congested(self) -> bool:
        """Whether the viewer should read before it is sent more history."""
        return self._paused or self._outbox.size > self._gateway.outbox_bytes // 4

    async def room(self) -> None:
        """Write, and wait until the socket has taken all that waits or is gone."""
        self.flush()
        while self._paused and not self._transport.is_closing():
            self._room = self._room or asyncio.Event()
            await self._room.wait()

    def put(self, chunk: bytes) -> None:
        """Send `chunk` at the end of this tick, or of its time to wait for more, or when the socket takes it."""
        self._outbox.put(chunk)
        if not self._queued:
            self._queued = True
            self._flusher.add(self)

    def say(self, frame: Wire) -> None:
        """Send a frame, if the dialect has it, and all that waits for more with it."""
        text = self.dialect.frame(frame)
        if text is not None:
            self._outbox.put(text)
            self._hurry()
        elif isinstance(frame, Gap):
            self.close(close_codes.INSUFFICIENT_STATE)

    def wait_for_more(self, milliseconds: int) -> None:
        """Let events wait so long for others, so that they go out together."""
        self._flusher = self._gateway.flusher_of(milliseconds)

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it; close a viewer that leaves too much unread."""
        self._queued = False
        outbox, transport = self._outbox, self._transport
        if self._ended or transport.is_closing():
            outbox.clear()
            return
        while outbox.size and not self._paused:
            chunk = outbox.take()
            self._gateway.tally.sent_bytes += len(chunk)
            transport.write(chunk)
        if self._paused:
            waiting = outbox.size + transport.get_write_buffer_size()
            if outbox.over(self._gateway.outbox_bytes, unsent=waiting - outbox.size):
                self.too_slow("bytes")
            elif outbox.size and not self._lagging and waiting > self._gateway.outbox_bytes // LAGGING:
                self._lagging = True
                frame = Lagging(outbox_bytes=waiting)
                if self.dialect.frame(frame) is not None:
                    # In front of what waits: behind it, it would come when it is no longer true.
                    outbox.put_first(text_frame(encode(frame)))
            return
        self._lagging = False
        if self._ending:
            self._end()
        if self._room is not None:
            self._make_room()

    def ping(self, frame: bytes | None, now: float, patience: float) -> None:
        """
        Ask whether the viewer is still there, by a frame of its dialect and one of the wire.

        The one of the wire is answered by every WebSocket library and browser by itself (RFC 6455, 5.5.2). Who said
        nothing at all for `patience` seconds is gone without a word. What waits for a viewer that reads slowly stands
        before its ping, so that it is not judged by this.
        """
        if self._paused:
            self._heard = now
        elif now - self._heard > patience:
            self._give_up(close_codes.NO_PONG)
            return
        if frame is not None:
            self.put(frame)
        if self.dialect.polite:
            self._outbox.put_frame(WIRE_PING)
            self._hurry()

    def close(self, code: CloseCode) -> None:
        """Send what waits, then a close frame, and leave."""
        if self._parser is None or self._parser.state is not OPEN:
            return
        self._left = True
        self._parser.send_close(code.code, code.reason)
        self._parsed(self._parser)

    def _hurry(self) -> None:
        if not self._queued or self._flusher is not self._gateway.flusher:
            self._queued = True
            self._gateway.flusher.add(self)

    def _shake_hands(self, request: bytes) -> None:
        gateway = self._gateway
        server = ServerProtocol(select_subprotocol=choose_subprotocol, logger=_logger)
        server.receive_data(request)
        asked = next((event for event in server.events_received() if isinstance(event, Request)), None)
        if asked is None:
            self._transport.close()
            return
        guest, answer = self._judge(asked)
        admitted = answer if isinstance(answer, Admitted) else None
        if isinstance(answer, Refusal):
            gateway.tally.rejected[answer.reason] += 1
        response = server.accept(asked) if admitted is not None else refuse(server, cast("Refusal", answer))
        if admitted is not None and response.status_code != 101:
            gateway.tally.rejected["handshake"] += 1
        server.send_response(response)
        self._transport.write(b"".join(server.data_to_send()))
        if admitted is None or response.status_code != 101:
            self._transport.close()
            return
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        if (option := getattr(socket, "TCP_NOTSENT_LOWAT", None)) is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)
        # A parser of its own, because the one of the handshake keeps the handshake.
        self._parser = Parser(SERVER, state=OPEN, max_size=gateway.max_command_bytes, logger=_logger)
        self.dialect = PROMPTLOOPER if server.subprotocol is None else DIALECTS[server.subprotocol]
        if self.dialect.lines:
            self._outbox = LineOutbox()
        self.guest, self._heard = guest, asyncio.get_running_loop().time()
        gateway.joined(self, admitted.experiments)

    def _judge(self, asked: Request) -> tuple[Guest, Admitted | Refusal]:
        """Whether the handshake is taken, and of whom it is."""
        gateway = self._gateway
        fields = list(asked.headers.raw_items())
        offered = [part.strip() for name, value in fields if name.lower() == PROTOCOL for part in value.split(",")]
        headers = {name.lower(): value for name, value in fields}
        spoken = [name for name in offered if not name.startswith(BEARER)]
        answer = admit(asked.path, headers, spoken, origins=gateway.origins, capacity=gateway.capacity())
        if isinstance(answer, Refusal):
            return self.guest, answer
        peer = self._transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        found = gateway.access.arrive(fields, offered, address, asyncio.get_running_loop().time())
        return (self.guest, found) if isinstance(found, Refusal) else (found, answer)

    def _parsed(self, parser: Parser) -> None:
        """
        Act on what the parser made of the bytes, and send what it wants to say.

        What came in front of a fault or a close frame counts and is answered before that is.
        """
        events = parser.events_received()
        if parser.state is OPEN:
            self._say(parser.data_to_send())
        for event in events:
            if isinstance(event, Frame) and not self._left:
                self._frame(event)
        if parser.state is not OPEN:
            self._left = True
            self._gateway.gone(self)
        self._say(parser.data_to_send())
        if parser.close_expected() and self._closing is None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(CLOSE_SECONDS, self._transport.abort)

    def _frame(self, frame: Frame) -> None:
        # What costs work and is no command counts, too: a ping is answered, a part of a message is kept.
        cost = 1.0 if frame.opcode is Opcode.PING else PART_COST
        if not self._gateway.access.may_command(self, cost, self._heard):
            self.close(close_codes.RATE_LIMITED)
            return
        if frame.opcode is Opcode.TEXT or (frame.opcode is Opcode.CONT and self._parts is not None):
            self._text(frame)
        elif frame.opcode is Opcode.PONG:
            self._gateway.echoes.came(self, self._heard)
        elif frame.opcode is Opcode.BINARY:
            refusal = Refused(ErrorName.BAD_REQUEST, "This was a binary frame: send commands as text.")
            self._gateway.sessions.refuse(self, refusal)

    def _text(self, frame: Frame) -> None:
        if self._parts is None and frame.fin:
            self._command(bytes(frame.data))
            return
        if self._parts is None:
            self._parts = []
        self._parts.append(bytes(frame.data))
        if len(self._parts) > MAX_PARTS:
            self.close(close_codes.TOO_BIG)
        elif frame.fin:
            text, self._parts = b"".join(self._parts), None
            self._command(text)

    def _command(self, text: bytes) -> None:
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                # The parser leaves this to whoever reads text (RFC 6455, 8.1).
                self.close(close_codes.INVALID_DATA)
                return
        self._gateway.sessions.received(self, text)

    def _say(self, writes: Iterable[bytes]) -> None:
        """Put the parser's control frames behind what waits: a peer that only asks and never reads is slow, too."""
        for data in writes:
            if data != SEND_EOF:
                self._outbox.put_frame(data)
                self._hurry()
                continue
            self._ending = True
            self.flush()

    def _end(self) -> None:
        """
        Everything is sent: say so.

        Closing at once would answer bytes that are still on their way with a reset, which takes the close frame with
        it: the peer's own end, or the time limit, closes.
        """
        self._ending, self._ended = False, True
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()

    def too_slow(self, reason: str) -> None:
        """Give up on a viewer that does not read; `reason` is the metric's label."""
        if self._parser is not None and self._parser.state is OPEN:
            self._gateway.tally.slow[reason] += 1
        self._give_up(close_codes.SLOW)

    def _give_up(self, code: CloseCode) -> None:
        """
        Leave what waits unsent and close with `code`.

        The close frame goes behind what the socket already has, so a viewer that reads on within the time sees it.
        """
        self._left = True
        self._outbox.clear()
        self._gateway.stalls.flows(self)
        parser = self._parser
        if parser is not None and parser.state is OPEN:
            self._gateway.gone(self)
            parser.send_close(code.code, code.reason)
            parser.data_to_send()
            self._transport.write(close_frame(code))
            self._closing = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)
        self._make_room()

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.set()
