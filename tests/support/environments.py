"""The environment of a service that a test starts."""

import os


def of_a_service(**variables):
    """
    Nothing that the shell says to Loopcast, the given variables, and an end with the tests, whatever ends them.

    An interrupt while a fixture waits for its service would otherwise leave that behind.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPCAST_")}
    return kept | {"LOOPCAST_PARENT_PID": str(os.getpid())} | {name: str(value) for name, value in variables.items()}
