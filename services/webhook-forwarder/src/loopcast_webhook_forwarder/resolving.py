"""
From a host to the addresses that may be connected to, and a last look at each socket's address.

Names are resolved in threads of our own: the event loop's pool is small, so that a few names whose servers do not
answer would hold up every other endpoint. One resolution of a host at a time; who comes meanwhile shares its answer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import cast

from aiohttp.abc import AbstractResolver, ResolveResult

from loopcast_webhook_forwarder.addresses import refusal

__all__ = ["AddressRefused", "GuardedResolver"]

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]


class AddressRefused(Exception):
    """Events are not posted there; the sentence says why and what would allow it."""


class GuardedResolver(AbstractResolver):
    """
    One endpoint's resolver.

    An attacker's name server may answer differently each time (DNS rebinding), so what is judged is what is connected
    to: :meth:`make_socket` sees the very address that the socket is for, of literal addresses too.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._running: dict[tuple[str, int], asyncio.Future[list[AddressInfo]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """
        The addresses of `host` that may be connected to.

        Raises:
            OSError: the name has none.
            AddressRefused: it has some, and none may be.
        """
        del family
        found = await asyncio.shield(self._ask(host, port))
        refused: str | None = None
        results: list[ResolveResult] = []
        for kind, _, protocol, _, address in found:
            why = refusal(str(address[0]), allow_private=self._allow_private)
            if why is None:
                results.append(
                    ResolveResult(
                        hostname=host,
                        host=str(address[0]),
                        port=port,
                        family=kind,
                        proto=protocol,
                        flags=socket.AI_NUMERICHOST,
                    )
                )
            else:
                refused = refused or why
        if not results:
            raise AddressRefused(f"{host}: {refused}" if refused else f"{host} has no address")
        return results

    async def close(self) -> None:
        """Nothing is held: a thread that still waits for a name server ends by itself."""

    def make_socket(self, info: AddressInfo) -> socket.socket:
        """
        The socket to connect to an address with.

        Raises:
            AddressRefused: it may not be connected to.
        """
        family, kind, protocol, _, address = info
        why = refusal(str(address[0]), allow_private=self._allow_private)
        if why is not None:
            raise AddressRefused(why)
        return socket.socket(family, kind, protocol)

    def _ask(self, host: str, port: int) -> asyncio.Future[list[AddressInfo]]:
        running = self._running.get((host, port))
        if running is None:
            running = _in_thread(host, port)
            self._running[host, port] = running
            running.add_done_callback(lambda done: self._answered(host, port, done))
        return running

    def _answered(self, host: str, port: int, done: asyncio.Future[list[AddressInfo]]) -> None:
        del self._running[host, port]
        if not done.cancelled():
            # Whoever asked may have given up by now; an exception that nobody fetches would be logged.
            done.exception()


def _in_thread(host: str, port: int) -> asyncio.Future[list[AddressInfo]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[AddressInfo]] = loop.create_future()

    def give(result: list[AddressInfo] | OSError) -> None:
        if isinstance(result, OSError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def work() -> None:
        result: list[AddressInfo] | OSError
        try:
            result = cast("list[AddressInfo]", socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            result = error
        except UnicodeError as error:
            result = OSError(str(error))
        if not loop.is_closed():
            loop.call_soon_threadsafe(give, result)

    threading.Thread(target=work, name=f"resolve {host}"[:60], daemon=True).start()
    return answer
