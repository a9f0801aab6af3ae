"""Where events go and how much waits here: arguments, else `LOOPCAST_*`, else a default. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from loopcast.addresses import parse_address
from loopcast.errors import ConfigurationError
from loopcast.routing import NOWHERE, check_experiment

__all__ = ["DEFAULT_URL", "POLICIES", "Configuration", "resolve"]

DEFAULT_URL = "http://127.0.0.1:8700"
DEFAULT_BYTES = 64 * 1024 * 1024
MEMORY = "off"
"""Said instead of a folder: events wait in memory alone."""
POLICIES = ("drop_oldest", "drop_newest")
"""What goes when the spool is full."""

_MARKS = (".ll", ".git", "pyproject.toml")
"""What the folder of a project has."""


class Configuration(NamedTuple):
    """All that a transport needs to know."""

    scheme: str
    host: str
    port: int
    prefix: str
    """What stands before `/v1` in the producer's paths."""
    experiment: str
    token: str | None
    max_bytes: int
    full: str
    """One of :data:`POLICIES`."""
    spool: Path | None
    """The folder of spools and of what is known of runs; None for memory alone."""

    @property
    def base(self) -> str:
        """The producer's address."""
        return f"{self.scheme}://{self.host}:{self.port}{self.prefix}"

    @property
    def path(self) -> str:
        """Where the experiment's events are posted."""
        return f"{self.prefix}/v1/experiments/{quote(self.experiment, safe='')}/events"

    def __repr__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def resolve(
    url: str | None,
    experiment: str | None,
    token: str | None,
    max_bytes: int | None,
    full: str | None,
    *,
    spool: str | Path | None = None,
    environ: Mapping[str, str],
    folder: Path,
) -> Configuration:
    """
    Fill in what is not given.

    Raises:
        ConfigurationError: the URL, the size or the policy is wrong; the sentence says how it should be.
        InvalidExperiment: the experiment id breaks its grammar.
    """
    url = url or environ.get("LOOPCAST_URL") or DEFAULT_URL
    experiment = check_experiment(experiment or environ.get("LOOPCAST_EXPERIMENT") or project_of(folder))
    full = full or environ.get("LOOPCAST_SPOOL_FULL") or POLICIES[0]
    if full not in POLICIES:
        raise ConfigurationError(f"LOOPCAST_SPOOL_FULL={full!r}: say one of {', '.join(POLICIES)}.")
    parts = parse_address(url, "LOOPCAST_URL", "a producer", DEFAULT_URL)
    return Configuration(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or (443 if parts.scheme == "https" else 80),
        prefix=parts.path.rstrip("/"),
        experiment=experiment,
        token=token or environ.get("LOOPCAST_TOKEN") or None,
        max_bytes=max_bytes or _size(environ.get("LOOPCAST_SPOOL_MAX_BYTES")),
        full=full,
        spool=spool_folder(spool, environ),
    )


def spool_folder(given: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    """
    Where spools lie: as given, else `LOOPCAST_SPOOL_DIR`, else by the XDG base directory specification.

    None where `off` is said, and where the user has no home.
    """
    named = str(given or "") or environ.get("LOOPCAST_SPOOL_DIR", "")
    if named:
        return None if named == MEMORY else Path(named).absolute()
    state = environ.get("XDG_STATE_HOME") or ""
    if not state.startswith("/"):  # The specification: a relative path is to be ignored.
        home = environ.get("HOME") or environ.get("USERPROFILE") or ""
        if not home:
            return None
        state = f"{home}/.local/state"
    return Path(state, "loopcast", "spool")


def _size(text: str | None) -> int:
    if not text:
        return DEFAULT_BYTES
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigurationError(f"LOOPCAST_SPOOL_MAX_BYTES={text!r}: say a number of bytes, such as {DEFAULT_BYTES}.")
    return int(text)


def project_of(folder: Path) -> str:
    """The name of the project that `folder` is in: of the nearest folder above with a project's marks, else its own."""
    for candidate in (folder, *folder.parents):
        if any((candidate / mark).exists() for mark in _MARKS):
            folder = candidate
            break
    name = "".join(c for c in folder.name if c.isprintable()).encode("utf-8", "ignore")[:200].decode("utf-8", "ignore")
    return name if name not in ("", NOWHERE) else "default"
