"""
What one viewer has still to be sent: shared chunks of bytes, a limit, and when to give up on a viewer.

The socket is given bytes only while it takes them. Once it says that it is full, chunks wait here, by reference, so
that a viewer that does not read costs a list entry a chunk and no copy, up to the limit.
"""

from __future__ import annotations

from loopcast_gateway.frames import CHUNK_BYTES, text_frame

__all__ = ["WRITE_BYTES", "LineOutbox", "Outbox"]

WRITE_BYTES = 256 * 1024
"""At most this much is joined for one write; a larger chunk is written alone."""


class Outbox:
    """
    The chunks that wait, in order.

    The limit counts what waits here and what the socket was given and has not sent. Bytes with nothing waiting behind
    them are never too much: a viewer that had read everything may be sent any one event, however large, or it would be
    closed for that event again each time it came back. A ping behind it is no reason either.
    """

    __slots__ = ("_chunks", "_control", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._control = 0
        self.size = 0
        """How many bytes wait here."""

    def put(self, chunk: bytes) -> None:
        """Add `chunk` behind the others."""
        self._chunks.append(chunk)
        self.size += len(chunk)

    def put_frame(self, frame: bytes) -> None:
        """Add a finished WebSocket frame, which a control frame is whatever the chunks are."""
        Outbox.put(self, frame)
        self._control += len(frame)

    def put_first(self, chunk: bytes) -> None:
        """Add `chunk` in front of the others; chunks are whole frames."""
        self._chunks.insert(0, chunk)
        self.size += len(chunk)

    def take(self) -> bytes:
        """What to write next, at most :data:`WRITE_BYTES` unless one chunk is larger; empty if nothing waits."""
        chunks = self._chunks
        if self.size <= WRITE_BYTES:
            taken = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self.size = self._control = 0
            return taken
        count, size = 1, len(chunks[0])
        while count < len(chunks) and size + len(chunks[count]) <= WRITE_BYTES:
            size += len(chunks[count])
            count += 1
        taken = b"".join(chunks[:count])
        del chunks[:count]
        self.size -= size
        return taken

    def over(self, limit: int, *, unsent: int) -> bool:
        """Whether the viewer has left too much unread; `unsent` is what the socket was given and has not sent."""
        if self.size <= self._control:
            # Pings and pongs alone: no more than the limit of these either, from one who sends pings and reads nothing.
            return self.size > limit
        return self.size + unsent > limit

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self.size = self._control = 0


class LineOutbox(Outbox):
    """Chunks that are lines: they wait as they came, and go out in as few messages as there is room for them."""

    __slots__ = ("_held", "_lines")

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[bytes] = []
        self._held = 0

    def put(self, chunk: bytes) -> None:
        """Add one line or several, without a line break at the end."""
        if self._held and self._held + len(chunk) > CHUNK_BYTES:
            self._seal()
        self._lines.append(chunk)
        self._held += len(chunk)
        self.size += len(chunk)

    def put_frame(self, frame: bytes) -> None:
        """Add a finished WebSocket frame behind the lines that came before it."""
        self._seal()
        super().put_frame(frame)

    def take(self) -> bytes:
        """As :meth:`Outbox.take`."""
        self._seal()
        return super().take()

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self._held = 0
        super().clear()

    def _seal(self) -> None:
        if self._lines:
            self.size -= self._held
            super().put(text_frame(b"\n".join(self._lines)))
            self._lines, self._held = [], 0
