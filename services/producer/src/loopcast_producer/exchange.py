"""
One request and its answer without ASGI: the short way of :class:`~loopcast_producer.connections.Connection`.

Stands where uvicorn's protocol expects its own `RequestResponseCycle`, and has what that protocol touches of it; what
an ASGI server makes for each request besides (scope, event, messages, checks of headers that we wrote ourselves) costs
as much as taking an event does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from loopcast_producer.incoming import ClientGone

if TYPE_CHECKING:
    import asyncio

    from loopcast_producer.api import Answer, Api, Headers
    from loopcast_producer.connections import Connection

__all__ = ["Exchange"]


class Exchange:
    """A request whose body is being collected, then taken, then answered."""

    __slots__ = (
        "_api", "_begun", "_connection",
        "_headers", "_path", "_task", "body", "disconnected", "keep_alive", "message_event", "more_body",
        "response_complete", "response_started",
    )  # fmt: skip

    def __init__(self, connection: Connection, api: Api, path: bytes, headers: Headers) -> None:
        self._connection = connection
        self._api = api
        self._path = path
        self._headers = headers
        self._begun = False
        self._task: asyncio.Task[None]
        self.body = b""
        self.more_body = True
        self.keep_alive = connection.parser.should_keep_alive()
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        # uvicorn sets this event when something has come, or will not come any more.
        self.message_event = self

    def set(self) -> None:
        """Something came, or the connection is gone: begin, once, when the body is there."""
        if not self.more_body and not self.disconnected and not self._begun:
            self._begun = True
            self._task = self._connection.loop.create_task(self._run())
            self._connection.tasks.add(self._task)

    async def _run(self) -> None:
        try:
            self._write(await self._api.respond("POST", self._path, self._headers, self._receive))
        except ClientGone:
            return
        finally:
            # Here and not in a callback of the task, which would be one more turn of the event loop for each request.
            self._connection.tasks.discard(self._task)

    def _write(self, answer: Answer) -> None:
        self.response_started = self.response_complete = True
        connection = self._connection
        if self.disconnected or connection.transport.is_closing():
            return
        connection.transport.write(self._encoded(answer))
        if self.keep_alive:
            connection.answered()
        else:
            connection.transport.close()

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self.body, "more_body": False}

    def _encoded(self, answer: Answer) -> bytes:
        parts = [STATUS_LINE[answer.status], b"content-type: ", answer.kind]
        for name, value in (*self._connection.server_state.default_headers, *answer.headers):
            parts += (b"\r\n", name, b": ", value)
        if not self.keep_alive:
            parts.append(b"\r\nconnection: close")
        parts.append(b"\r\ncontent-length: %d\r\n\r\n" % len(answer.body))
        parts.append(answer.body)
        return b"".join(parts)
