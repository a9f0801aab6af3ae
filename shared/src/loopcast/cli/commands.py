"""
The subcommands, their arguments and help.

What each does is a module of its own, imported when it is used: `loopcast key` must not wait for a web framework.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from loopcast.cli import access, recorded, watching
from loopcast.cli.import_config import import_config
from loopcast.cli.relay import make_relay
from loopcast.cli.spool import spool
from loopcast.cli.webhooks import make_webhooks
from loopcast.errors import ConfigurationError
from loopcast.up.state import DATA

__all__ = ["make_app"]


def make_app() -> typer.Typer:
    """The command line."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Live events of agent loops and prompt experiments.",
    )
    for command in (up, send, tail, watching.runs, watching.replay, env, key, doctor, recorded.query):
        app.command()(command)
    app.command("export")(recorded.export)
    app.command()(access.token)
    app.command("api-key")(access.api_key)
    topology = typer.Typer(no_args_is_help=True, help="What Loopcast makes in the broker.")
    topology.command()(export)
    app.add_typer(topology, name="topology")
    otel = typer.Typer(no_args_is_help=True, help="Traces of loops in OpenTelemetry backends.")
    otel.command("trace-id")(trace_id)
    otel.command()(replay)
    app.add_typer(otel, name="otel")
    app.add_typer(make_webhooks(), name="webhooks")
    app.add_typer(make_relay(), name="relay")
    app.command("import-config")(import_config)
    app.command()(spool)
    return app


def up(
    demo: Annotated[bool, typer.Option(help="Feed it with a real loop that runs again and again.")] = False,
    data: Annotated[Path, typer.Option(help="Where the broker's data and the logs lie.")] = DATA,
    port_offset: Annotated[int, typer.Option(help="Added to every port, for a second one beside it.")] = 0,
) -> None:
    """Run a private RabbitMQ and every service here; Ctrl-C ends all."""
    from loopcast.up.run import run_up

    sys.exit(run_up(demo=demo, data=data, port_offset=port_offset))


def send(
    *,
    experiment: Annotated[str, typer.Argument(help="The experiment that the events belong to.")],
    type_: Annotated[str, typer.Argument(metavar="[TYPE]", help="The event's type.")] = "",
    field: Annotated[list[str] | None, typer.Argument(help="name=value, value as JSON or text.")] = None,
    run: Annotated[str, typer.Option(help="The run that the events belong to.")] = "",
    url: Annotated[str, typer.Option(envvar="LOOPCAST_URL", help="The producer.")] = "",
    data: Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")] = DATA,
) -> None:
    """Send one event, or without a TYPE the JSON lines of standard input."""
    from loopcast.cli.send import run_send

    sys.exit(run_send(experiment, type_, field or [], run=run, url=url, data=data))


def tail(
    *,
    experiment: Annotated[list[str] | None, typer.Argument(help="Experiments to watch; all without any.")] = None,
    from_: Annotated[str, typer.Option("--from", help="Where to begin: now or earliest.")] = "now",
    since: Annotated[str, typer.Option(help=f"Begin then instead: {watching.MOMENT}.")] = "",
    last: Annotated[int, typer.Option(help="Begin with so many of the newest events instead.", min=0)] = 0,
    types: watching.Types = None,
    exclude: watching.Exclude = None,
    json: watching.Json = False,
    limit: Annotated[int, typer.Option("-n", "--limit", help="End after so many events; 0 is never.")] = 0,
    url: watching.Url = "",
    data: watching.Data = DATA,
) -> None:
    """Watch events as they come; survives a gateway that goes and comes back."""
    from loopcast.cli.tail import run_tail, wanted

    progress = wanted(experiment or [], start=from_, since=since, last=last, types=types or (), exclude=exclude or ())
    sys.exit(run_tail(progress, json=json, limit=limit, url=url, data=data))


