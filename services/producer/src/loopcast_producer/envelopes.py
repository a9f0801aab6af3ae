"""
From a raw item and a request's headers to an event: the pure rules of what is an event, whose, and of which run.

Two manners. On `/v1/experiments/<experiment>/events` what breaks the grammar is refused with a sentence; on
`/v1/events`, where each event names its own experiment and its sender may not listen, it is made to fit.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from array import array
from collections.abc import Mapping
from itertools import accumulate

import msgspec

from loopcast.errors import EventTooLarge, InvalidEvent, InvalidExperiment
from loopcast.events import Event, event_type, normalize_time, one_line, parse, source_of
from loopcast.ids import uuid7
from loopcast.routing import MAX_EXPERIMENT_BYTES, NOWHERE, check_experiment, check_type, coerce_type
from loopcast.runs import source_run
from loopcast_producer.remembered import remembered

__all__ = ["MAX_DEPTH", "NotJson", "Origin", "cloudevent", "coerce_experiment", "derived_id", "loop_event", "too_large"]

MAX_DEPTH = 200
"""How deep an event may nest objects and arrays: JSON parsers of readers stop at a thousand, some earlier."""

MAX_DIGITS = 4300
"""How long an integer may be: Python parses no longer one (`sys.int_info.default_max_str_digits`)."""

MAX_SUBJECT = 255
KEPT_OF_A_LONG_ID = 200

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One deeper, and one back, as signed bytes."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_STRIDE = MAX_DIGITS // 8
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{%d,}+(?![.eE])" % (MAX_DIGITS + 1))
_EMITTER = re.compile(r"[0-9a-f]{16}\Z")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
_ATTRIBUTE = re.compile(r"[a-z0-9]+\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@remembered
def _source_run(of: tuple[str, str]) -> str:
    """The run of an experiment's events from one source."""
    return source_run(*of)


class NotJson(InvalidEvent):
    """The item is no JSON text at all, or none that a reader could parse."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about all of its events."""

    experiment: str | None = None
    """From the path; None where each event names its own."""
    run: str | None = None
    """`Loopcast-Run`."""
    source: str = ""
    """`Loopcast-Source`."""
    traceparent: str | None = None
    tracestate: str | None = None
    key: str | None = None
    """`Idempotency-Key`."""

    def checked(self) -> Origin:
        """
        The same, if it can be.

        Raises:
            InvalidExperiment: the experiment or the run is none.
        """
        if self.experiment is not None:
            check_experiment(self.experiment)
            if self.experiment == NOWHERE:
                raise InvalidExperiment(f"The experiment id {NOWHERE} is reserved for events that name none.")
        if self.run is not None:
            check_experiment(self.run, what="run id (Loopcast-Run)")
        return self


class _Head(msgspec.Struct):
    """What is looked at in a loop's own event. Everything else is stepped over, never parsed."""

    event: str = ""
    type: str = ""
    ts: str | float | None = None
    timestamp: str | float | None = None
    loop: str = ""
    loop_name: str = ""
    experiment_id: str | int | None = None


class _RawHead(msgspec.Struct):
    """The same for an event that uses these names for something else."""

    event: msgspec.Raw = msgspec.Raw(b"null")
    type: msgspec.Raw = msgspec.Raw(b"null")
    ts: msgspec.Raw = msgspec.Raw(b"null")
    timestamp: msgspec.Raw = msgspec.Raw(b"null")
    loop: msgspec.Raw = msgspec.Raw(b"null")
    loop_name: msgspec.Raw = msgspec.Raw(b"null")
    experiment_id: msgspec.Raw = msgspec.Raw(b"null")


_head = msgspec.json.Decoder(_Head)
_raw_head = msgspec.json.Decoder(_RawHead)


def loop_event(raw: bytes, origin: Origin, index: int, *, max_bytes: int) -> Event:
    """
    The event that carries a loop's own object `raw`, item `index` of its request. It has no number yet.

    Raises:
        InvalidEvent: it is no JSON object, its type or experiment breaks the grammar, or it is too large.
    """
    head = _read_head(raw, max_bytes)
    experiment, type_ = origin.experiment, event_type({"event": head.event, "type": head.type})
    if experiment is None:
        experiment = NOWHERE if head.experiment_id is None else coerce_experiment(str(head.experiment_id))
        type_ = coerce_type(type_)
    else:
        check_type(type_)
    run = origin.run or _source_run((experiment, origin.source))
    return Event(
        id=uuid7() if origin.key is None else derived_id(origin, experiment, index),
        source=source_of(experiment, run),
        type=type_,
        subject=(head.loop or head.loop_name)[:MAX_SUBJECT] or None,
        time=normalize_time(head.ts if head.ts is not None else head.timestamp),
        experiment=experiment,
        run=run,
        traceparent=origin.traceparent,
        tracestate=origin.tracestate,
        data=one_line(msgspec.Raw(raw)),
    )


