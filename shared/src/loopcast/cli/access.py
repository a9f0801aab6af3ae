"""`loopcast token` and `loopcast api-key`: what people show to services."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from loopcast.cli.moments import UNITS
from loopcast.errors import ConfigurationError

__all__ = ["HOW_TO_SHOW", "api_key", "bearer_header", "parse_ttl", "refusal", "token"]

HOW_TO_SHOW = "LOOPCAST_TOKEN is what is shown; `loopcast token` makes one."
"""What a person can do about an answer that is about a token."""
_PATTERN_HELP = "Experiments, such as exp-* or *; may be given several times."


def token(
    *,
    subscribe: Annotated[list[str] | None, typer.Option(help=f"What may be watched. {_PATTERN_HELP}")] = None,
    publish: Annotated[list[str] | None, typer.Option(help=f"What may be sent to. {_PATTERN_HELP}")] = None,
    ttl: Annotated[str, typer.Option(help="How long it is good: a number and s, m, h or d.")] = "8h",
    subject: Annotated[str, typer.Option(help="Who it is for: limits count by it, and logs show it.")] = "",
) -> None:
    """
    Print a token, signed with LOOPCAST_JWT_SECRET (or LOOPCAST_JWT_SECRET_FILE).

    It has the first LOOPCAST_JWT_AUDIENCE and LOOPCAST_JWT_ISSUER, where they are set, as the services ask for them.
    """
    from loopcast.auth.patterns import BadPattern
    from loopcast.auth.tokens import make_token
    from loopcast.settings import PublicSettings, load

    settings = load(PublicSettings)
    if settings.jwt_secret is None:
        raise ConfigurationError(
            "Set LOOPCAST_JWT_SECRET or LOOPCAST_JWT_SECRET_FILE to the secret that the services have; "
            "`openssl rand -base64 48` makes one."
        )
    if not subscribe and not publish:
        raise ConfigurationError("Say what the token permits: --subscribe 'exp-*', --publish 'exp-*', or both.")
    try:
        made = make_token(
            settings.jwt_secret.get_secret_value(),
            publish=tuple(publish or ()),
            subscribe=tuple(subscribe or ()),
            now=time.time(),
            ttl=parse_ttl(ttl),
            subject=subject or None,
            audience=next(iter(settings.jwt_audience), None),
            issuer=next(iter(settings.jwt_issuer), None),
        )
    except BadPattern as error:
        raise ConfigurationError(str(error)) from None
    typer.echo(made)


def api_key(
    *,
    name: Annotated[str, typer.Argument(help="What it is for: logs and metrics know the key by it.")],
    publish: Annotated[list[str] | None, typer.Option(help=f"What may be sent to. {_PATTERN_HELP}")] = None,
    subscribe: Annotated[list[str] | None, typer.Option(help=f"What may be watched. {_PATTERN_HELP}")] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second that it may send.", min=0.001)] = None,
    file: Annotated[Path | None, typer.Option(help="Add its hash to this file, LOOPCAST_API_KEYS_FILE.")] = None,
) -> None:
    """Make an API key: prints the key, which nobody can see again, and its entry for the file of keys."""
    from loopcast.auth.api_keys import entry_of, make_key, read_api_keys
    from loopcast.auth.patterns import BadPattern

    if not subscribe and not publish:
        raise ConfigurationError("Say what the key permits: --publish 'exp-*', --subscribe 'exp-*', or both.")
    made = make_key()
    try:
        entry = entry_of(made, name, publish=tuple(publish or ()), subscribe=tuple(subscribe or ()), rate=rate)
    except BadPattern as error:
        raise ConfigurationError(str(error)) from None
    present = file.read_text(encoding="utf-8") if file is not None and file.exists() else ""
    read_api_keys(f"{present}\n{entry}", path="the entry" if file is None else str(file))
    if file is None:
        sys.stderr.write(f"# For the file that LOOPCAST_API_KEYS_FILE names:\n{entry}# The key itself:\n")
    else:
        with file.open("a", encoding="utf-8") as out:
            out.write(f"\n{entry}" if present else entry)
        sys.stderr.write(f"# Added to {file}. The key itself, which nobody can see again:\n")
    typer.echo(made)


def bearer_header() -> dict[str, str]:
    """The header that shows `LOOPCAST_TOKEN`, where it is set."""
    token = os.environ.get("LOOPCAST_TOKEN", "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def refusal(who: str, status: int, said: object) -> ConfigurationError:
    """The error of a command whose request `who` refused with an HTTP status, and words of its own."""
    hint = f" {HOW_TO_SHOW}" if status in (401, 403) else ""
    return ConfigurationError(f"{who} refused: {said}{hint}")


def parse_ttl(text: str) -> float:
    """
    Seconds of `8h`, `30m`, `7d` or `45s`.

    Raises:
        ConfigurationError: it is none of these.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None or not int(found[1]):
        raise ConfigurationError(f"--ttl {text!r}: write a number and s, m, h or d, such as 8h.")
    return int(found[1]) * UNITS[found[2]]
