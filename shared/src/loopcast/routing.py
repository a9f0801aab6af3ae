"""
From an experiment id and an event type to a routing key, and to the patterns that bind to it.

A routing key is `<experiment>.<type>`. In a topic exchange a dot ends a word, and in a *binding* `*` stands for one
word and `#` for any number, so an id used as it is would subscribe to other people's experiments: `exp.*` is a legal
id. Escaping makes each id exactly one word that means nothing but itself. The true id travels in a header; nobody
needs to read it back from the key.

The limits are AMQP's: a routing key is a short string of at most 255 bytes (AMQP 0-9-1, 4.2.5.3), and so is the
filter value of a stream, which is why an id has at most 255 bytes of UTF-8 too.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
import zlib
from functools import lru_cache

from loopcast.errors import InvalidExperiment, InvalidType

__all__ = [
    "ANYWHERE",
    "MAX_EXPERIMENT_BYTES",
    "MAX_TYPE_BYTES",
    "NOWHERE",
    "bind_experiment",
    "bind_type",
    "check_experiment",
    "check_type",
    "coerce_type",
    "experiment_word",
    "matches",
    "partition_of",
    "routing_key",
]

MAX_EXPERIMENT_BYTES = 255
MAX_TYPE_BYTES = 120
MAX_WORD_BYTES = 120
KEPT_OF_A_LONG_WORD = 80

NOWHERE = "~"
"""The reserved experiment of an event that names none: seen by `*` and global viewers only."""

ANYWHERE = "*"
"""What a viewer subscribes to for every experiment that it may see."""

_TYPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_COERCED_TYPE = re.compile(r"[A-Za-z0-9_%-]+(\.[A-Za-z0-9_%-]+)*\Z")
_OUTSIDE_WORD = re.compile(rb"[^A-Za-z0-9_-]")
_OUTSIDE_TYPE = re.compile(rb"[^A-Za-z0-9_.-]")


def check_experiment(experiment: str, *, what: str = "experiment id") -> str:
    """
    Return `experiment` if it is one. Run ids keep the same rule; `what` names the thing in the sentence.

    Raises:
        InvalidExperiment: it is empty, over 255 bytes of UTF-8, or has control characters or lone surrogates
            (CloudEvents 1.0, "String": what an attribute must not hold).
    """
    if not experiment:
        raise InvalidExperiment(f"The {what} is empty: give one, for example exp-42.")
    try:
        size = len(experiment.encode())
    except UnicodeEncodeError:
        raise InvalidExperiment(f"The {what} has a lone surrogate, which no UTF-8 text can hold.") from None
    if size > MAX_EXPERIMENT_BYTES:
        raise InvalidExperiment(f"The {what} has {size} bytes of UTF-8; at most {MAX_EXPERIMENT_BYTES} are allowed.")
    if not experiment.isprintable() and any(unicodedata.category(c) == "Cc" for c in experiment):
        raise InvalidExperiment(f"The {what} has a control character (a line break or a tab, for example).")
    return experiment


def check_type(type_: str, *, coerced: bool = False) -> str:
    """
    Return `type_` if it is an event type: words of `[A-Za-z0-9_-]` joined by dots, at most 120 bytes.

    With `coerced`, what :func:`coerce_type` makes of others is one too: its words may have `%`.

    Raises:
        InvalidType: it is not.
    """
    if (_COERCED_TYPE if coerced else _TYPE).match(type_) is None:
        raise InvalidType(
            f"The event type {type_[:60]!r} must be words of letters, digits, _ and - joined by dots: loop_start."
        )
    if len(type_) > MAX_TYPE_BYTES:
        raise InvalidType(f"The event type has {len(type_)} characters; at most {MAX_TYPE_BYTES} are allowed.")
    return type_


def coerce_type(type_: str) -> str:
    """
    Make a type of anything, for sources where nobody hears a refusal.

    Bytes outside the grammar become `%XX`, empty words `%`, and what is too long is cut at an escape or a word. A
    legal type stays as it is.
    """
    if len(type_) <= MAX_TYPE_BYTES and _TYPE.match(type_):
        return type_
    # No byte becomes shorter, so what lies behind the limit before the escape lies behind it after.
    raw = type_[: MAX_TYPE_BYTES + 1].encode("utf-8", "surrogatepass")
    words = _escape(_OUTSIDE_TYPE, raw).split(".")
    return _cut(".".join(word or "%" for word in words), MAX_TYPE_BYTES).rstrip(".")


@lru_cache(maxsize=4096)
def experiment_word(experiment: str) -> str:
    """
    The one word that stands for `experiment` in a routing key.

    `[A-Za-z0-9_-]` stay and every other byte of the UTF-8 becomes `%XX`. A word over 120 bytes becomes its first 80
    (cut at an escape), `~` and 26 characters of base32 SHA-256 of the id, so that the key stays under 255 bytes;
    `~` occurs in no other word.

    Raises:
        InvalidExperiment: as :func:`check_experiment`.
    """
    if experiment == NOWHERE:
        return NOWHERE
    raw = check_experiment(experiment).encode()
    word = _escape(_OUTSIDE_WORD, raw)
    if len(word) <= MAX_WORD_BYTES:
        return word
    digest = base64.b32encode(hashlib.sha256(raw).digest()).decode("ascii").lower()[:26]
    return f"{_cut(word, KEPT_OF_A_LONG_WORD)}~{digest}"


def routing_key(experiment: str, type_: str) -> str:
    """
    The key that an event of `experiment` and `type_` is published under. `type_` is not checked again here.

    Raises:
        InvalidExperiment: as :func:`check_experiment`.
    """
    return f"{experiment_word(experiment)}.{type_}"


def bind_experiment(experiment: str, pattern: str = "#") -> str:
    """
    The binding for events of `experiment` alone, of the types that `pattern` matches (`issue.#`, `loop_start`).

    Raises:
        InvalidExperiment: as :func:`check_experiment`.
    """
    return f"{experiment_word(experiment)}.{pattern}"


def bind_type(pattern: str) -> str:
    """The binding that matches events of every experiment, of the types that `pattern` matches."""
    return f"*.{pattern}"


def matches(binding: str, key: str) -> bool:
    """
    Whether a topic exchange routes `key` by `binding`: `*` is one word, `#` any number (AMQP 0-9-1, 3.1.3.3).

    Words may be empty, as RabbitMQ has it; an empty key has no word at all, as RabbitMQ has it too.
    """
    pattern, words = _words(binding), _words(key)
    reachable = {0}
    for word in pattern:
        if word == "#":
            reachable = set(range(min(reachable), len(words) + 1)) if reachable else reachable
        else:
            reachable = {i + 1 for i in reachable if i < len(words) and word in ("*", words[i])}
    return len(words) in reachable


def partition_of(experiment: str, partitions: int) -> int:
    """The partition of the log, from 0, that keeps the events of `experiment`: crc32 of its UTF-8 mod `partitions`."""
    if partitions == 1:
        return 0
    return zlib.crc32(experiment.encode()) % partitions


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _escape(outside: re.Pattern[bytes], raw: bytes) -> str:
    return outside.sub(lambda m: b"%%%02X" % m[0][0], raw).decode("ascii")


def _cut(escaped: str, size: int) -> str:
    """The first `size` characters of `escaped`, fewer where that would split an escape."""
    cut = escaped[:size]
    broken = cut.rfind("%", -2)
    return cut[:broken] if broken >= 0 and len(escaped) > size else cut
