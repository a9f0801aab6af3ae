"""`loopcast doctor`: what is wrong, and what to do; each finding a line, the broken ones with a way out."""

from __future__ import annotations

import asyncio
import contextlib
import json as jsonlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.text import Text

from loopcast.addresses import parse_address
from loopcast.cli.findings import Finding
from loopcast.errors import ConfigurationError, LoopcastError
from loopcast.up.state import EXAMPLES, read_state

__all__ = ["run_doctor"]

SECONDS = 10.0
"""How long one part may take to answer."""
SCARCE_BYTES = 1_000_000_000
WIDTH = len("webhook-forwarder")
OPS_EXAMPLE = "http://127.0.0.1:9704"

_MARKS = {"ok": ("ok", "green"), "unsure": ("?", "yellow"), "broken": ("!", "red bold")}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts are; "" is nowhere."""

    producer: str
    gateway: str
    broker: str
    origin: str
    """How they were found, for a person."""
    ops: tuple[str, ...] = ()
    """The ops ports of any services."""


def run_doctor(*, data: Path, url: str, gateway: str, amqp: str, ops: Sequence[str], json: bool) -> int:
    """Look at every part, print what is found, and return the exit code: 1 where something is broken."""
    findings = list(examine(places(data, url=url, gateway=gateway, amqp=amqp, ops=ops), data))
    if json:
        print(jsonlib.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    return int(any(finding.verdict == "broken" for finding in findings))


def places(data: Path, *, url: str, gateway: str, amqp: str, ops: Sequence[str] = ()) -> Places:
    """What is named beats what `loopcast up` in `data` says."""
    origin = "as named"
    if not (url and gateway and amqp):
        try:
            state = read_state(data)
        except ConfigurationError as error:
            running, origin = {}, str(error)
        else:
            running, origin = state.environment, f"of `loopcast up` in {data}"
            ops = ops or state.ops
        url = url or running.get("LOOPCAST_URL", "")
        gateway = gateway or running.get("LOOPCAST_GATEWAY_URL", "")
        amqp = amqp or running.get("LOOPCAST_AMQP_URL", "")
    return Places(url.rstrip("/"), gateway.rstrip("/"), amqp, origin, tuple(place.rstrip("/") for place in ops))


def examine(places: Places, data: Path) -> Iterator[Finding]:
    """One finding after the other, from the ground up."""
    yield from _settings()
    yield _disk(data)
    if not (places.producer or places.gateway or places.broker or places.ops):
        do = "Start `loopcast up`, or name them: LOOPCAST_URL, LOOPCAST_GATEWAY_URL, LOOPCAST_AMQP_URL."
        yield Finding("services", "unsure", f"Nothing to look at. {places.origin}", do)
        return
    parts: tuple[tuple[str, str, str, Callable[[str], Finding]], ...] = (
        ("broker", places.broker, "LOOPCAST_AMQP_URL", _broker),
        ("producer", places.producer, "LOOPCAST_URL", _producer),
        ("gateway", places.gateway, "LOOPCAST_GATEWAY_URL", _gateway),
    )
    for part, place, variable, look in parts:
        if place:
            yield _misplaced(part, place, variable) or look(place)
        else:
            yield Finding(part, "unsure", "Not looked at: nobody said where it is.", f"Set {variable}.")
    for place in places.ops:
        misplaced = _misplaced("service", place, "--ops")
        yield from (misplaced,) if misplaced else _ops(place)
    yield _spools()


def _misplaced(part: str, place: str, name: str) -> Finding | None:
    """What is wrong with an address, where it is none that commands and the SDK take; a broker's is looked at there."""
    if part == "broker":
        return None
    try:
        parse_address(place, name, "a service", EXAMPLES.get(name, OPS_EXAMPLE))
    except ConfigurationError as error:
        return Finding(part, "broken", str(error), f"Correct {name}.")
    return None


