"""
Where a private node keeps what: everything under its data folder, nothing outside it.

Owns the names of the files, and the node's name and cookie, which are made once and stay with the data: RabbitMQ
finds its database by the node's name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one data folder, given as an absolute path."""

    data: Path

    @property
    def lock(self) -> Path:
        """Locked by the guardian for as long as it keeps a server on this folder."""
        return self.data / "lock"

    @property
    def record(self) -> Path:
        """Which processes serve this folder, and for whom."""
        return self.data / "node.json"

    @property
    def order(self) -> Path:
        """What the guardian is to start."""
        return self.data / "guardian.json"

    @property
    def home(self) -> Path:
        """The server's home directory, for Erlang's cookie."""
        return self.data / "home"

    @property
    def server(self) -> Path:
        """A view of the installed server with only the plugins that are needed."""
        return self.data / "server"

    @property
    def configuration(self) -> Path:
        """The server's settings."""
        return self.data / "rabbitmq.conf"

    @property
    def plugins(self) -> Path:
        """The list of enabled plugins."""
        return self.data / "enabled_plugins"

    @property
    def pid(self) -> Path:
        """Where the server writes its own process id."""
        return self.data / "rabbitmq.pid"

    @property
    def database(self) -> Path:
        """What must outlive a restart."""
        return self.data / "database"

    @property
    def logs(self) -> Path:
        """The folder of the log files."""
        return self.data / "log"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.logs / "rabbitmq.log"

    @property
    def output(self) -> Path:
        """What server and guardian print, which is where a failed start explains itself."""
        return self.logs / "output.log"

    def prepare(self) -> None:
        """Make the folders, for the owner alone."""
        for folder in (self.data, self.home, self.database, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def node_name(self) -> str:
        """Return the node's name, made at the first call and kept with the data."""
        kept = self.data / "name"
        if not kept.exists():
            kept.write_text(f"loopcast-{secrets.token_hex(4)}@localhost\n")
        return kept.read_text().strip()

    def write_cookie(self) -> None:
        """Make Erlang's shared secret, once."""
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)

    def processes(self) -> dict[str, int]:
        """Return the recorded process ids, empty if there is no record."""
        try:
            return dict(json.loads(self.record.read_text()))
        except (OSError, ValueError):
            return {}

    def server_pid(self) -> int:
        """Return the process id that the server wrote down itself, 0 if it wrote none."""
        try:
            return int(self.pid.read_text())
        except (OSError, ValueError):
            return 0

    def write_order(self, order: Mapping[str, object]) -> None:
        """Write down what the guardian is to start, for the owner's eyes only."""
        self.order.touch(mode=0o600)
        self.order.write_text(json.dumps(order, indent=1))
