"""
Field tables, the form of headers on the wire (AMQP 0-9-1, 4.2.5.5).

The types are RabbitMQ's, which differ (https://www.rabbitmq.com/amqp-0-9-1-errata#section_3). Own code instead of
pamqp's because there is one table in every message. A table is read when somebody asks for a header, not before, and
reading never fails: the broker passes on what strangers publish without looking into it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from loopcast.broker.interface import HeaderValue

__all__ = ["Headers", "decode_table", "encode_table", "short_string"]

_U32 = struct.Struct(">I")
_INT = struct.Struct(">cq")
_KIND_OF_INT: Final = b"l"
_STRING: Final = ord("S")

# The kinds that a header may hold, `S` aside, with the byte for the kind in front.
_VALUES: dict[int, struct.Struct] = {
    ord("t"): struct.Struct(">x?"),
    ord("b"): struct.Struct(">xb"),
    ord("B"): struct.Struct(">xB"),
    ord("s"): struct.Struct(">xh"),
    ord("u"): struct.Struct(">xH"),
    ord("I"): struct.Struct(">xi"),
    ord("i"): struct.Struct(">xI"),
    ord("l"): struct.Struct(">xq"),
    ord("L"): struct.Struct(">xQ"),
}
# Kinds that are left out, and how long they are: times, fractions, tables, arrays, bytes.
_FIXED = {ord("T"): 8, ord("f"): 4, ord("d"): 8, ord("D"): 5}
_PREFIXED = frozenset(b"FAx")
_VOID = frozenset(b"V\x00")

_NAMES_KEPT = 1024
_names: dict[bytes, str] = {}
_heads: dict[str, bytes] = {}
# Entries whose value is a text, whole: an experiment, a run or an emitter stands in message after message.
_ENTRIES_KEPT = 4096
_ENTRY_CHARACTERS = 300
_entries: dict[tuple[str, str], bytes] = {}


class Headers(Mapping[str, HeaderValue]):
    """The headers of a delivery, read from `raw` when first asked for."""

    __slots__ = ("_raw", "_values")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._values: dict[str, HeaderValue] | None = None

    def _read(self) -> dict[str, HeaderValue]:
        values = self._values = decode_table(self._raw)
        return values

    def __getitem__(self, name: str) -> HeaderValue:
        return (self._values or self._read())[name]

    def get(self, name: str, default: HeaderValue = None) -> HeaderValue:  # type: ignore[override]
        """Return the header `name`, else `default`."""
        # Mapping's own goes by way of an exception where there is none.
        return (self._values or self._read()).get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values or self._read())

    def __len__(self) -> int:
        return len(self._values or self._read())

    def __repr__(self) -> str:
        return repr(self._values or self._read())


def decode_table(raw: bytes) -> dict[str, HeaderValue]:
    """
    Read the entries of a table, without its length in front, leaving out what a header may not hold.

    A table that is broken reads as what is whole before the fault.
    """
    values: dict[str, HeaderValue] = {}
    position, end = 0, len(raw)
    try:
        while position < end:
            start = position + 1
            position = start + raw[position]
            name = _names.get(raw[start:position]) or _name(raw[start:position])
            if raw[position] == _STRING:
                start = position + 5
                position = start + _U32.unpack_from(raw, position + 1)[0]
                if position <= end:
                    values[name] = raw[start:position].decode("utf-8", "replace")
            else:
                position = _decode_other(raw, position, name, values)
    except (IndexError, struct.error):
        pass
    return values


def _decode_other(raw: bytes, position: int, name: str, values: dict[str, HeaderValue]) -> int:
    """Read the value whose kind is at `position`, and return where the next entry begins."""
    kind = raw[position]
    layout = _VALUES.get(kind)
    if layout is not None:
        values[name] = layout.unpack_from(raw, position)[0]
        return position + layout.size
    if kind in _VOID:
        values[name] = None
        return position + 1
    if kind in _PREFIXED:
        size: int = _U32.unpack_from(raw, position + 1)[0]
        return position + 5 + size
    # An unknown kind has an unknown length: nothing behind it can be read.
    return position + 1 + _FIXED.get(kind, len(raw))


def _name(raw: bytes) -> str:
    name = raw.decode("utf-8", "replace")
    if len(_names) < _NAMES_KEPT:
        _names[raw] = name
    return name


def encode_table(headers: Mapping[str, HeaderValue]) -> bytes:
    """
    Write a table with its length in front, in the order of `headers`.

    Raises:
        ValueError: a name is over 255 bytes, a number over 64 bits, or a text has a lone surrogate.
        TypeError: a value is none that a header may hold.
    """
    parts = []
    for name, value in headers.items():
        # By type and not by isinstance: a bool is an int.
        if type(value) is str:
            parts.append(_entries.get((name, value)) or _entry(name, value))
        else:
            parts.append((_heads.get(name) or _head(name)) + _encode_other(name, value))
    entries = b"".join(parts)
    return _U32.pack(len(entries)) + entries


def _entry(name: str, value: str) -> bytes:
    entry = (_heads.get(name) or _head(name)) + _encode_other(name, value)
    if len(value) <= _ENTRY_CHARACTERS:
        if len(_entries) >= _ENTRIES_KEPT:
            _entries.clear()
        _entries[name, value] = entry
    return entry


def _encode_other(name: str, value: HeaderValue) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return _INT.pack(_KIND_OF_INT, value)
        except struct.error:
            raise ValueError(f"The header {name} has a number of more than 64 bits: {value}.") from None
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, str):
        raw = value.encode()
        return b"S" + _U32.pack(len(raw)) + raw
    raise TypeError(f"The header {name} must be text, a whole number, a boolean or None, not {type(value).__name__}.")


def _head(name: str) -> bytes:
    head = short_string(name)
    if len(_heads) < _NAMES_KEPT:
        _heads[name] = head
    return head


def short_string(text: str) -> bytes:
    """
    Write a text of at most 255 bytes, with its length in front (AMQP 0-9-1, 4.2.5.3).

    Raises:
        ValueError: it is longer, or has a lone surrogate.
    """
    raw = text.encode()
    if len(raw) > 255:
        raise ValueError(f"AMQP has room for 255 bytes here, and this has {len(raw)}: {text[:40]!r}…")
    return bytes((len(raw),)) + raw
