"""One HTTP connection to the producer, kept open: a batch goes out, a verdict comes back."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import ipaddress
import time
from collections.abc import Sequence

from loopcast.sdk.configuration import Configuration
from loopcast.sdk.deadline import DeadlineSocket
from loopcast.sdk.verdicts import Verdict, judge, lost_connection

__all__ = ["Post"]

TIMEOUT_SECONDS = 30.0
"""What one request may take, answer included. The producer itself waits 10 s for the broker's confirm."""

COMPRESS_BYTES = 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024
_ERRORS = (OSError, http.client.HTTPException, ValueError)


class Post:
    """
    Sends batches, one after the other. Used by one thread alone.

    Redirects are never followed: a token would go along.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.patience = TIMEOUT_SECONDS
        """Seconds that one request may take."""
        self._connection: http.client.HTTPConnection | None = None
        self._socket: DeadlineSocket | None = None
        self._compress = not _is_loopback(configuration.host)
        self._headers = {"Content-Type": "application/cloudevents-batch+json", "User-Agent": "loopcast-sdk"}
        if configuration.token:
            self._headers["Authorization"] = f"Bearer {configuration.token}"

    @property
    def address(self) -> str:
        """The producer's address."""
        return self._configuration.base

    def send(self, path: str, records: Sequence[bytes]) -> Verdict:
        """Post `records` as one batch to `path`."""
        body, headers = b"[" + b",".join(records) + b"]", self._headers
        if self._compress and len(body) > COMPRESS_BYTES:
            body, headers = gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"}
        idle = self._connection is not None
        try:
            return self._try(path, body, headers)
        except _ERRORS as error:
            self.close()
            if not idle or isinstance(error, TimeoutError):
                return lost_connection(error)
        # A connection that was idle may have been closed meanwhile, which is no failure of the producer's.
        try:
            return self._try(path, body, headers)
        except _ERRORS as error:
            self.close()
            return lost_connection(error)

    def beat(self, path: str, body: bytes) -> int:
        """Post a heartbeat, once; the status of the answer, 0 where none came."""
        try:
            status, _, _ = self._ask(path, body, {**self._headers, "Content-Type": "application/json"})
        except _ERRORS:
            self.close()
            return 0
        return status

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _try(self, path: str, body: bytes, headers: dict[str, str]) -> Verdict:
        return judge(*self._ask(path, body, headers))

    def _ask(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
        deadline = time.monotonic() + self.patience
        if self._connection is None or self._socket is None:
            self._connection, self._socket = self._connect()
        connection, self._socket.deadline = self._connection, deadline
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER_BYTES)
        if answer.will_close or not answer.isclosed():
            self.close()
        return answer.status, answer.getheader("Retry-After"), content

    def _connect(self) -> tuple[http.client.HTTPConnection, DeadlineSocket]:
        host, port = self._configuration.host, self._configuration.port
        kind = http.client.HTTPSConnection if self._configuration.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self.patience)
        connection.connect()
        assert connection.sock is not None
        timed = connection.sock = DeadlineSocket(connection.sock)
        return connection, timed


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