def _read_head(raw: bytes, max_bytes: int) -> _Head:
    _check_size(raw, max_bytes)
    try:
        head = _head.decode(raw)
    except msgspec.ValidationError as error:
        if raw[:1] != b"{":
            raise InvalidEvent(f'An event is a JSON object such as {{"event": "loop_start"}}: {error}.') from None
        head = _read_odd_head(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(_why_no_json(error)) from None
    except RecursionError:
        raise _too_deep() from None
    _check_text(raw)
    _check_numbers(raw)
    return head


def _read_odd_head(raw: bytes) -> _Head:
    """Read the names whose values have the right type, and take the others as not there."""
    # The first decoder stopped at a value of another type: what comes behind that nobody has read yet.
    try:
        fields = _raw_head.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(_why_no_json(error)) from None
    except RecursionError:
        raise _too_deep() from None
    values: dict[str, object] = {}
    for name in _Head.__struct_fields__:
        value = bytes(getattr(fields, name))
        if value[:1] not in b"{[ntf":
            values[name] = _scalar(value)
    known = {
        name: value
        for name, value in values.items()
        if isinstance(value, str) or name in ("ts", "timestamp") or (name == "experiment_id" and value is not None)
    }
    if isinstance(number := known.get("experiment_id"), float):
        known["experiment_id"] = repr(number)
    return msgspec.convert(known, _Head)


def _scalar(value: bytes) -> object:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def too_large(limit: int) -> EventTooLarge:
    """What is wrong with an event of more than `limit` bytes."""
    return EventTooLarge(
        f"The event has more than {limit:,} bytes (LOOPCAST_MAX_EVENT_BYTES): keep large content elsewhere and send a "
        "reference to it."
    )


def _check_size(raw: bytes, max_bytes: int) -> None:
    if len(raw) > max_bytes:
        raise too_large(max_bytes)


def _check_text(raw: bytes) -> None:
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            raise NotJson(f"The event is not UTF-8: {error.reason} at byte {error.start}.") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise _too_deep()


def _check_numbers(raw: bytes) -> None:
    # Eight in a row of every so many bytes are digits where there is such a number: that costs next to nothing to see.
    if len(raw) <= MAX_DIGITS or b"0" * 8 not in raw[::_STRIDE].translate(_AS_ZEROS):
        return
    if _LONG_INTEGER.search(_STRING.sub(b'""', raw)):
        raise NotJson(
            f"The event has an integer of more than {MAX_DIGITS:,} digits, too long for readers: send it as a string."
        )


def _depth(raw: bytes) -> int:
    # No loop of our own: an event of a MiB may be nothing but brackets, and nobody else is served meanwhile.
    steps = _STRING.sub(b"", raw).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(array("b", steps)), default=0)


def _too_deep() -> NotJson:
    return NotJson(f"The event nests objects or arrays deeper than {MAX_DEPTH} levels, too deep for readers.")


def _why_no_json(error: Exception) -> str:
    # msgspec says so of half a surrogate pair, which is legal JSON but no text that UTF-8 can hold.
    if str(error) == "Input data was truncated":
        return "The event ends in the middle, or has half of a surrogate pair (\\ud800): no complete JSON."
    return f"The event is not JSON: {error}."


def derived_id(origin: Origin, experiment: str, index: int) -> str:
    """
    The id of item `index` of a request with an `Idempotency-Key`: the same whenever it is sent again.

    Of the event's own `experiment`, wherever it is named: two of them may use the same keys.
    """
    return _hashed(experiment, origin.run or "", origin.source, origin.key or "", str(index))


def _hashed(*parts: str) -> str:
    """A UUID that is a function of `parts`."""
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).digest()
    # Version 8: "vendor-specific", which is what a hash of our own choice is (RFC 9562, 5.8).
    return str(uuid.UUID(int=int.from_bytes(digest[:16]) & ~(0xF << 76 | 0x3 << 62) | 8 << 76 | 2 << 62))


