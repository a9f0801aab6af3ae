"""
Asking a running server: `rabbitmqctl`, Erlang expressions, virtual hosts.

`rabbitmqctl` starts an Erlang of its own for every question, which is half a second; Erlang's `erl_call` asks in
milliseconds where it is at hand. What tests ask for each of them goes that way.
"""

from __future__ import annotations

import re
import subprocess

from loopcast.errors import NodeError
from loopcast.node.launch import Launch

__all__ = ["Control"]

_PATIENCE = 60.0
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_BY = '<<"loopcast">>'
_ALL = '<<".*">>'


class Control:
    """The ways to ask one launched server."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    def ctl(self, *args: str) -> str:
        """
        Run `rabbitmqctl` and return what it prints.

        Raises:
            NodeError: the server does not run, or refuses.
        """
        return self._run((*self._launch.ctl, *args))

    def eval(self, expression: str) -> str:
        """
        Evaluate an Erlang expression in the server and return what it yields, as Erlang writes it.

        Raises:
            NodeError: the server does not run, or the expression failed.
        """
        form = f"{expression.rstrip('. ')}.\n"
        if not self._launch.call:
            return self.ctl("eval", form).strip()
        answer = self._run(self._launch.call, form).strip()
        if not answer.startswith("{ok, "):
            raise NodeError(f"RabbitMQ could not evaluate {expression}: {answer}")
        return answer.removeprefix("{ok, ").removesuffix("}")

    def add_vhost(self, name: str) -> None:
        """
        Make a virtual host that the user `guest` may use.

        Raises:
            NodeError: the name is no plain word, or the server refuses.
        """
        vhost = _binary(name)
        self.eval(
            f"ok = rabbit_vhost:add({vhost}, {_BY}), ok = rabbit_auth_backend_internal:set_permissions("
            f'<<"guest">>, {vhost}, {_ALL}, {_ALL}, {_ALL}, {_BY})'
        )

    def delete_vhost(self, name: str) -> None:
        """
        Delete a virtual host with all that it holds.

        Raises:
            NodeError: the server refuses.
        """
        self.eval(f"rabbit_vhost:delete({_binary(name)}, {_BY})")

    def _run(self, command: tuple[str, ...], given: str = "") -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self._launch.folder,
                env=dict(self._launch.environment),
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise NodeError(f"RabbitMQ did not answer `{' '.join(command)}` within {_PATIENCE:.0f} s.") from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise NodeError(f"`{' '.join(command)}` failed with status {done.returncode}: {said}")
        return done.stdout


def _binary(name: str) -> str:
    """A name as an Erlang binary; only plain words, so that nothing in it can be an expression."""
    if not _PLAIN_NAME.match(name):
        raise NodeError(f"{name!r} is no plain name for a virtual host: letters, digits, `_`, `.` and `-` only.")
    return f'<<"{name}">>'
