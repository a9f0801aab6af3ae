"""`loopcast import-config`: from a little-loops configuration to the settings that do the same here."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from loopcast.errors import ConfigurationError
from loopcast.relays.little_loops_config import Translation, translate

__all__ = ["import_config"]

ENVIRONMENT = "loopcast.env"
ENDPOINTS = "webhooks.yaml"


def import_config(
    file: Annotated[Path, typer.Argument(help="little-loops' configuration.")] = Path(".ll/ll-config.json"),
    write: Annotated[
        Path | None, typer.Option(help=f"Write {ENVIRONMENT} and {ENDPOINTS} into this folder instead of printing.")
    ] = None,
) -> None:
    """Turn the `events` section of little-loops' configuration into settings and endpoints that do the same."""
    found = translate(_read(file))
    if found.endpoints and write is not None:
        found.settings["LOOPCAST_WEBHOOKS_FILE"] = str(write / ENDPOINTS)
    environment = "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(found.settings.items()))
    # JSON is YAML, and needs no library to be written.
    endpoints = json.dumps({"endpoints": found.endpoints}, indent=2) + "\n" if found.endpoints else ""
    if write is None:
        typer.echo(_shown(environment, endpoints), nl=False)
    else:
        write.mkdir(parents=True, exist_ok=True)
        for name, content in ((ENVIRONMENT, environment), (ENDPOINTS, endpoints)):
            if content:
                (write / name).write_text(content, encoding="utf-8")
                (write / name).chmod(0o600)  # Headers of webhooks are often secrets.
                typer.echo(str(write / name))
    _say(found)


def _shown(environment: str, endpoints: str) -> str:
    parts = [f"# {ENVIRONMENT}\n{environment}"] if environment else []
    parts += [f"# {ENDPOINTS} (LOOPCAST_WEBHOOKS_FILE)\n{endpoints}"] if endpoints else []
    return "\n".join(parts)


def _say(found: Translation) -> None:
    for note in found.notes:
        sys.stderr.write(f"{note}\n")
    services = ", ".join(["producer", *found.services])
    sys.stderr.write(
        f"Services: {services}. To feed them, set LOOPCAST_URL where the loops run (the extension does the rest), "
        "or run `loopcast relay little-loops`.\n"
    )


def _read(file: Path) -> dict[str, object]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigurationError(f"{file} is no JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ConfigurationError(f"{file} is no JSON object.")
    return config
