"""The secrets of an endpoint, read from their files. What prints one shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.endpoints import Endpoint, FileReference, check_url
from loopcast_webhook_forwarder.signing import Key

__all__ = ["Credentials", "read_credentials"]

MAX_SECRET_BYTES = 65536


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Where an endpoint is and how it knows us."""

    url: str
    keys: tuple[Key, ...]
    headers: Mapping[str, str]
    authorities: str | None = None
    """Certificates (PEM) to trust instead of the system's."""


def read_credentials(endpoint: Endpoint, folder: Path) -> Credentials:
    """
    Read the files that `endpoint` names; a relative one lies in `folder`, the endpoints file's own.

    Blocking: the files are small and local.

    Raises:
        ConfigurationError: a file cannot be read, or what it holds is not what belongs there.
    """
    try:
        url = check_url(_text(endpoint.url, folder))
    except ValueError as error:
        raise ConfigurationError(f"url: {error}") from None
    keys = []
    for reference in endpoint.secret:
        try:
            keys.append(Key.parse(_text(reference, folder)))
        except ConfigurationError as error:
            raise ConfigurationError(f"secret: {reference.file}: {error}") from None
    headers = {}
    for name, value in endpoint.headers.items():
        headers[name] = _text(value, folder)
        if not headers[name].isprintable():
            raise ConfigurationError(f"headers: what the file of {name!r} holds has control characters")
    authorities = None if endpoint.ca_file is None else _text(FileReference(file=endpoint.ca_file), folder)
    return Credentials(url, tuple(keys), headers, authorities)


def _text(value: str | FileReference, folder: Path) -> str:
    if isinstance(value, str):
        return value
    try:
        with (folder / value.file).open("rb") as file:
            return file.read(MAX_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise ConfigurationError(f"{value.file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{value.file} is no text") from None
