"""`loopcast-producer`, and `python -m loopcast_producer`."""

from __future__ import annotations

from typing import NoReturn

from loopcast.lifecycle import command
from loopcast_producer.app import build

__all__ = ["main"]


def main() -> NoReturn:
    """Run the producer."""
    command(build)


if __name__ == "__main__":
    main()
