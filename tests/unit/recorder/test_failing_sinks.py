"""What the recorder says of a place that takes nothing."""

import asyncio

import pytest
from structlog.testing import capture_logs

from loopcast.errors import ConfigurationError, StorageError
from loopcast.metrics import Metrics
from loopcast.settings import PLACES, PREFIX, RecorderSettings
from loopcast_recorder import app
from loopcast_recorder.instruments import Instruments
from loopcast_recorder.lane import Thread


def settings_of(name, value):
    """Settings of a recorder with one sink."""
    fields = {place.removeprefix(PREFIX).lower() for place in PLACES.values()}
    return RecorderSettings(**{**dict.fromkeys(fields, "off"), PLACES[name].removeprefix(PREFIX).lower(): value})


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("sqlite", "/proc/nowhere/recorder.db"),
        ("jsonl", "/proc/nowhere"),
        ("socket", "/proc/nowhere/socket"),
        ("postgresql", "postgresql://me:s3cret@127.0.0.1:1/events"),
    ],
)
async def test_a_sink_that_fails_names_the_setting_that_its_place_stands_in(name, place):
    """Whichever kind of place it is, the line says what to correct, and shows no password."""
    settings, metrics = settings_of(name, place), Metrics("recorder", "0")
    made = (app._postgres(settings, metrics), app._socket(settings, metrics), *app._files(settings, metrics))
    (sink,) = filter(None, made)
    if name == "socket":
        sink.serve_in(asyncio.get_running_loop())

    with capture_logs() as lines:
        async with Thread(sink, Instruments(metrics, sink.name)) as thread:
            with pytest.raises(StorageError):
                await thread.call(lambda: sink.resume(0))

    (line,) = (line for line in lines if line["event"] == "sink_failing")
    assert (name, name) == (sink.name, line["sink"])
    assert PLACES[name] in line["hint"]
    assert "s3cret" not in repr(line)


@pytest.mark.parametrize("url", ["postgress://me:s3cret@db/events", "postgresql://me:s3cret@[db/events", "s3cret"])
def test_an_address_of_a_database_that_cannot_be_read_stops_the_start(url):
    """It would never work, and what reads it repeats it whole: the sentence shows an example instead."""
    with pytest.raises(ConfigurationError, match=r"LOOPCAST_RECORDER_POSTGRES .*postgresql://user:password@") as told:
        app.service_of(settings_of("postgresql", url))

    assert "s3cret" not in str(told.value)
