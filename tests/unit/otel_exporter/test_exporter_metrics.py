"""What the exporter's own metrics are made of."""

from types import SimpleNamespace

import msgspec
from otel_streams import envelopes, lines

from loopcast.checkpoint.record import Record
from loopcast.metrics import OTEL_MISSING, OTEL_REPEATS, REPEAT_KEYS_EVICTED, Metrics
from loopcast.repeats import Repeats
from loopcast.settings import OtelExporterSettings
from loopcast_otel_exporter.instruments import Instruments
from loopcast_otel_exporter.session import Session
from loopcast_otel_exporter.setup import Setup, transport_of


async def test_repeats_and_what_is_no_longer_known_for_one_are_counted():
    """Each once, over two looks: events that came twice, emitters that had to go, numbers that never came."""
    metrics, settings = Metrics("otel-exporter", "0"), OtelExporterSettings()
    transport = transport_of(settings)
    setup = Setup(
        settings=settings,
        client=SimpleNamespace(),
        transport=transport,
        instruments=Instruments(metrics),
        telemetry=SimpleNamespace(),
        name="test",
    )
    session = Session(setup, SimpleNamespace(), Record(1), partition=0, stream="loopcast.log.0")
    ordering = session._fold.ordering
    ordering.repeats = Repeats(pairs=1, ids=1)
    first = envelopes(lines("demo-parent"), run="run")[0]
    names = (OTEL_REPEATS, REPEAT_KEYS_EVICTED, OTEL_MISSING)

    counted = []
    for emitters in ("aab", "c"):
        for emitter in emitters:
            list(ordering.admit(msgspec.structs.replace(first, emitter=emitter * 16)))
        await session._report(None)
        counted.append([metrics.registry.get_sample_value(name.name) for name in names])
    await transport.close()

    assert [[1, 1, 0], [1, 2, 0]] == counted