def coerce_experiment(experiment: str) -> str:
    """
    Make an experiment id of anything: control characters and lone surrogates become `%XX`, nothing becomes `~`.

    What is too long is cut and gets a hash of all of it, so that two long ids stay two.
    """
    raw = experiment.encode("utf-8", "surrogatepass")
    text = _UNPRINTABLE.sub(_escaped, experiment[: MAX_EXPERIMENT_BYTES + 1])
    if len(raw) > MAX_EXPERIMENT_BYTES or len(text.encode()) > MAX_EXPERIMENT_BYTES:
        kept = text.encode()[:KEPT_OF_A_LONG_ID].decode("utf-8", "ignore")
        text = f"{kept}~{hashlib.sha256(raw).hexdigest()[:26]}"
    return text or NOWHERE


def _escaped(character: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in character[0].encode("utf-8", "surrogatepass"))


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def cloudevent(raw: bytes, origin: Origin, *, max_bytes: int) -> Event:
    """
    The event that a CloudEvent is, its attributes kept, those of ours that it lacks filled in. Numbered or not.

    An id that is no UUID is unique within its source only (CloudEvents 1.0, "id"), and readers know an event by its id
    alone: it becomes one that is derived from both, the same for every retry, and stays as `originalid`.

    Raises:
        InvalidEvent: it is no CloudEvent 1.0 with JSON data, or breaks a grammar, or names another experiment than the
            path, or is too large.
    """
    _check_size(raw, max_bytes)
    event = parse(_completed(raw, origin))
    _check_text(bytes(event.data))
    _check_numbers(raw)
    if origin.experiment not in (None, event.experiment):
        raise InvalidExperiment(
            f"The event is of experiment {event.experiment[:60]!r} and was sent to {origin.experiment!r}: post it to "
            "its own, or to /v1/events."
        )
    if event.emitter is not None and _EMITTER.match(event.emitter) is None:
        raise InvalidEvent(f'"emitter" must be 16 hexadecimal digits, not {event.emitter[:40]!r}.')
    if event.traceparent is None and origin.traceparent is not None:
        event = msgspec.structs.replace(event, traceparent=origin.traceparent, tracestate=origin.tracestate)
    return event if _UUID.match(event.id) else _with_unique_id(event)


def _with_unique_id(event: Event) -> Event:
    original = b'"originalid":' + msgspec.json.encode(event.id)
    extra = original if event.extra is msgspec.UNSET else bytes(event.extra) + b"," + original
    return msgspec.structs.replace(
        event, id=_hashed(event.experiment, event.source, event.id), extra=msgspec.Raw(extra)
    )


def _completed(raw: bytes, origin: Origin) -> bytes:
    """`raw` with what a stranger's CloudEvent lacks of ours."""
    try:
        members = _members.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidEvent(f"A CloudEvent is a JSON object: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(_why_no_json(error)) from None
    except RecursionError:
        raise _too_deep() from None
    _check_attributes(members)
    missing = _missing(members, origin)
    return raw if not missing else msgspec.json.encode({**members, **missing})


def _check_attributes(members: Mapping[str, msgspec.Raw]) -> None:
    if "data_base64" in members:
        raise InvalidEvent('"data_base64" is not taken: an event\'s data is JSON, in "data".')
    for name in members:
        if _ATTRIBUTE.match(name) is None:
            raise InvalidEvent(
                f"{name[:40]!r} cannot be an attribute: lower-case letters and digits only (CloudEvents 1.0, "
                '"Naming conventions"). Send a loop\'s own event as application/json, not as a CloudEvent.'
            )


def _missing(members: Mapping[str, msgspec.Raw], origin: Origin) -> dict[str, object]:
    """What has to be put in or replaced; an attribute that is null is one that is not there (JSON format, 2.2)."""
    missing: dict[str, object] = {} if "data" in members else {"data": None}
    given = _attribute(members, "experimentid")
    experiment = given or origin.experiment or NOWHERE
    if origin.experiment is None:
        experiment = coerce_experiment(experiment)
        type_ = _attribute(members, "type")
        if type_ is not None and coerce_type(type_) != type_:
            missing["type"] = coerce_type(type_)
    if experiment != given:
        missing["experimentid"] = experiment
    if _attribute(members, "runid") is None:
        source = origin.source or _attribute(members, "source") or ""
        missing["runid"] = origin.run or _source_run((experiment, source))
    return missing


def _attribute(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    value = _scalar(bytes(members[name])) if name in members else None
    return value if isinstance(value, str) else None
