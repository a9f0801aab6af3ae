"""What `loopcast up` starts: processes, ports and their variables. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loopcast.settings import SERVICES, PublicSettings
from loopcast.up.state import RECORDED

__all__ = ["BROKER_PORT", "COLOURS", "Plan", "Program", "make_plan"]

BROKER_PORT = 5682
"""Of the private node: not 5672, where a broker of somebody else's may already be."""

HOST = "127.0.0.1"

# One a program; the broker and `up` itself are grey.
COLOURS = {
    "producer": "green",
    "gateway": "cyan",
    "otel-exporter": "magenta",
    "webhook-forwarder": "yellow",
    "recorder": "blue",
    "demo": "bright_black",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int | None = None
    ops_port: int | None = None

    @property
    def address(self) -> str | None:
        """Its public address, where it has one."""
        return None if self.port is None else f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that runs."""

    amqp_url: str | None
    """The broker to use; None is a private node at `broker_port`."""
    broker_port: int
    services: tuple[Program, ...]
    demo: Program | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """What `loopcast env` prints, the broker's address not included."""

    @property
    def ops(self) -> tuple[str, ...]:
        """The probes and metrics of the services that nobody asks anything at a public port of their own."""
        asked = {"producer", "gateway"}
        return tuple(f"http://{HOST}:{program.ops_port}" for program in self.services if program.name not in asked)

    @property
    def ports(self) -> dict[int, str]:
        """Every port that must be free, with who wants it."""
        wanted = {} if self.amqp_url else {self.broker_port: "the private RabbitMQ"}
        for program in self.services:
            for port in (program.port, program.ops_port):
                if port is not None:
                    wanted[port] = program.name
        return wanted


def make_plan(*, environ: Mapping[str, str], data: Path, port_offset: int, demo: bool) -> Plan:
    """
    The plan for a machine with these variables.

    Ports are `up`'s to give, so a `LOOPCAST_PORT` of the shell's is left aside; every other `LOOPCAST_*` variable
    reaches the services.
    """
    environ = {**_defaults(data), **environ}
    services = tuple(_service(name, environ, port_offset) for name in SERVICES)
    addresses = {program.name: program.address for program in services}
    environment = {
        "LOOPCAST_URL": addresses["producer"] or "",
        "LOOPCAST_GATEWAY_URL": addresses["gateway"] or "",
    }
    feeding = Program(
        name="demo",
        command=(sys.executable, "-m", "loopcast.demo"),
        # Nothing of a demonstration lies outside of its folder.
        environment={"LOOPCAST_SPOOL_DIR": str(data.absolute() / "spool"), **environ, **environment},
    )
    return Plan(
        amqp_url=environ.get("LOOPCAST_AMQP_URL") or None,
        broker_port=BROKER_PORT + port_offset,
        services=services,
        demo=feeding if demo else None,
        environment=environment,
    )


def _defaults(data: Path) -> dict[str, str]:
    """What differs from the services' own defaults: the data lies in one folder, and Ctrl-C is not waited for long."""
    return {"LOOPCAST_RECORDER_SQLITE": str(data / RECORDED), "LOOPCAST_DRAIN_SECONDS": "5"}


def _service(name: str, environ: Mapping[str, str], offset: int) -> Program:
    defaults = SERVICES[name].model_fields
    ops_port = int(defaults["ops_port"].default) + offset
    port = int(defaults["port"].default) + offset if issubclass(SERVICES[name], PublicSettings) else None
    assigned = {"LOOPCAST_OPS_PORT": str(ops_port), "LOOPCAST_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    if port is not None:
        assigned["LOOPCAST_PORT"] = str(port)
    inherited = {k: v for k, v in environ.items() if k != "LOOPCAST_PORT"}
    return Program(
        name=name,
        command=(sys.executable, "-m", f"loopcast_{name.replace('-', '_')}"),
        environment={**inherited, **assigned},
        port=port,
        ops_port=ops_port,
    )
