"""`loopcast otel replay`: traces from the log into another backend."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import json as jsonlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loopcast.errors import ConfigurationError
from loopcast.settings import OtelExporterSettings, load
from loopcast.up.state import address

if TYPE_CHECKING:
    from loopcast_otel_exporter.replay import Progress

__all__ = ["run_replay"]

TELL_SECONDS = 1.0


def run_replay(
    experiment: str,
    to: str,
    *,
    run: str,
    protocol: str,
    headers: list[str],
    json: bool,
    amqp: str,
    data: Path,
) -> int:
    """
    Replay, and return the exit code: 1 where the backend refused something.

    Raises:
        ConfigurationError: the exporter is not installed, or a setting is wrong.
        BrokerUnavailable: no connection to the broker.
    """
    if importlib.util.find_spec("loopcast_otel_exporter") is None:
        raise ConfigurationError(
            "This needs the exporter's code: in a checkout of Loopcast, pip install ./shared ./services/otel-exporter"
        )
    # The same variables as the service's, so that the bytes are the same.
    os.environ.update(
        LOOPCAST_OTLP_ENDPOINT=to,
        LOOPCAST_OTLP_PROTOCOL=protocol,
        LOOPCAST_AMQP_URL=amqp or address(data, "LOOPCAST_AMQP_URL"),
    )
    if headers:
        os.environ["LOOPCAST_OTLP_HEADERS"] = ",".join(headers)
    done = asyncio.run(_replay(load(OtelExporterSettings), experiment, run or None))
    if json:
        sys.stdout.write(jsonlib.dumps(dataclasses.asdict(done)) + "\n")
    else:
        sys.stdout.write(f"{_sentence(done)}\n")
    return 1 if done.refused else 0


async def _replay(settings: OtelExporterSettings, experiment: str, run: str | None) -> Progress:
    from loopcast.broker.clients import client_of
    from loopcast.metrics import Metrics
    from loopcast.telemetry import Telemetry
    from loopcast_otel_exporter.instruments import Instruments
    from loopcast_otel_exporter.replay import NAME, replay
    from loopcast_otel_exporter.setup import Setup, transport_of

    transport = transport_of(settings)
    setup = Setup(
        settings=settings,
        client=client_of(settings.amqp_client),
        transport=transport,
        instruments=Instruments(Metrics("otel-replay", "0")),
        telemetry=Telemetry(NAME, "0"),
        name=NAME,
    )
    told = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            ending, start = ("", "\r\x1b[K") if sys.stderr.isatty() else ("\n", "")
            sys.stderr.write(f"{start}{_sentence(progress)}{ending}")
            sys.stderr.flush()

    try:
        return await replay(setup, experiment, run=run, tell=tell)
    finally:
        await transport.close()
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def _sentence(progress: Progress) -> str:
    said = f"{progress.events} events of {progress.read} read: {progress.spans} spans, {progress.records} log records"
    if progress.unfinished:
        said += f", {progress.unfinished} spans still open"
    return f"{said}, {progress.refused} refused" if progress.refused else said
