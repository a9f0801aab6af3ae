"""
From the bytes of a request's body to raw items, one per event: what shape it has, unpacking, splitting.

Pure and incremental: bytes in, items out. An item stays exactly the bytes that were sent; whether it is an event is
:mod:`~loopcast_producer.envelopes`' question.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator

import msgspec

from loopcast_producer.problems import (
    body_cut_off,
    body_too_large,
    not_json,
    too_many_items,
    unsupported_encoding,
    unsupported_type,
)
from loopcast_producer.remembered import remembered

__all__ = [
    "MAX_ITEMS",
    "Gunzip",
    "Lines",
    "OverlongLine",
    "Shape",
    "is_gzip",
    "shape_of",
    "single_or_array",
    "split_array",
]

MAX_ITEMS = 100_000
"""Events in one array."""

MAX_COMMAS = 2_000_000
"""An array of nothing but commas and digits would take fifty times its size in memory once split: this is looked at
before."""

MAX_RATIO = 200
"""How many bytes one compressed byte may become, beyond the first MiB; events become 5 to 20 (measured)."""

FREE_BYTES = 1024 * 1024
STEP_BYTES = 256 * 1024

BOM = b"\xef\xbb\xbf"
WHITE = b" \t\r\n"


class Shape(enum.Enum):
    """What a body holds."""

    JSON = "application/json"
    """A loop's event, or an array of them."""
    NDJSON = "application/x-ndjson"
    """A loop's event in each line."""
    CLOUDEVENT = "application/cloudevents+json"
    """A CloudEvent in structured mode."""
    CLOUDEVENTS = "application/cloudevents-batch+json"
    """An array of CloudEvents."""

    @property
    def cloudevents(self) -> bool:
        """Whether the items are CloudEvents."""
        return self in (Shape.CLOUDEVENT, Shape.CLOUDEVENTS)


_SHAPES = {shape.value: shape for shape in Shape} | {
    "": Shape.JSON,
    "application/ndjson": Shape.NDJSON,
    "application/jsonl": Shape.NDJSON,
    "application/x-jsonlines": Shape.NDJSON,
}


@remembered
def shape_of(content_type: str) -> Shape:
    """
    The shape that a Content-Type says; without one it is JSON.

    Raises:
        Refusal: 415, the type is not taken, or the text is in something other than UTF-8.
    """
    kind, _, parameters = content_type.partition(";")
    shape = _SHAPES.get(kind.strip().lower())
    charset = next(
        (value.strip(' "').lower() for name, _, value in _parameters(parameters) if name == "charset"), "utf-8"
    )
    if shape is None or charset not in ("utf-8", "utf8", "us-ascii"):
        raise unsupported_type(content_type[:100], ", ".join(shape.value for shape in Shape))
    return shape


def _parameters(text: str) -> Iterator[tuple[str, str, str]]:
    for parameter in text.split(";"):
        name, equals, value = parameter.partition("=")
        yield name.strip().lower(), equals, value


def is_gzip(content_encoding: str) -> bool:
    """
    Whether the body is compressed.

    Raises:
        Refusal: 415, in a way that is not taken.
    """
    match content_encoding.strip().lower():
        case "" | "identity":
            return False
        case "gzip" | "x-gzip":
            return True
    raise unsupported_encoding(content_encoding[:100])


class Gunzip:
    """
    Unpacks gzip (RFC 1952, several members too) a step at a time, and stops at what only a bomb does.

    `limit` bounds the unpacked bytes; None leaves the ratio as the only bound.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._unpack = zlib.decompressobj(wbits=31)
        self._packed = 0
        self._unpacked = 0
        self._begun = False

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """
        Unpack what came, in pieces of a bounded size.

        Raises:
            Refusal: 413, this is a bomb; 400, this is no gzip.
        """
        self._packed += len(packed)
        while packed:
            self._begun = True
            try:
                piece = self._unpack.decompress(packed, STEP_BYTES)
            except zlib.error as error:
                raise body_cut_off(f"The body is not gzip as Content-Encoding says: {error}.") from None
            self._count(len(piece))
            if piece:
                yield piece
            # At a member's end zlib may still show what it had not consumed before; what follows is in unused_data.
            packed = self._next_member() if self._unpack.eof else self._unpack.unconsumed_tail

    def finish(self) -> None:
        """
        Say that nothing more comes.

        Raises:
            Refusal: 400, the end is missing.
        """
        if self._begun and not self._unpack.eof:
            raise body_cut_off("The compressed body ends in the middle: it was cut off on its way. Send it again.")

    def _next_member(self) -> bytes:
        rest = self._unpack.unused_data
        if rest:
            self._unpack = zlib.decompressobj(wbits=31)
        return rest

    def _count(self, size: int) -> None:
        self._unpacked += size
        allowed = max(FREE_BYTES, self._packed * MAX_RATIO)
        limit = allowed if self._limit is None else min(allowed, self._limit)
        if self._unpacked > limit:
            raise body_too_large(limit, unpacked=True)


class OverlongLine:
    """Stands for a line that was over the limit; its bytes were thrown away as they came."""


class Lines:
    """Splits NDJSON as it comes, holding one unfinished line of at most `limit` bytes. Empty lines are no items."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # One array and not the pieces: what comes two bytes at a time would take twenty times its size.
        self._rest = bytearray()
        self._size = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes | OverlongLine]:
        """The lines that `chunk` completes."""
        *complete, rest = chunk.split(b"\n")
        items: list[bytes | OverlongLine] = []
        for end in complete:
            self._complete(end, items)
        self._size += len(rest)
        if self._size > self._limit:
            self._rest.clear()
        else:
            self._rest += rest
        return items

    def finish(self) -> list[bytes | OverlongLine]:
        """The last line, where it has no line break."""
        items: list[bytes | OverlongLine] = []
        self._complete(b"", items)
        return items

    def _complete(self, end: bytes, items: list[bytes | OverlongLine]) -> None:
        if self._size + len(end) > self._limit:
            items.append(OverlongLine())
        elif line := (b"".join((self._rest, end)) if self._size else end).strip(WHITE):
            items.append(line.removeprefix(BOM) if self._first else line)
        self._rest.clear()
        self._size = 0
        self._first = False


def single_or_array(body: bytes, shape: Shape) -> bytes | list[bytes]:
    """
    The one item that a body of `shape` is, or the items that it holds.

    Raises:
        Refusal: 400, it is empty or no JSON array; 413, it has too many items.
    """
    body = body.removeprefix(BOM).strip(WHITE)
    if not body:
        raise not_json('The body is empty: send an event such as {"event": "loop_start"}.')
    if shape is Shape.CLOUDEVENTS or (shape is Shape.JSON and body[:1] == b"["):
        return split_array(body)
    return body


_array = msgspec.json.Decoder(list[msgspec.Raw])


def split_array(body: bytes) -> list[bytes]:
    """
    The items of a JSON array, as they stand.

    Raises:
        Refusal: 400, this is no JSON array; 413, it has too many items.
    """
    if body.count(b",") > MAX_COMMAS:
        raise too_many_items(MAX_ITEMS)
    try:
        items = _array.decode(body)
    except msgspec.ValidationError:
        raise not_json("The body must be a JSON array of events: [{...}, {...}].") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_json(f"{error}.") from None
    except RecursionError:
        raise not_json("The body nests objects or arrays too deep to be read.") from None
    if len(items) > MAX_ITEMS:
        raise too_many_items(MAX_ITEMS)
    return [bytes(item) for item in items]
