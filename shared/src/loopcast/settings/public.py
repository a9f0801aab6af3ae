"""What services with a public port read: where it is, and who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from loopcast.errors import ConfigurationError
from loopcast.settings.base import CommaSeparated, ServiceSettings, is_loopback, split

__all__ = ["PublicSettings"]

MIN_SECRET_BYTES = 32
"""HS256 needs a secret as long as its hash (RFC 7518, 3.2)."""


class PublicSettings(ServiceSettings):
    """What services with a public port read."""

    asks: ClassVar[bool] = False
    """Whether the service looks at tokens; one that does not may not be guarded by them."""

    host: str = Field("127.0.0.1", description="Address of the public port.")
    port: int = Field(0, ge=0, le=65535, description="The public port.")
    allow_anonymous: bool = Field(
        False, description="Serve anybody, on any address. Without it, only loopback addresses are served unasked."
    )
    jwt_secret: SecretStr | None = Field(
        None, description="The secret that tokens are signed with (HS256), 32 bytes or more."
    )
    jwt_previous_secret: SecretStr | None = Field(
        None, description="The one before: tokens that it signed are good until they expire."
    )
    jwks_url: str = Field(
        "", description="Where an identity provider publishes the keys that its tokens are signed with (RS256, ES256)."
    )
    jwks_refresh_seconds: float = Field(300.0, ge=1, le=86400, description="How often the keys are fetched anew.")
    jwks_least_seconds: float = Field(
        10.0, ge=0.1, le=3600, description="How long a token with an unknown key may not cause a fetch after the last."
    )
    jwt_audience: CommaSeparated = Field(
        (), description="One of these must be in a token's `aud`; without any, a token that has an `aud` is refused."
    )
    jwt_issuer: CommaSeparated = Field(
        (), description="A token's `iss` must be one of these; without any, it may be any."
    )
    jwt_leeway_seconds: float = Field(30.0, ge=0, le=600, description="By how much clocks of machines may differ.")
    jwt_publish_claim: str = Field("publish", min_length=1, description="The claim that lists what may be published.")
    jwt_subscribe_claim: str = Field("subscribe", min_length=1, description="The claim that lists what may be seen.")
    api_keys_file: Path | None = Field(
        None, description="A file of API keys (TOML, made by `loopcast api-key`); read again when it changes."
    )
    allowed_origins: CommaSeparated = Field(
        (), description="Origins of pages that may connect; the same origin always may, on loopback any loopback one."
    )
    allowed_hosts: CommaSeparated = Field(
        (), description="Names that the service answers to (`Host`); without any, on loopback loopback's, else all."
    )

    @field_validator("jwt_audience", "jwt_issuer", "allowed_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split_more(cls, value: object) -> object:
        return split(value)

    @field_validator("jwt_secret", "jwt_previous_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"it needs {MIN_SECRET_BYTES} bytes: make one with `openssl rand -base64 48`")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _web(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("write it as https://host/path")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"}:
                raise ValueError(f"{origin!r} is no origin: write it as https://host or https://host:port")
        return value

    @model_validator(mode="after")
    def _a_secret_before(self) -> Self:
        if self.jwt_previous_secret is not None and self.jwt_secret is None:
            raise ValueError("LOOPCAST_JWT_PREVIOUS_SECRET needs LOOPCAST_JWT_SECRET")
        return self

    @property
    def guarded(self) -> bool:
        """Whether there is anything that a client could show to say who it is."""
        return bool(self.jwt_secret is not None or self.jwks_url or self.api_keys_file is not None)

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """The secrets that verify tokens, the one that signs them first."""
        return tuple(s.get_secret_value() for s in (self.jwt_secret, self.jwt_previous_secret) if s is not None)

    def check_exposure(self) -> None:
        """
        Refuse to serve strangers without anybody having said so.

        Raises:
            ConfigurationError: the public address is not loopback and nothing says who may do what.
        """
        if not self.allow_anonymous and not (self.guarded and self.asks) and not is_loopback(self.host):
            raise ConfigurationError(
                f"LOOPCAST_HOST={self.host} is not a loopback address, and nobody would be asked who they are: "
                "set LOOPCAST_JWT_SECRET, LOOPCAST_JWKS_URL or LOOPCAST_API_KEYS_FILE, or "
                "LOOPCAST_ALLOW_ANONYMOUS=true if everybody who reaches it may use it."
            )
