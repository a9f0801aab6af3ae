"""`POST /v1/experiments/{experiment}/runs/{run}/heartbeat`: an open run's process says that it lives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import unquote_to_bytes

import msgspec

from loopcast.broker.publisher import Publisher
from loopcast.errors import InvalidEvent, InvalidExperiment
from loopcast.pulse import Pulse, to_message
from loopcast.routing import partition_of
from loopcast_producer.envelopes import Origin
from loopcast_producer.incoming import Incoming
from loopcast_producer.numbering import RecordingClock
from loopcast_producer.problems import invalid_event, not_json
from loopcast_producer.remembered import remembered

__all__ = ["Heartbeats", "is_heartbeat", "origin_of"]

MAX_BYTES = 4096
"""What the body may have: three short members."""

_PATH = re.compile(rb"/v1/experiments/([^/]*)/runs/([^/]*)/heartbeat\Z")


class _Body(msgspec.Struct):
    # A float, because 4711.0 is an integer too (RFC 8259, 6).
    pid: Annotated[float, msgspec.Meta(ge=0, le=2**31)] = 0
    host: str = ""
    emitter: str = ""


_decode = msgspec.json.Decoder(_Body).decode


@remembered
def is_heartbeat(path: bytes) -> bool:
    """Whether heartbeats are posted to this address, as the request line has it."""
    return _PATH.match(path) is not None


def origin_of(path: bytes) -> Origin:
    """
    The experiment and run that a heartbeat's address names.

    Raises:
        Refusal: 422, one of them is none.
    """
    match = _PATH.match(path)
    assert match is not None
    try:
        experiment, run = (unquote_to_bytes(part).decode() for part in match.groups())
        return Origin(experiment=experiment, run=run).checked()
    except UnicodeDecodeError:
        error = InvalidExperiment("The experiment or run id in the path is not percent-encoded UTF-8.")
        raise invalid_event(error) from None
    except InvalidEvent as error:
        raise invalid_event(error) from None


class Heartbeats:
    """
    Puts heartbeats into the log, confirmed as events are.

    Args:
        publisher: for nothing else: straight to a stream goes what a user may not be permitted to, and a refusal ends
            the connection, which must not be the events'.
        streams: of the log, by partition.
        clock: of `recordedtime`.
        seconds: how long a confirm may take.
    """

    def __init__(self, publisher: Publisher, streams: Sequence[str], clock: RecordingClock, *, seconds: float) -> None:
        self._publisher = publisher
        self._streams = streams
        self._clock = clock
        self._seconds = seconds

    async def take(self, origin: Origin, incoming: Incoming) -> None:
        """
        Take the one of a request.

        Raises:
            Refusal: its body is none.
            BrokerError: it was not confirmed. Nobody need send it again: the next one says the same.
        """
        pulse = _pulse(origin, await incoming.whole(MAX_BYTES))
        stream = self._streams[partition_of(pulse.experiment, len(self._streams))]
        await self._publisher.publish([to_message(pulse, stream, self._clock.now())], timeout=self._seconds)


def _pulse(origin: Origin, body: bytes) -> Pulse:
    try:
        told = _decode(body or b"{}")
    except msgspec.ValidationError as error:
        what = InvalidEvent(f'A heartbeat is {{"pid": 1, "host": "name", "emitter": "16 digits"}}: {error}.')
        raise invalid_event(what) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(f"The heartbeat is not JSON: {error}.") from None
    return Pulse(
        experiment=origin.experiment or "",
        run=origin.run or "",
        pid=int(told.pid),
        host=told.host[:255],
        emitter=told.emitter[:255],
        recordedtime="",
    )
