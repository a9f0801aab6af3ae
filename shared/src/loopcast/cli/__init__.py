"""The `loopcast` command."""

from __future__ import annotations

import importlib.util
import sys

from loopcast.errors import LoopcastError

__all__ = ["main"]

NO_CLI = "The command line needs more than the SDK: in a checkout of Loopcast, pip install './shared[cli]'\n"


def main() -> None:
    """Run the command line; what a person can mend ends in one line and exit code 2."""
    if importlib.util.find_spec("typer") is None:
        sys.stderr.write(NO_CLI)
        sys.exit(2)
    from loopcast.cli.commands import make_app

    try:
        make_app()()
    except LoopcastError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except BrokenPipeError:
        # The reader of a pipe left (`loopcast tail | head`); closing stdout quietly is all there is to do.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # A file that is not there or not for this user, a disk that is full: the system's words name it.
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
