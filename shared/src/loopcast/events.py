"""
The event: a CloudEvent 1.0 in structured mode, with the loop's own object untouched as its `data`.

`data` is the last member of the envelope, which buys two things on the hot paths: the original object can be sliced
out (:func:`slice_data`) and an attribute spliced in (:func:`splice`) without parsing any JSON. Both rest on this: the
attributes before `data` are strings and integers, never objects, and a quote inside a JSON string is always escaped, so
the first `,"data":` is the member itself.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

import msgspec

from loopcast.errors import InvalidEvent
from loopcast.routing import check_experiment, check_type

__all__ = [
    "DEFAULT_TYPE",
    "MAX_EVENT_BYTES",
    "Event",
    "event_type",
    "format_time",
    "normalize_time",
    "one_line",
    "parse",
    "slice_data",
    "source_of",
    "splice",
    "to_microseconds",
]

MAX_EVENT_BYTES = 1024 * 1024
"""The default limit of an encoded event (`LOOPCAST_MAX_EVENT_BYTES`)."""

DEFAULT_TYPE = "message"
"""The type of an event that names none."""

_HEAD = b'{"specversion":"1.0",'
_DATA = b',"data":'
_MAX_ATTEMPT = 2**31 - 1
_MAX_SEQUENCE = 2**63 - 1
_SEQUENCE = re.compile(r"[0-9]{1,20}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z\Z")
_LITTLE_LOOPS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00\Z")
"""How little-loops writes it: nothing to convert."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NAMES = {
    "experiment": "experimentid",
    "run": "runid",
    "parent_run": "parentrunid",
    "recorded_time": "recordedtime",
}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=_NAMES):
    """One event, as it is published. The order of the fields is the order on the wire."""

    id: str
    """UUIDv7, made where the event was emitted, kept through every retry."""
    source: str
    """`/experiments/<experiment>/runs/<run>`, percent-encoded."""
    type: str
    """The event's own name: `state_enter`, `issue.completed`."""
    subject: str | None = None
    """The loop's name, where known."""
    time: str | None = None
    """The event's own time, else the time of emission: RFC 3339, UTC, `Z`."""
    experiment: str
    run: str
    attempt: int = 0
    """1, and one more for each resume; 0 where nobody counted."""
    parent_run: str | None = None
    recorded_time: str | None = None
    """When a producer took it: RFC 3339 in microseconds, never the same twice at one producer."""
    emitter: str | None = None
    """Who numbered it: 16 hexadecimal digits."""
    sequence: str | None = None
    """Its number among the events of (run, emitter): 20 digits."""
    traceparent: str | None = None
    """The caller's span (W3C Trace Context)."""
    tracestate: str | None = None
    """What tracing vendors add to it."""
    extra: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """Never on the wire under this name: attributes that this version doesn't know, as the members of an object."""
    data: msgspec.Raw
    """The loop's own object, as JSON, byte for byte as it came."""

    def encode(self) -> bytes:
        """The envelope as compact JSON, `data` last."""
        if self.extra is msgspec.UNSET:
            return _HEAD + _encoder.encode(self)[1:]
        plain = msgspec.structs.replace(self, extra=msgspec.UNSET)
        head, _, _ = (body := _encoder.encode(plain)).partition(_DATA)
        comma = b"," if bytes(self.extra) else b""
        return b"".join((_HEAD, head[1:], comma, bytes(self.extra), body[len(head) :]))

    @property
    def number(self) -> int | None:
        """`sequence` as a number."""
        return None if self.sequence is None else int(self.sequence)

    @property
    def recorded(self) -> int | None:
        """`recorded_time` in microseconds since 1970."""
        return None if self.recorded_time is None else to_microseconds(self.recorded_time)


_encoder = msgspec.json.Encoder()
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ATTRIBUTES = {f.encode_name for f in msgspec.structs.fields(Event)} - {"extra"}


def parse(body: bytes) -> Event:
    """
    Read a CloudEvent in structured mode.

    Attributes that this version does not know are kept, times come out in UTC, and line breaks between the tokens of
    `data` are left out.

    Raises:
        InvalidEvent: it is not JSON in UTF-8, not a CloudEvent 1.0, an attribute is missing, of the wrong type or out
            of its range, or the experiment or type breaks its grammar.
    """
    try:
        if not body.isascii():
            # A msgspec.Raw is skipped over, and its strings may hold any bytes.
            body.decode()
        members = _members.decode(body)
        known = {n: r if n == "data" else msgspec.json.decode(r) for n, r in members.items() if n in _ATTRIBUTES}
        version = msgspec.json.decode(members.get("specversion", b"null"))
        # An attribute that is null is one that is not there (CloudEvents JSON format 1.0.2, 2.2).
        event = msgspec.convert({n: v for n, v in known.items() if v is not None}, Event)
        data = one_line(event.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"This is no CloudEvent: {error}.") from None
    if version != "1.0":
        raise InvalidEvent('This is no CloudEvent 1.0: "specversion" must be "1.0".')
    _check(event)
    return msgspec.structs.replace(
        event,
        data=data,
        extra=_extra(members) or msgspec.UNSET,
        time=None if event.time is None else _utc(event.time),
        recorded_time=None if event.recorded is None else format_time(event.recorded),
    )