def env(data: Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")] = DATA) -> None:
    """Print the addresses of the running `loopcast up` for a shell: eval "$(loopcast env)"."""
    from loopcast.up.state import read_state

    for name, value in read_state(data).environment.items():
        typer.echo(f"export {name}={value}")


def doctor(
    *,
    url: Annotated[str, typer.Option(envvar="LOOPCAST_URL", help="The producer.")] = "",
    gateway: Annotated[str, typer.Option(envvar="LOOPCAST_GATEWAY_URL", help="The gateway.")] = "",
    amqp: Annotated[str, typer.Option(envvar="LOOPCAST_AMQP_URL", help="The broker.")] = "",
    ops: Annotated[
        list[str] | None,
        typer.Option(help="The ops port of any service, such as http://127.0.0.1:9704; several times."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    data: Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")] = DATA,
) -> None:
    """Say what is wrong and what to do; exit code 1 where something is."""
    from loopcast.cli.doctor import run_doctor

    sys.exit(run_doctor(data=data, url=url, gateway=gateway, amqp=amqp, ops=ops or (), json=json))


def key(
    experiment: Annotated[str, typer.Argument(help="An experiment id.")],
    type_: Annotated[str, typer.Argument(metavar="[TYPE]", help="An event type; without one, all of them.")] = "",
) -> None:
    """Print the routing key of an experiment, to bind a queue of your own to."""
    from loopcast.routing import bind_experiment, check_type, routing_key

    typer.echo(routing_key(experiment, check_type(type_)) if type_ else bind_experiment(experiment))


def export(vhost: Annotated[str, typer.Option(help="The virtual host of the objects.")] = "/") -> None:
    """Print the exchanges and the log as RabbitMQ's definitions.json, by the LOOPCAST_* settings."""
    import json

    from loopcast.settings import ServiceSettings, load

    typer.echo(json.dumps(load(ServiceSettings).broker_topology.definitions(vhost), indent=2))


def trace_id(
    experiment: Annotated[str, typer.Argument(help="An experiment id.")],
    run: Annotated[str, typer.Argument(help="A run id.")],
    attempt: Annotated[int, typer.Argument(help="1, and one more for each resume.", min=1)] = 1,
    chapter: Annotated[int, typer.Option(help="Of a loop that is so long that its trace is cut.", min=1)] = 1,
    span: Annotated[
        str, typer.Option(help="Print the traceparent of a span instead: L, L/S3 or L/S3/A1 (state and action).")
    ] = "",
) -> None:
    """Print the id of a run's trace, also before it begins: a link to a page, the parent of an agent's own spans."""
    from loopcast import trace_ids
    from loopcast.routing import check_experiment

    if span and not trace_ids.PATH.fullmatch(span):
        raise ConfigurationError(f"--span {span!r} is no path of a span: write L, L/S3 or L/S3/A1.")
    trace = trace_ids.trace_id(check_experiment(experiment), check_experiment(run, what="run id"), attempt, chapter)
    typer.echo(f"00-{trace.hex()}-{trace_ids.span_id(trace, span).hex()}-01" if span else trace.hex())


def replay(
    *,
    experiment: Annotated[str, typer.Option(help="The experiment whose traces to send.")],
    to: Annotated[str, typer.Option(help="The OTLP backend: http://host:4317, or with http/protobuf its base URL.")],
    run: Annotated[str, typer.Option(help="Only this run of it.")] = "",
    protocol: Annotated[str, typer.Option(help="grpc or http/protobuf.")] = "grpc",
    header: Annotated[list[str] | None, typer.Option(help="name=value, for the backend.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    amqp: Annotated[str, typer.Option(envvar="LOOPCAST_AMQP_URL", help="The broker.")] = "",
    data: Annotated[Path, typer.Option(help="Where `loopcast up` keeps its data.")] = DATA,
) -> None:
    """Fill another backend from the log, with the same spans under the same ids."""
    from loopcast.cli.otel import run_replay

    sys.exit(
        run_replay(experiment, to, run=run, protocol=protocol, headers=header or [], json=json, amqp=amqp, data=data)
    )
