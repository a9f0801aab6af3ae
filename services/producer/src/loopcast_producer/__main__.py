"""`loopcast-producer`, and `python -m loopcast_producer`."""

from __future__ import annotations

from typing import NoReturn

from loopcast.starting import start

__all__ = ["main"]


def main() -> NoReturn:
    """Run the producer."""
    start("loopcast_producer.app")


if __name__ == "__main__":
    main()
