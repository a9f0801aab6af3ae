"""
What an endpoint is: where events go, which, in what form, and how patiently. Pure.

The models carry the rules of the endpoints file; :mod:`loopcast_webhook_forwarder.endpoints_file` reads it and adds the
line to each complaint. Secrets are named by file here and never held: their text lives in
:class:`~loopcast_webhook_forwarder.credentials.Credentials`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from loopcast.errors import InvalidEvent
from loopcast.routing import bind_experiment, bind_type, check_experiment
from loopcast.topology import WEBHOOK_NAME
from loopcast.trace_ids import check_trace_url

__all__ = ["Batch", "Endpoint", "FileReference", "Format", "Retry", "check_url", "parse_duration"]

Format = Literal["cloudevents-batch", "cloudevents", "little-loops", "slack", "github"]

ONE_AT_A_TIME: frozenset[Format] = frozenset({"cloudevents", "github"})
"""Formats whose body holds one event."""

MAX_BINDING_BYTES = 255
"""A routing key is a short string (AMQP 0-9-1, 4.2.5.3)."""

RESERVED_HEADERS = frozenset({"content-length", "content-type", "host", "transfer-encoding", "connection"})
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_BINDING = re.compile(r"(?:[^.*#\s]+|\*|#)(?:\.(?:[^.*#\s]+|\*|#))*\Z")


def parse_duration(value: object) -> object:
    """
    Seconds from `15s`, `250ms`, `72h` or a number.

    Raises:
        ValueError: it is text and no duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is no duration; write a number and one of ms, s, m, h, d, such as 15s")
    return float(match[1]) * _UNITS[match[2]]


def check_url(url: str) -> str:
    """
    Return `url` if events may be posted to it.

    Raises:
        ValueError: it is no http or https URL, or it carries a user name or a fragment.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise ValueError(f"this is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("write a whole URL, such as https://ci.example.com/hooks/loops")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user name or password in a URL ends up in logs; send it as a header read from a file")
    if parts.fragment or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("a URL to post to has no fragment, spaces or control characters")
    return url


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=366 * 86400, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=True)


class FileReference(_Model):
    """A text that stands in a file of its own, because it is a secret."""

    file: Path


class Batch(_Model):
    """When a batch is full: whichever comes first."""

    max_events: int = Field(100, ge=1, le=1000)
    max_ms: int = Field(1000, ge=0, le=60_000)
    max_bytes: int = Field(262_144, ge=1024, le=16 * 1024 * 1024)


class Retry(_Model):
    """How long to wait before each further try (the last one again and again), and when to give up."""

    schedule: tuple[Seconds, ...] = Field((0.5, 2, 10, 60, 300, 900, 3600), min_length=1, max_length=50)
    give_up_after: Seconds = 72 * 3600.0


class Endpoint(_Model):
    """One entry of the endpoints file."""

    name: str
    url: str | FileReference
    experiments: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    format: Format = "cloudevents-batch"
    secret: tuple[FileReference, ...] = ()
    headers: dict[str, str | FileReference] = Field(default_factory=dict)
    batch: Batch = Batch()
    retry: Retry = Retry()
    timeout: Seconds = Field(15.0, gt=0, le=300)
    breaker_failures: int = Field(5, ge=1, le=1000)
    allow_private: bool = False
    ca_file: Path | None = None
    dashboard: str | None = None
    """Where people look at runs: the slack format links to it."""
    trace_url: Annotated[str, AfterValidator(check_trace_url)] = ""
    """Where a backend shows a trace, with `{trace_id}` in it: the slack format links to that too."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The bindings of its queue, sorted, each once."""
        made = set(self.bindings)
        if self.experiments:
            made |= {bind_experiment(e, t) for e in self.experiments for t in self.types or ("#",)}
        else:
            made |= {bind_type(t) for t in self.types}
        return tuple(sorted(made))

    @property
    def max_events(self) -> int:
        """How many events one request carries at most."""
        return 1 if self.format in ONE_AT_A_TIME else self.batch.max_events

    @field_validator("secret", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if WEBHOOK_NAME.match(value) is None:
            raise ValueError("a name is 1 to 63 of a-z, 0-9 and -")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | FileReference) -> str | FileReference:
        return check_url(value) if isinstance(value, str) else value

    @field_validator("experiments")
    @classmethod
    def _experiments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for experiment in value:
            try:
                check_experiment(experiment)
            except InvalidEvent as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("types", "bindings")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if _BINDING.match(pattern) is None or len(pattern.encode()) > MAX_BINDING_BYTES:
                raise ValueError(
                    f"{pattern[:60]!r} is no pattern: words joined by dots, where * is one word and # any number, "
                    f"at most {MAX_BINDING_BYTES} bytes"
                )
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str | FileReference]) -> dict[str, str | FileReference]:
        for name, text in value.items():
            lower = name.lower()
            if _HEADER.match(name) is None or lower in RESERVED_HEADERS or lower.startswith("webhook-"):
                raise ValueError(f"{name!r} is no header that may be set here")
            if isinstance(text, str) and not text.isprintable():
                raise ValueError(f"the value of {name!r} has control characters")
        return value

    @model_validator(mode="after")
    def _wants_something(self) -> Self:
        if not self.patterns:
            raise ValueError('say which events it wants: experiments, types, or bindings: ["#"] for all')
        too_long = next((p for p in self.patterns if len(p.encode()) > MAX_BINDING_BYTES), None)
        if too_long is not None:
            raise ValueError(f"the binding {too_long[:60]!r}… is over {MAX_BINDING_BYTES} bytes")
        return self
