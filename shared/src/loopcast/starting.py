"""A service's program, from its first line: what it is made of is imported here, and then it runs."""

from __future__ import annotations

import gc
import importlib
from typing import NoReturn

__all__ = ["start"]


def start(module: str) -> NoReturn:
    """
    Import `module`, which has a `build` that makes the service, and run that until SIGTERM.

    What an import makes stays. Looked through for cycles again and again, it would take a tenth of the whole start.
    """
    gc.disable()
    build = importlib.import_module(module).build
    from loopcast.lifecycle import command

    gc.enable()
    command(build)
