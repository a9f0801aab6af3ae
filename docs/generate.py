"""
Write the pages that come out of the code, and the index out of the pages' titles.

`configuration.md`, `command-line.md`, `metrics.md`, `asyncapi.yaml`; the index is `README.md`.

`make docs` runs it; a test fails while a page and the code differ.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from loopcast.cli.commands import make_app
from loopcast.metrics import INVENTORY
from loopcast.settings import PREFIX, SERVICES, PublicSettings, ServiceSettings
from loopcast_gateway import asyncapi

FOLDER = Path(__file__).parent
INTRODUCTION = """\
# Configuration

Written from `loopcast.settings` by `make docs`; edit the descriptions there.

Services read `LOOPCAST_*` variables when they start. A bad value stops the start with one line that names it; a name
that nothing knows is warned of with the nearest one that something does. What Kubernetes injects for a Service called
`loopcast` (`LOOPCAST_PORT=tcp://…`, `LOOPCAST_SERVICE_HOST`) is ignored. Lists are comma-separated.

Each variable may have `_FILE` at its end and name a file that holds the value (`LOOPCAST_AMQP_PASSWORD_FILE`): secrets
then are in no environment. Files are read at the start; those with the broker's URL, username or password again at each
connection.
"""
METRICS_INTRODUCTION = """\
# Metrics

Written from `loopcast.metrics` by `make docs`; edit the descriptions there.

Every service serves them as Prometheus' text format at `/metrics` of its ops port. No label ever holds an experiment:
their number has no bound. Beside these, each process has Prometheus' own `process_*` and `python_gc_*`.
"""

INDEX = """\
# Documentation

Written from the pages' titles by `make docs`.

"""
READERS = {
    "want to watch a loop": "[the README](../README.md), then [the SDK](sdk.md) or [the relays](relays.md), and "
    "[the command line](command-line.md)",
    "write a client": "[the protocol](protocol.md), [what to do so that nothing is missed](architecture/resume.md), "
    "[what an event is](architecture/events.md); for machines [asyncapi.yaml](asyncapi.yaml) and a gateway's or a "
    "producer's `/v1/openapi.json`",
    "operate it": "[deploying](../deploy/README.md), [configuration](configuration.md), [security](security.md), "
    "[sizing](sizing.md), [metrics](metrics.md), [runbooks](operations/runbooks.md), "
    "[the services' own traces](operations/telemetry.md)",
    "change it": "[how we build](../CONTRIBUTING.md), [the overview](architecture/overview.md), "
    "[what is in the shared package](../shared/README.md), the decisions below",
}
"""What a person wants, and where that is."""
FOLDERS = {"architecture": "How it works", "decisions": "What was decided", "benchmarks": "What was measured"}
FIRST = "overview.md"

COMMANDS_INTRODUCTION = """\
# Command line

Written from `loopcast --help` by `make docs`; edit the help there.

`send`, `tail`, `runs`, `replay` and `doctor` find the `loopcast up` of the current folder by themselves; elsewhere
`LOOPCAST_URL`, `LOOPCAST_GATEWAY_URL` and `LOOPCAST_AMQP_URL` say where the producer, the gateway and the broker are,
and `LOOPCAST_TOKEN` is shown where they ask for one. What a person can mend ends in one line and exit code 2.
"""


def commands() -> str:
    """The page of the command line."""
    return COMMANDS_INTRODUCTION + "".join(_commands(typer.main.get_command(make_app()), "loopcast"))


def _commands(command: Any, name: str) -> Iterator[str]:
    """A section for each command under `command`, in the order of the help."""
    if hasattr(command, "commands"):
        for word, below in command.commands.items():
            yield from _commands(below, f"{name} {word}")
        return
    rows = [(f"`{', '.join(p.opts)}`", *_of(p)) for p in command.params if p.param_type_name == "option"]
    arguments = [(f"`{p.name.rstrip('_')}`", *_of(p)) for p in command.params if p.param_type_name == "argument"]
    yield f"\n## `{name}`\n\n{inspect.cleandoc(command.help)}\n"
    yield "\n" + _table(("", "default", "meaning"), arguments + rows) if arguments or rows else ""


def _of(parameter: Any) -> tuple[str, str]:
    default = parameter.default
    shown = "" if default is None or default is False or default == "" else f"`{default}`"
    variable = f" Variable: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
    return shown, (parameter.help or "") + variable


def configuration() -> str:
    """The configuration page."""
    common = list(ServiceSettings.model_fields)
    parts = [INTRODUCTION, _section("Every service", ServiceSettings, common)]
    public = [name for name in PublicSettings.model_fields if name not in common]
    parts.append(_section("Services with a public port (producer, gateway, recorder)", PublicSettings, public))
    for service, settings in SERVICES.items():
        inherited = (
            PublicSettings.model_fields if issubclass(settings, PublicSettings) else ServiceSettings.model_fields
        )
        own = [
            name
            for name, field in settings.model_fields.items()
            if name not in inherited or field.default != inherited[name].default
        ]
        parts.append(_section(service, settings, own))
    return "\n".join(parts)


def metrics() -> str:
    """The metrics page."""
    rows = ((f"`{d.name}`", d.kind, ", ".join(f"`{label}`" for label in d.labels), d.help) for d in INVENTORY.values())
    return METRICS_INTRODUCTION + "\n" + _table(("name", "kind", "labels", "meaning"), rows)


def exchange_and_sockets() -> str:
    """The AsyncAPI document."""
    head = "# Written from loopcast_gateway.asyncapi by `make docs`; a gateway serves it at /v1/asyncapi.json.\n"
    return head + yaml.safe_dump(asyncapi.document(), sort_keys=False, allow_unicode=True, width=120)


def index() -> str:
    """The index: where to begin, and every page of the folders that have many."""
    services = ", ".join(f"[{name}](../services/{name}/README.md)" for name in SERVICES)
    rows = [*READERS.items(), ("look for one service", services)]
    parts = [INDEX + _table(("you", "read"), rows)]
    for folder, title in FOLDERS.items():
        pages = sorted((FOLDER / folder).glob("*.md"), key=lambda page: (page.name != FIRST, page.name))
        parts.append(f"## {title}\n\n" + "".join(f"* [{_title(page)}]({folder}/{page.name})\n" for page in pages))
    return "\n".join(parts)


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


PAGES = {
    "README.md": index,
    "configuration.md": configuration,
    "command-line.md": commands,
    "metrics.md": metrics,
    "asyncapi.yaml": exchange_and_sockets,
}


def _section(title: str, settings: type[ServiceSettings], names: Iterable[str]) -> str:
    fields = settings.model_fields
    rows = ((f"`{PREFIX}{n.upper()}`", _text(fields[n].default), fields[n].description or "") for n in names)
    return f"## {title}\n\n" + _table(("variable", "default", "meaning"), rows)


def _text(value: object) -> str:
    """A default as it is written in a variable; nothing where there is none."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if value is None or not text:
        return ""
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), encoding="utf-8")
        print(f"docs/{page}")
