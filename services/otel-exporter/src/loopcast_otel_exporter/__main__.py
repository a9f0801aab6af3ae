"""`loopcast-otel-exporter`: run the service."""

from __future__ import annotations

from typing import NoReturn

from loopcast.starting import start

__all__ = ["main"]


def main() -> NoReturn:
    """Run until SIGTERM."""
    start("loopcast_otel_exporter.app")


if __name__ == "__main__":
    main()
