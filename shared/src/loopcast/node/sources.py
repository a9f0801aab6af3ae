"""
Where RabbitMQ comes from, in which order, and what to say when it comes from nowhere.

An installed one, else Debian's packages unpacked beside the project, else a container, else one sentence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from loopcast.errors import NodeError
from loopcast.node import debian, engine
from loopcast.node.installed import find_installed
from loopcast.node.launch import Source

__all__ = ["ORDER", "advice", "find"]

Say = Callable[[str], None]

ORDER = ("installed", "apt", "docker")
"""The names of the sources, as `find` tries them."""


def advice(platform: str, reasons: Mapping[str, str]) -> str:
    """Return the one line that a person gets when there is no RabbitMQ and no way to have one."""
    command = "brew install rabbitmq" if platform == "darwin" else "apt install rabbitmq-server"
    tried = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return f"RabbitMQ was not found. Install it (`{command}`), or start Docker, or set LOOPCAST_AMQP_URL ({tried})."


def find(cache: Path, say: Say, order: tuple[str, ...] = ORDER) -> Source:
    """
    Return the first source of RabbitMQ that works here; `cache` is where a fetched one is kept.

    Raises:
        NodeError: none does; the sentence says what to install, and why each way failed.
    """
    tries: dict[str, Callable[[], Source]] = {
        "installed": _installed,
        "apt": lambda: debian.unpacked(cache) or debian.fetch(cache, say),
        "docker": lambda: engine.find_image(say),
    }
    reasons: dict[str, str] = {}
    for name in order:
        try:
            return tries[name]()
        except NodeError as error:
            reasons[name] = str(error)
    raise NodeError(advice(sys.platform, reasons))


def _installed() -> Source:
    found = find_installed(os.environ)
    if found is None:
        raise NodeError("none of 3.10 or newer, with Erlang")
    return found
