"""What every service reads."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from loopcast.settings.environment import PREFIX, Environment
from loopcast.topology import LOG, MAX_PARTITIONS, Topology, parse_age
from loopcast.trace_ids import check_trace_url

__all__ = ["CommaSeparated", "ServiceSettings", "TraceUrl", "is_loopback", "split", "with_login"]

CommaSeparated = Annotated[tuple[str, ...], NoDecode]
"""Written `a,b` in a variable."""

TraceUrl = Annotated[str, AfterValidator(check_trace_url)]
"""The address of a trace, with a place for its id."""


class ServiceSettings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        # Every service knows the names of all settings, and reads one class: the validators of the others are not made.
        defer_build=True,
    )

    amqp_url: str = Field(
        "amqp://guest:guest@127.0.0.1:5672/",
        description="The broker, as an AMQP URL; `amqps` for TLS.",
    )
    amqp_username: str = Field("", description="Who logs in there, instead of the one whom the URL names.")
    amqp_password: str = Field("", description="The password, instead of the URL's.")
    amqp_client: Literal["loopcast", "aio-pika"] = Field(
        "loopcast", description="What moves events: our own protocol, or aio-pika, which is slower."
    )
    topology: Literal["declare", "verify"] = Field(
        "declare", description="Create the exchanges and the log, or only check that they are there."
    )
    partitions: int = Field(1, ge=1, le=MAX_PARTITIONS, description="Streams that the log is spread over.")
    log_name: str = Field(LOG, min_length=1, max_length=200, description="The name of the log.")
    log_bindings: CommaSeparated = Field(
        ("#",), min_length=1, description="Which routing keys the log keeps, comma-separated: `exp-42.#`."
    )
    log_max_age: str = Field("7D", description="How long the log keeps events: a number and Y, M, D, h, m or s.")
    log_max_bytes: int = Field(5_000_000_000, ge=1_000_000, description="How large a partition of the log may grow.")
    ops_host: str = Field("127.0.0.1", description="Address of the probes and metrics.")
    ops_port: int = Field(0, ge=0, le=65535, description="Port of the probes and metrics.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="JSON lines, or text for people; `auto` asks whether this is a terminal."
    )
    parent_pid: int = Field(
        0, ge=0, description="Stop when this process is no longer the parent; `loopcast up` sets it. 0 is never."
    )
    drain_seconds: float = Field(25.0, ge=0, le=3600, description="How long SIGTERM may wait for work to finish.")

    @model_validator(mode="before")
    @classmethod
    def _login(cls, values: dict[str, object]) -> dict[str, object]:
        """Put the login into the URL, which is where everything else reads it."""
        user, password = values.get("amqp_username"), values.get("amqp_password")
        url = values.get("amqp_url", cls.model_fields["amqp_url"].default)
        if not (user or password) or not isinstance(url, str):
            return values
        return {**values, "amqp_url": with_login(url, str(user or ""), str(password or ""))}

    @field_validator("log_bindings", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split(value)

    @field_validator("log_max_age")
    @classmethod
    def _age(cls, value: str) -> str:
        parse_age(value)
        return value

    @field_validator("amqp_url")
    @classmethod
    def _amqp(cls, value: str) -> str:
        if not value.startswith(("amqp://", "amqps://")):
            raise ValueError("write it as amqp://user:password@host:5672/vhost")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; nothing else."""
        del env_settings, dotenv_settings, file_secret_settings
        return (init_settings, Environment(settings_cls))

    @property
    def broker_topology(self) -> Topology:
        """The exchanges and the log that these settings describe."""
        return Topology(
            partitions=self.partitions,
            log=self.log_name,
            log_bindings=self.log_bindings,
            max_age=self.log_max_age,
            max_bytes=self.log_max_bytes,
        )


def split(value: object) -> object:
    """The parts of a comma-separated text; anything else as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def with_login(url: str, user: str, password: str) -> str:
    """An AMQP URL with another user or password, or both; what is empty stays as the URL has it."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    had_user, _, had_password = login.partition(":")
    login = f"{quote(user, safe='') or had_user}:{quote(password, safe='') or had_password}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
