"""`loopcast-gateway`: run the service."""

from __future__ import annotations

from typing import NoReturn

from loopcast.lifecycle import command
from loopcast_gateway.app import build

__all__ = ["main"]


def main() -> NoReturn:
    """Run until SIGTERM."""
    command(build)


if __name__ == "__main__":
    main()