def _settings() -> Iterator[Finding]:
    from loopcast.settings import unknown_names, wrong_settings

    wrong = wrong_settings()
    for sentence in wrong:
        yield Finding("settings", "broken", sentence, "No service starts with this: correct it or unset it.")
    for name, nearest in unknown_names().items():
        do = f"Did you mean {nearest}?" if nearest else "Unset it."
        yield Finding("settings", "unsure", f"Nothing reads {name}.", do)
    if not wrong:
        yield Finding("settings", "ok", "Every LOOPCAST_* variable has a value that it may have.")


def _disk(data: Path) -> Finding:
    folder = data if data.exists() else Path()
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.1f} GB free where {folder.resolve()} lies."
    if free < SCARCE_BYTES:
        return Finding("disk", "broken", found, "Make room: RabbitMQ takes nothing more when its disk is nearly full.")
    return Finding("disk", "ok", found)


def _broker(url: str) -> Finding:
    from loopcast.broker.clients import client_of
    from loopcast.broker.declare import ensure
    from loopcast.errors import BrokerUnavailable, LogMissing, TopologyMismatch
    from loopcast.settings import ServiceSettings, load

    where = _shown(url)
    try:
        topology = load(ServiceSettings).broker_topology
    except ConfigurationError:
        return Finding("broker", "unsure", "Not looked at: the settings are broken.")
    looking = ensure(client_of("aio-pika"), url, topology, mode="verify", name="loopcast doctor")
    try:
        asyncio.run(asyncio.wait_for(looking, SECONDS))
    except LogMissing as error:
        do = "The first producer makes it (LOOPCAST_TOPOLOGY=declare); or use `loopcast topology export`."
        return Finding("broker", "broken", f"{where} answers. {error}", do)
    except TopologyMismatch as error:
        return Finding("broker", "broken", str(error), "Set LOOPCAST_PARTITIONS to what the log was made with.")
    except TimeoutError:
        return Finding("broker", "broken", f"{where} did not answer within {SECONDS:g} s.", "Is it RabbitMQ's port?")
    except (BrokerUnavailable, LoopcastError) as error:
        do = "Is RabbitMQ running there, and may this user log in?"
        return Finding("broker", "broken", str(error), do)
    return Finding("broker", "ok", f"{where} has the exchange and the log.")


def _producer(url: str) -> Finding:
    """Ask the producer to take nothing: it answers as for an event, and nothing is published."""
    answer = _ask("POST", f"{url}/v1/events", json=[])
    if isinstance(answer, str):
        return Finding("producer", "broken", f"{url}: {answer}", "Is it running, and is LOOPCAST_URL its address?")
    if answer.status_code == httpx.codes.ACCEPTED:
        return Finding("producer", "ok", f"{url} takes events.")
    return Finding("producer", "broken", f"{url} answers {answer.status_code}: {_reason(answer)}", _remedy(answer))


def _gateway(url: str) -> Finding:
    answer = _ask("GET", f"{url}/v1/experiments")
    if isinstance(answer, str):
        do = "Is it running, and is LOOPCAST_GATEWAY_URL its address?"
        return Finding("gateway", "broken", f"{url}: {answer}", do)
    if answer.status_code != httpx.codes.OK:
        return Finding("gateway", "broken", f"{url} answers {answer.status_code}: {_reason(answer)}", _remedy(answer))
    try:
        body = answer.json()
        count = len(body["experiments"])
    except (ValueError, KeyError, TypeError):
        return Finding("gateway", "broken", f"{url} is no gateway of Loopcast.", "Correct LOOPCAST_GATEWAY_URL.")
    if not body.get("complete", True):
        do = "Wait: it is reading the log. If that lasts, look at loopcast_gateway_ metrics and the broker."
        return Finding("gateway", "unsure", f"{url} answers, with {count} experiments so far.", do)
    return Finding("gateway", "ok", f"{url} answers, with {count} experiments.")


