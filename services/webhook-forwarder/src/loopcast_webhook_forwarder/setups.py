"""What an endpoint is made from: its entry, its secrets and its TLS, read together and compared together."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from loopcast.errors import ConfigurationError
from loopcast_webhook_forwarder.credentials import Credentials, read_credentials
from loopcast_webhook_forwarder.egress import tls_context
from loopcast_webhook_forwarder.endpoints import Endpoint
from loopcast_webhook_forwarder.endpoints_file import parse_endpoints

__all__ = ["MAX_FILE_BYTES", "Setup", "read_setups"]

MAX_FILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setup:
    """One endpoint with all that its entry names. Equal where nothing changed, secrets included."""

    endpoint: Endpoint
    credentials: Credentials
    tls: ssl.SSLContext = field(compare=False, repr=False)


def read_setups(path: Path, *, trace_url: str = "") -> dict[str, Setup]:
    """
    The endpoints of the file at `path`, by name. Blocking: the files are small and local.

    `trace_url` is what endpoints have that name none of their own.

    Raises:
        ConfigurationError: it, or a file that it names, cannot be read or is wrong; one line for each fault.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}; LOOPCAST_WEBHOOKS_FILE or --file names it."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no UTF-8 text.") from None
    parsed = parse_endpoints(text, str(path))
    setups: dict[str, Setup] = {}
    faults: list[str] = []
    for endpoint in parsed.endpoints:
        try:
            credentials = read_credentials(endpoint, path.parent)
            whole = endpoint if endpoint.trace_url else endpoint.model_copy(update={"trace_url": trace_url})
            setups[endpoint.name] = Setup(whole, credentials, tls_context(credentials.authorities))
        except ConfigurationError as error:
            faults.append(f"{path}:{parsed.lines[endpoint.name]}: {error}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    return setups
