"""
Trace and span ids that anybody can compute: pure functions of what a run is called.

The otel-exporter writes its traces under these ids, so an agent can parent its own spans to the action that it runs in,
a dashboard can link to a trace before it exists, and an event that is folded twice gives the same span twice.

* A trace is one attempt of one run; a very long one is cut into chapters, each a trace.
* A span is named by its path in the trace: `L` is the loop, `L/S3` the state entered at iteration 3, `L/S3/A1` the
  first action in it, `L/S3/L1` the first sub-loop, and so on to any depth.
* A span id hashes the trace id too, because some backends take a span id for unique everywhere (arize-phoenix keeps
  the first of two spans with one id, whatever their traces).

Every part is hashed behind its length, so that run 1, attempt 23 is not run 12, attempt 3 (a trap of the
GitHub receiver's ids in opentelemetry-collector-contrib). The ids are uniform, so ratio samplers work
(W3C Trace Context level 2, "Random Trace ID Flag"), though the flag is not set.
"""

from __future__ import annotations

import hashlib
import re

__all__ = [
    "LOOP",
    "PATH",
    "action_path",
    "check_trace_url",
    "instance_of",
    "loop_path",
    "record_uid",
    "span_id",
    "state_path",
    "trace_id",
    "trace_id_of",
    "trace_url",
]

PLACEHOLDER = "{trace_id}"
"""Where a trace's id goes in the address of a trace."""

LOOP = "L"
"""The path of a run's own loop."""

PATH = re.compile(r"L(/[SAL][^/]+)*")
"""How the path of any span is written."""

_SALT = b"loopotel-v1"
_TRACE_BYTES = 16
_SPAN_BYTES = 8
_SPAN_HEAD = b"\0\0\0\x04span\0\0\0\x10"
"""What is hashed before every trace's id: one is made for every span, so it is not put together each time."""


def trace_id(experiment: str, run: str, attempt: int = 1, chapter: int = 1) -> bytes:
    """The trace of one attempt of a run: 16 bytes, `.hex()` is what backends show."""
    return trace_id_of(experiment, run, instance_of(attempt), chapter)


def trace_id_of(experiment: str, run: str, instance: str, chapter: int) -> bytes:
    """The same for an instance of a loop that no attempt names (:func:`instance_of`)."""
    return _digest(_TRACE_BYTES, b"trace", *map(_raw, (experiment, run, instance, str(chapter))))


def instance_of(attempt: int, opened_by: str | None = None) -> str:
    """
    What tells the loops of one run apart: its attempt.

    Where nobody counted attempts, or a loop starts twice within one, the id of the event that opened it does.
    """
    return str(attempt) if opened_by is None else f"{attempt}~{opened_by}"


def check_trace_url(template: str) -> str:
    """
    The template of a backend's addresses of traces, or nothing, as it was given.

    Raises:
        ValueError: it is no address, or has no place for the id.
    """
    if template and not template.startswith(("http://", "https://")):
        raise ValueError("write a whole URL, such as https://jaeger.example.com/trace/{trace_id}")
    if template and PLACEHOLDER not in template:
        raise ValueError(f"it needs {PLACEHOLDER} where the id of the trace goes")
    if any(character.isspace() or not character.isprintable() or character in "<>|" for character in template):
        raise ValueError("encode spaces, control characters, <, > and | in a URL")
    return template


def trace_url(template: str, experiment: str, run: str, attempt: int = 1) -> str:
    """Where a backend shows the (first chapter of the) trace of an attempt, by what :func:`check_trace_url` took."""
    # Not str.format: the addresses of some backends hold JSON.
    return template.replace(PLACEHOLDER, trace_id(experiment, run, attempt).hex())


def span_id(trace: bytes, path: str) -> bytes:
    """The span at `path` of a trace: 8 bytes."""
    raw = _raw(path)
    return _hash(_SPAN_BYTES, b"".join((_SPAN_HEAD, trace, len(raw).to_bytes(4), raw)))


def record_uid(event_id: str) -> str:
    """The `log.record.uid` of the log record that an event becomes."""
    return _digest(_TRACE_BYTES, b"log", _raw(event_id)).hex()


def state_path(loop: str, iteration: int | str) -> str:
    """The state entered at `iteration` of the loop at path `loop`."""
    return f"{loop}/S{iteration}"


def action_path(parent: str, number: int | str) -> str:
    """The action `number`, from 1, of the state at path `parent`."""
    return f"{parent}/A{number}"


def loop_path(parent: str, number: int | str) -> str:
    """The sub-loop `number`, from 1, inside the state or action at path `parent`."""
    return f"{parent}/L{number}"


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(size: int, *parts: bytes) -> bytes:
    """Hash `parts`, each behind its length; with a counter where all bits are zero, which is no id (W3C, 3.2.2.3)."""
    return _hash(size, b"".join([part for raw in parts for part in (len(raw).to_bytes(4), raw)]))


def _hash(size: int, framed: bytes) -> bytes:
    counter = b""
    while not any(digest := hashlib.blake2b(framed + counter, digest_size=size, person=_SALT).digest()):
        counter += b"\0"
    return digest
