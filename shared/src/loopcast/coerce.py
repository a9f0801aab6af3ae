"""
Any dict is an event: JSON of whatever a program hands over, and a count of what had to be changed for it.

Nobody hears a refusal in the middle of an agent's loop, so nothing is refused: what JSON lacks becomes the nearest that
it has. NaN and the infinities become null, sets and NumPy's arrays lists, dataclasses objects, paths, dates, UUIDs,
decimals and bytes text, keys that are no strings their text, lone surrogates U+FFFD, and anything else its `repr`. A
dict in itself, or too deep a nest, becomes a marker. The count is of values and keys changed; 0 says that the JSON
means what the dict did (tuples are lists, subclasses of the plain types their plain type).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import os
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Set
from typing import Any

import msgspec

__all__ = ["MAX_DEPTH", "encode"]

MAX_DEPTH = 100
"""How deep objects and arrays may nest: well below what any reader's JSON parser takes."""

MAX_REPR = 2000
"""How much is kept of the `repr` of what JSON has no place for."""

_KEYS = frozenset((str,))
_EXACT = frozenset((str, int, bool, type(None)))
_CONTAINERS = frozenset((dict, list, tuple))
_dumps = msgspec.json.Encoder().encode


def encode(event: object) -> tuple[bytes, int]:
    """`event` as compact JSON in one line, and how many of its values and keys were changed. Never raises."""
    try:
        body = _dumps(event)
        if type(event) is dict and _is_plain(event, 0):
            return body, 0
    except Exception:  # noqa: BLE001, S110 - the slow way below says what was wrong with it
        pass
    coercion = _Coercion()
    try:
        return _dumps(coercion.value(event, 0)), coercion.count
    except Exception:  # noqa: BLE001 - at the end of the stack even this module's own calls can fail
        return b'{"unencodable":true}', 1


def _is_plain(container: Any, depth: int) -> bool:
    """
    Whether what msgspec wrote of it says what it did.

    msgspec writes NaN as null, and takes sets, bytes, datetimes and numbers as keys, without a word. The loops over a
    container that has no others in it, which nearly every event is, are in C.
    """
    items = container
    if type(container) is dict:
        if not _KEYS.issuperset(map(type, container)):
            return False
        items = container.values()
    return _EXACT.issuperset(map(type, items)) or (depth < MAX_DEPTH and all(_is_plain_item(i, depth) for i in items))


def _is_plain_item(item: object, depth: int) -> bool:
    kind = type(item)
    if kind in _EXACT:
        return True
    if kind is float:
        return math.isfinite(item)  # type: ignore[arg-type]
    return kind in _CONTAINERS and depth + 1 < MAX_DEPTH and _is_plain(item, depth + 1)


class _Coercion:
    """One walk over one value, with the count and the containers that it is inside of."""

    __slots__ = ("_inside", "count")

    def __init__(self) -> None:
        self.count = 0
        self._inside: set[int] = set()

    def value(self, value: object, depth: int) -> object:
        """`value` in plain types only."""
        try:
            return self._plain(value, depth)
        except Exception:  # noqa: BLE001 - a caller's object can raise anything; the rest of the event stands
            return self._changed(_name(value))

    def _plain(self, value: object, depth: int) -> object:
        match value:
            case bool() | None:
                return value
            case enum.Enum():
                return self.value(value.value, depth)
            case str():
                return self._text(value)
            case int():
                return self._integer(value)
            case float():
                return float(value) if math.isfinite(value) else self._changed(None)
        return self._container(value, depth)

    def _changed(self, value: object) -> object:
        self.count += 1
        return value

    def _text(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self.count += 1
            return _clean(text)
        return text if type(text) is str else str.__str__(text)

    def _integer(self, number: int) -> object:
        try:
            str(number)
        except ValueError:
            # Over the digits that Python converts (sys.get_int_max_str_digits), here and where this JSON is read.
            return self._changed(hex(number))
        return int(number)

    def _container(self, value: object, depth: int) -> object:
        if depth >= MAX_DEPTH:
            return self._changed("<too deep>")
        if id(value) in self._inside:
            return self._changed("<cycle>")
        self._inside.add(id(value))
        try:
            return self._inner(value, depth + 1)
        finally:
            self._inside.discard(id(value))

    def _inner(self, value: object, depth: int) -> object:
        match value:
            case Mapping():
                return self._object(value.items(), depth)
            case list() | tuple():
                return [self.value(item, depth) for item in list(value)]
        self.count += 1
        match value:
            case Set():
                # A set of strings has another order in every process; the same set must be the same JSON.
                return sorted((self.value(item, depth) for item in list(value)), key=_dumps)
            case deque():
                return [self.value(item, depth) for item in list(value)]
        return self._record(value, depth)

    def _record(self, value: object, depth: int) -> object:
        if isinstance(value, msgspec.Struct):
            return self._object(msgspec.structs.asdict(value).items(), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._object(((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value)), depth)
        return self._scalar(value, depth)

    def _object(self, items: Iterable[tuple[object, object]], depth: int) -> dict[str, object]:
        plain: dict[str, object] = {}
        for key, value in list(items):
            name = self._key(key)
            while name in plain:
                name += "_"
            plain[name] = self.value(value, depth)
        return plain

    def _key(self, key: object) -> str:
        if isinstance(key, str):
            return self._text(key)
        self.count += 1
        plain = _Coercion().value(key, 0)
        return plain if isinstance(plain, str) else _dumps(plain).decode()

    def _scalar(self, value: object, depth: int) -> object:
        text = _text_of(value)
        if text is not None:
            return _clean(text)
        for name in ("tolist", "model_dump"):
            method = None if isinstance(value, type) else getattr(type(value), name, None)
            if callable(method):
                # NumPy's and PyTorch's values and arrays, and pydantic's models, turn into plain types by themselves.
                return self.value(method(value), depth)
        return _clean(repr(value)[:MAX_REPR])


def _text_of(value: object) -> str | None:
    """The text of what is usually written as text, None for anything else."""
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode("utf-8", "backslashreplace")
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case uuid.UUID() | decimal.Decimal() | dt.timedelta():
            return str(value)
        case os.PathLike():
            return os.fsdecode(value)
    return None


def _name(value: object) -> str:
    return _clean(f"<{type(value).__qualname__}>")


def _clean(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