def _ops(url: str) -> Iterator[Finding]:
    """What a service says of itself: whether it may be sent work, and what fails though it may."""
    from loopcast.cli.vital_signs import examine_metrics

    ready, metrics = _ask("GET", f"{url}/readyz"), _ask("GET", f"{url}/metrics")
    if isinstance(ready, str) or isinstance(metrics, str):
        yield Finding("service", "broken", f"{url}: no answer.", "Is it running, and is this its LOOPCAST_OPS_PORT?")
        return
    try:
        service, wrong = examine_metrics(metrics.text)
    except ValueError as error:
        yield Finding("service", "broken", f"{url}: {error}.", "Is this its ops port (LOOPCAST_OPS_PORT)?")
        return
    if ready.status_code != httpx.codes.OK:
        why = ready.text.strip()
        yield Finding(service, "broken", f"{url} is not ready: {why}", "Look at its log, and at the broker.")
    elif not wrong:
        yield Finding(service, "ok", f"{url} is ready, and what it works for takes everything.")
    yield from wrong


def _spools() -> Finding:
    """Events that wait on this machine for a producer."""
    from loopcast.sdk.configuration import spool_folder

    root = spool_folder(None, os.environ)
    waiting = [] if root is None else [_undelivered(path) for path in root.glob("*.spool")]
    size, count, dropped = sum(w[0] for w in waiting), sum(bool(w[0]) for w in waiting), sum(w[1] for w in waiting)
    if dropped:
        text = f"{dropped:,} events were dropped because the spool was full; {size:,} bytes wait under {root}."
        do = "Let a spool hold more (LOOPCAST_SPOOL_MAX_BYTES), or find out why their producer is not reached."
        return Finding("spool", "unsure", text, do)
    if not size:
        return Finding("spool", "ok", "No events wait on this machine.")
    do = "They are sent by their process while it runs, else by the next LoopcastTransport with the same LOOPCAST_URL."
    return Finding("spool", "unsure", f"{size:,} bytes of events wait in {count} spools under {root}.", do)


def _undelivered(path: Path) -> tuple[int, int]:
    """Bytes of a spool behind its cursor, and events it dropped; looking takes nothing from the process that has it."""
    from loopcast.sdk.folder import read_cursor
    from loopcast.sdk.spool import SET_ASIDE

    at, offset, dropped = read_cursor(path)
    size = 0
    for file in path.glob("*.events"):
        with contextlib.suppress(OSError, ValueError):  # Delivered and removed meanwhile; nobody's segment.
            if (number := int(file.stem)) >= at or number == SET_ASIDE:
                size += file.stat().st_size - (offset if number == at else 0)
    return max(0, size), dropped


def _ask(method: str, url: str, **options: object) -> httpx.Response | str:
    """An answer, or why there is none."""
    token = os.environ.get("LOOPCAST_TOKEN", "")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        return httpx.request(method, url, timeout=SECONDS, headers=headers, **options)  # type: ignore[arg-type]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"no answer ({str(error) or type(error).__name__})"


def _reason(answer: httpx.Response) -> str:
    try:
        body = answer.json()
        return str(body.get("detail") or body.get("title") or "")
    except (ValueError, AttributeError):
        return answer.reason_phrase


def _remedy(answer: httpx.Response) -> str:
    match answer.status_code:
        case 401 | 403:
            return "Set LOOPCAST_TOKEN to a token that may (`loopcast token`)."
        case 503:
            return "The service is up and waits for RabbitMQ: look at the broker."
    return "Is this a service of Loopcast? Look at its log."


def _shown(url: str) -> str:
    """Without the password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5672}{parts.path}"


def _show(findings: list[Finding]) -> None:
    out = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        mark, colour = _MARKS[finding.verdict]
        out.print(Text.assemble((f"{mark:>2} ", colour), (f"{finding.part:<{WIDTH}} ", "bold"), finding.found))
        if finding.do:
            out.print(Text(f"{'':{WIDTH + 4}}{finding.do}", style="bright_black"))
