"""The Unix socket: who is connected, who is refused, and what everybody gets. Lives in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from loopcast.errors import StorageError
from loopcast_recorder.socket_client import SocketClient, notice

__all__ = ["SocketServer", "check_free"]

log = structlog.get_logger(__name__)

SLICE = 200
"""Lines that are queued before clients get a turn to take some."""
TOLD_SECONDS = 5.0
"""A refusal is logged at most so often: a crowd of clients once flooded a log."""


def check_free(path: Path) -> None:
    """
    Refuse where `path` is in use.

    Raises:
        StorageError: somebody listens there, or it is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StorageError(f"{path} is no socket, and is left alone: name another file.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror or error}.") from error
    raise StorageError(f"{path}: another program listens there; end it, or name another file.")


class SocketServer:
    """
    Serves lines to at most `max_clients`.

    Args:
        first: the lines that a new client gets before any other.
    """

    def __init__(self, path: Path, first: Callable[[], Sequence[bytes]], *, max_clients: int, queue_bytes: int) -> None:
        self._path = path
        self._first = first
        self._max = max_clients
        self._limit = queue_bytes
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._clients: set[SocketClient] = set()
        self._dropped = 0
        self._told = float("-inf")
        self.rejected = 0
        """Clients that found no place."""

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    @property
    def dropped(self) -> int:
        """Events that a client was not given because it was too slow, or because the recorder ended."""
        return self._dropped + sum(client.dropped for client in self._clients)

    @property
    def listening(self) -> bool:
        """Whether clients can connect."""
        return self._server is not None

    async def listen(self) -> None:
        """
        Take the path, also from a dead process, and let clients connect.

        Raises:
            StorageError: it is in use, or cannot be made.
        """
        check_free(self._path)
        sock = socket.socket(socket.AF_UNIX)
        # Made under another name and moved: nobody can connect before only the owner may.
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            sock.bind(os.fspath(temporary))
            temporary.chmod(0o600)
            temporary.replace(self._path)
            self._inode = self._path.stat().st_ino
            self._server = await asyncio.start_unix_server(self._serve, sock=sock)
        except OSError as error:
            sock.close()
            raise StorageError(f"{self._path}: {error.strerror or error}.") from error
        log.info("socket_listening", path=str(self._path))

    async def broadcast(self, lines: Sequence[bytes]) -> None:
        """Queue `lines` for everybody who is connected."""
        for at in range(0, len(lines), SLICE):
            for client in self._clients:
                client.put(lines[at : at + SLICE])
            await asyncio.sleep(0)

    async def close(self, seconds: float) -> None:
        """Deliver what is queued, within `seconds`, and end."""
        server, self._server = self._server, None
        if server is None:
            return
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        server.close()
        before = self.dropped
        clients = list(self._clients)
        await asyncio.gather(*(client.finish(seconds) for client in clients))
        for client in clients:
            self._gone(client)
        if undelivered := self.dropped - before:
            log.warning("socket_undelivered", events=undelivered)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self._max:
            await self._reject(writer)
            return
        client = SocketClient(writer, limit=self._limit)
        # In one turn of the loop with joining: no event between the open runs and the first line.
        client.put(self._first())
        self._clients.add(client)
        written = asyncio.create_task(client.wait_written())
        heard = asyncio.create_task(_until_gone(reader))
        try:
            await asyncio.wait([written, heard], return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
            written.cancel()
            if self.listening or client not in self._clients:
                self._end(client)

    def _end(self, client: SocketClient) -> None:
        if client.doomed:
            log.warning("socket_client_too_slow", dropped=client.dropped, queue_bytes=self._limit)
        client.abort()
        self._gone(client)

    def _gone(self, client: SocketClient) -> None:
        if client in self._clients:
            self._clients.discard(client)
            # Of one that went by itself nothing was lost that it wanted.
            self._dropped += client.dropped if client.doomed or not self.listening else 0

    async def _reject(self, writer: asyncio.StreamWriter) -> None:
        self.rejected += 1
        if time.monotonic() - self._told >= TOLD_SECONDS:
            self._told = time.monotonic()
            log.warning("socket_clients_rejected", total=self.rejected, max_clients=self._max)
        with contextlib.suppress(OSError):
            writer.write(notice("loopcast.rejected", reason="too many clients", max_clients=self._max))
            writer.close()
            await writer.wait_closed()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """What a client says is of no interest, only that it went."""
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass
