"""
A private RabbitMQ node: one server, one data folder, one process that it belongs to.

Puts the parts together: where RabbitMQ comes from is `sources`' business, what it is started with `launch`'s, its
life `server`'s, and that it ends with its owner the guardian's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from loopcast.errors import NodeError
from loopcast.node.control import Control
from loopcast.node.handshake import LOOPBACK
from loopcast.node.launch import Ports, Source
from loopcast.node.layout import Layout
from loopcast.node.leftover import end_leftover
from loopcast.node.ports import free_ports, is_taken
from loopcast.node.server import PortTaken, Server
from loopcast.node.sources import find

__all__ = ["DEFAULT_CACHE", "Node"]

Say = Callable[[str], None]

DEFAULT_CACHE = Path(".loopcast/rabbitmq")
"""Where a fetched RabbitMQ is kept unless one says otherwise; seen from the working folder."""

_START_TRIES = 3


class Node:
    """
    A RabbitMQ of one's own on the loopback, with everything it writes under one folder.

    It ends with the process that started it, also when that one is killed. Blocking: from asynchronous code, call it
    in a thread. Use it as a context manager, or call `start` and `stop`.

    Args:
        data: the folder; a node started on it again has the same queues and messages.
        port: for AMQP; 0 is any free one, kept for as long as this object lives.
        stream_port: for the stream protocol; None is without it, 0 any free one.
        cache: where a fetched RabbitMQ is kept, to be shared by all nodes of a project.
        source: what to start it from; found if not given.
        log: told, in a sentence, about what takes long.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        stream_port: int | None = None,
        cache: Path = DEFAULT_CACHE,
        source: Source | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._layout = Layout(data.resolve())
        self._port_given = port != 0
        self._cache = cache.resolve()
        self._source = source
        self._say: Say = log or _keep_quiet
        self._server: Server | None = None
        self._control: Control | None = None
        self.port = port
        self.stream_port = stream_port
        self.version = ""
        """The server's version, once it has been started."""

    @property
    def data(self) -> Path:
        """The folder under which everything lies."""
        return self._layout.data

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self._layout.log

    @property
    def amqp_url(self) -> str:
        """Where to connect."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def origin(self) -> str:
        """Where the server comes from, for a person; "" before the first start."""
        return self._source.origin if self._source else ""

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._server is not None and self._server.running

    def start(self) -> None:
        """
        Start the server and wait until it answers; nothing if it runs.

        Raises:
            NodeError: there is no RabbitMQ, a port is taken, the folder is in use, or the server did not start.
        """
        if self.running:
            return
        self._source = self._source or find(self._cache, self._say)
        self._layout.prepare()
        end_leftover(self._layout)
        for last in (False,) * (_START_TRIES - 1) + (True,):
            try:
                self._start(self._source)
            except PortTaken:
                if last or self._port_given:
                    raise
            else:
                return

    def stop(self) -> None:
        """Ask the server to end and wait until it has; nothing if it does not run. What was confirmed is kept."""
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """End the server as a power cut would; `start` brings it back on the same port with its data."""
        if self._server is not None:
            self._server.kill()

    def restart(self) -> None:
        """Stop, and start again on the same ports."""
        self.stop()
        self.start()

    def ctl(self, *args: str) -> str:
        """
        Run `rabbitmqctl` and return what it prints.

        Raises:
            NodeError: the node does not run, or refuses.
        """
        return self._asking().ctl(*args)

    def eval(self, expression: str) -> str:
        """
        Evaluate an Erlang expression in the server and return what it yields, as Erlang writes it.

        Raises:
            NodeError: the node does not run, or the expression failed.
        """
        return self._asking().eval(expression)

    def add_vhost(self, name: str) -> str:
        """
        Make a virtual host and return its URL.

        Raises:
            NodeError: the name is no plain word, or the node does not run.
        """
        self._asking().add_vhost(name)
        return self.amqp_url + name

    def delete_vhost(self, name: str) -> None:
        """
        Delete a virtual host with all that it holds.

        Raises:
            NodeError: the node does not run.
        """
        self._asking().delete_vhost(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, source: Source) -> None:
        ports = self._choose_ports()
        launch = source.prepare(self._layout, ports)
        self._control = Control(launch)
        self._server = Server(self._layout, launch, ports)
        self.version = self._server.start()

    def _choose_ports(self) -> Ports:
        """The ports that clients know stay what they were, so that they find the node again; the others are new."""
        amqp, stream, distribution, epmd = free_ports(4)
        if self.version or self._port_given:
            amqp = self.port
        if self.stream_port is not None:
            self.stream_port = self.stream_port or stream
        self.port = amqp
        for port in filter(None, (self.port, self.stream_port)):
            if is_taken(port):
                raise NodeError(
                    f"Port {port} of {LOOPBACK} is taken by another program: end that one, or choose another port."
                )
        return Ports(amqp=self.port, stream=self.stream_port, distribution=distribution, epmd=epmd)

    def _asking(self) -> Control:
        if self._control is None or not self.running:
            raise NodeError(f"The node in {self.data} does not run.")
        return self._control


def _keep_quiet(_sentence: str) -> None:
    """Say nothing."""
