"""Where services are: as a person says, or as the running `loopcast up` wrote into a small file in its data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loopcast.addresses import parse_address
from loopcast.errors import ConfigurationError

__all__ = ["DATA", "EXAMPLES", "State", "address", "forget_state", "http_address", "read_state", "write_state"]

FILE = "up.json"
RECORDED = "recorder.db"
"""What the recorder writes in the data folder, and `loopcast query` reads."""

DATA = Path(".loopcast")
"""The data folder where none is named."""

EXAMPLES = {"LOOPCAST_URL": "http://127.0.0.1:8700", "LOOPCAST_GATEWAY_URL": "http://127.0.0.1:8701"}
"""How an address is written."""


@dataclass(frozen=True, slots=True)
class State:
    """A running `loopcast up`."""

    pid: int
    environment: dict[str, str]
    """`LOOPCAST_*` variables with its addresses."""
    ops: tuple[str, ...] = ()
    """The ops ports of its services but producer and gateway, as addresses."""


def write_state(data: Path, environment: dict[str, str], ops: Sequence[str] = ()) -> None:
    """Say that this process serves `environment`; the file appears whole or not at all."""
    temporary = data / f"{FILE}.{os.getpid()}"
    temporary.write_text(json.dumps({"pid": os.getpid(), "environment": environment, "ops": ops}), encoding="utf-8")
    temporary.chmod(0o600)
    temporary.replace(data / FILE)


def forget_state(data: Path) -> None:
    """Say that nothing runs here any more."""
    (data / FILE).unlink(missing_ok=True)


def read_state(data: Path) -> State:
    """
    The `loopcast up` that keeps its data in `data`.

    Raises:
        ConfigurationError: none runs there.
    """
    try:
        raw = json.loads((data / FILE).read_text(encoding="utf-8"))
        state = State(int(raw["pid"]), dict(raw["environment"]), tuple(raw.get("ops", ())))
        os.kill(state.pid, 0)
    except (OSError, ValueError, KeyError):
        raise ConfigurationError(
            f"No `loopcast up` runs with its data in {data}: start one, or name it with --data."
        ) from None
    return state


def address(data: Path, name: str) -> str:
    """
    One of its addresses, without a slash at the end.

    Raises:
        ConfigurationError: as :func:`read_state`.
    """
    try:
        return read_state(data).environment[name].rstrip("/")
    except ConfigurationError as error:
        raise ConfigurationError(f"{str(error).rstrip('.')}, or say with {name} where another one is.") from None


def http_address(given: str, data: Path, name: str) -> str:
    """
    The base URL of a service: as `given`, else as the running `loopcast up` says; without a slash at the end.

    Raises:
        ConfigurationError: what is given is no such URL or has a login in it, or as :func:`read_state`.
    """
    if not given:
        return address(data, name)
    parse_address(given, f"--url or {name}", "a service", EXAMPLES[name])
    return given.rstrip("/")