def _check(event: Event) -> None:
    check_experiment(event.experiment)
    check_type(event.type, coerced=True)
    check_experiment(event.run, what="run id")
    # An id travels as `message_id`, a short string (AMQP 0-9-1, 4.2.5.3): the rule of experiment ids fits it too.
    check_experiment(event.id, what="event id")
    if not event.source:
        raise InvalidEvent('"source" is empty.')
    if not 0 <= event.attempt <= _MAX_ATTEMPT:
        raise InvalidEvent(f'"attempt" must be 0 to {_MAX_ATTEMPT} (CloudEvents 1.0, "Integer").')
    if event.emitter is not None:
        check_experiment(event.emitter, what="emitter")
    # In its header the number is a signed 64-bit integer.
    if event.sequence is not None and not (_SEQUENCE.match(event.sequence) and int(event.sequence) <= _MAX_SEQUENCE):
        raise InvalidEvent(f'"sequence" must be at most 20 digits and {_MAX_SEQUENCE}, not {event.sequence[:40]!r}.')


def _utc(time: str) -> str:
    """`time` as it is where it is RFC 3339 in UTC, else the same moment written so."""
    if _TIME.match(time):
        to_microseconds(time)
        return time
    normal = normalize_time(time)
    if normal is None:
        raise InvalidEvent(f'"time" is no time as RFC 3339 writes it: {time[:40]!r}.')
    return normal


def _extra(members: Mapping[str, msgspec.Raw]) -> msgspec.Raw | None:
    strangers = [name for name in members if name not in _ATTRIBUTES and name != "specversion"]
    for name in strangers:
        if bytes(members[name])[:1] in (b"{", b"["):
            raise InvalidEvent(f"The attribute {name[:40]!r} is an object or array; CloudEvents attributes never are.")
    if not strangers:
        return None
    return msgspec.Raw(b",".join(_encoder.encode(n) + b":" + bytes(members[n]) for n in strangers))


def one_line(data: msgspec.Raw) -> msgspec.Raw:
    """`data` itself, or without its white space where it has line breaks, which would break NDJSON and SSE frames."""
    raw = bytes(data)
    if b"\n" not in raw and b"\r" not in raw:
        return data
    return msgspec.Raw(msgspec.json.format(raw, indent=-1))


def slice_data(body: bytes) -> bytes:
    """
    The original object out of an encoded event, without parsing.

    Raises:
        InvalidEvent: `body` was not encoded by :meth:`Event.encode`.
    """
    start = body.find(_DATA)
    if start < 0:
        raise InvalidEvent("This event has no data member.")
    return body[start + len(_DATA) : -1]


def splice(body: bytes, members: bytes) -> bytes:
    """
    Put `members` (`"name":value`, joined by commas) in front of the data of an encoded event, without parsing.

    Raises:
        InvalidEvent: `body` was not encoded by :meth:`Event.encode`.
    """
    start = body.find(_DATA)
    if start < 0:
        raise InvalidEvent("This event has no data member.")
    return b"".join((body[:start], b",", members, body[start:]))


def event_type(data: Mapping[str, object]) -> str:
    """The type that an object names: its `event`, else its `type`, else `message`. Not checked against the grammar."""
    for name in ("event", "type"):
        value = data.get(name)
        if isinstance(value, str) and value:
            return value
    return DEFAULT_TYPE


@lru_cache(maxsize=4096)
def source_of(experiment: str, run: str) -> str:
    """The CloudEvents `source` of a run, percent-encoded (RFC 3986, 2.1)."""
    return f"/experiments/{quote(experiment, safe='')}/runs/{quote(run, safe='')}"


def normalize_time(ts: object) -> str | None:
    """
    An event's own `ts` as RFC 3339 in UTC with `Z`, or None where it is no time.

    ISO 8601 text is read (without a zone it is UTC, as little-loops means it), and so are Unix seconds and datetimes.
    """
    try:
        if isinstance(ts, str):
            moment = dt.datetime.fromisoformat(ts)
            if _LITTLE_LOOPS.match(ts):
                return ts[:26] + "Z"
        elif isinstance(ts, int | float) and not isinstance(ts, bool):
            moment = dt.datetime.fromtimestamp(ts, dt.UTC)
        elif isinstance(ts, dt.datetime):
            moment = ts
        else:
            return None
        moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return _format(moment)


def format_time(microseconds: int) -> str:
    """Microseconds since 1970 as RFC 3339 in UTC, always with six digits, so that it sorts as text."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """Every event is stamped, and thousands in the same second."""
    return (_EPOCH + dt.timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def to_microseconds(time: str) -> int:
    """
    RFC 3339 text as microseconds since 1970.

    Raises:
        InvalidEvent: it is no time, or says nothing of its zone.
    """
    try:
        # There and back: a time in another zone can lie outside the years that a datetime has in UTC.
        since = _EPOCH + (dt.datetime.fromisoformat(time) - _EPOCH) - _EPOCH
    except (ValueError, TypeError, OverflowError):
        raise InvalidEvent(f"{time[:40]!r} is no time in UTC as RFC 3339 writes it.") from None
    # Put together from its parts: a division of timedeltas costs as much as all the rest.
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _format(moment: dt.datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
