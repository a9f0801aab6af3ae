"""What the recorder reads."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from loopcast.settings.environment import PREFIX
from loopcast.settings.public import PublicSettings
from loopcast.topology import parse_age

__all__ = ["PLACES", "RecorderSettings"]

PLACES = {
    "sqlite": f"{PREFIX}RECORDER_SQLITE",
    "postgresql": f"{PREFIX}RECORDER_POSTGRES",
    "jsonl": f"{PREFIX}RECORDER_JSONL",
    "socket": f"{PREFIX}RECORDER_SOCKET",
}
"""The sinks, each with the variable that says where it keeps what it is given."""


class RecorderSettings(PublicSettings):
    """What the recorder reads."""

    asks: ClassVar[bool] = True

    port: int = Field(8704, ge=0, le=65535, description="The public port: history from the database.")
    ops_port: int = Field(9704, ge=0, le=65535, description="Port of the probes and metrics.")
    recorder_sqlite: str = Field(
        ".loopcast/recorder.db", min_length=1, description="The SQLite file that events are kept in; `off` for none."
    )
    recorder_postgres: str = Field(
        "off",
        min_length=1,
        description="PostgreSQL instead of SQLite, as `postgresql://user:password@host/database`; `off` for none. "
        "Replicas share the partitions.",
    )
    recorder_max_age: str = Field(
        "never", description="When the database forgets an event: an age such as `90D`, or `never`."
    )
    recorder_max_bytes: int = Field(
        0, ge=0, description="The oldest events are deleted while the database is larger; 0 is no limit."
    )

    recorder_jsonl: str = Field(
        "off", min_length=1, description="The folder of JSONL files, one for each experiment and day; `off` for none."
    )
    recorder_jsonl_fsync: Literal["always", "interval", "never"] = Field(
        "interval", description="When lines are forced to the disk: with each batch, in intervals, or by the system."
    )
    recorder_jsonl_seconds: float = Field(
        1.0, ge=0.05, le=60, description="The interval in which JSONL files and their position are made fast."
    )
    recorder_jsonl_compress: Literal["zstd", "gzip", "none"] = Field(
        "zstd", description="What becomes of JSONL files that nothing is added to any more."
    )
    recorder_jsonl_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="A larger JSONL file is closed, and a next part of the day begun."
    )
    recorder_jsonl_max_age: str = Field(
        "never", description="JSONL files go when their day ended longer ago than this, such as `90D`; or `never`."
    )
    recorder_jsonl_total_bytes: int = Field(
        0, ge=0, description="The oldest days' JSONL files go while all together are larger; 0 is no limit."
    )
    recorder_socket: str = Field(
        "off", min_length=1, description="The Unix socket that local clients follow events at; `off` for none."
    )
    recorder_socket_clients: int = Field(32, ge=1, le=10_000, description="Clients of the socket at the same time.")
    recorder_socket_queue_bytes: int = Field(
        8 * 1024 * 1024, ge=4096, description="Bytes that a client of the socket may leave unread before it is ended."
    )
    recorder_format: Literal["original", "cloudevents"] = Field(
        "original", description="What a line of the files and the socket is: the loop's own object, or the CloudEvent."
    )

    @field_validator("recorder_max_age", "recorder_jsonl_max_age")
    @classmethod
    def _keep(cls, value: str) -> str:
        if value != "never":
            parse_age(value)
        return value
