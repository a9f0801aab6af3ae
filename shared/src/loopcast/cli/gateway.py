"""What commands ask of a gateway over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from loopcast.cli.access import bearer_header, refusal
from loopcast.errors import ConfigurationError
from loopcast.up.state import http_address

__all__ = ["Gateway"]

SECONDS = 60.0
"""How long one answer may take: a page of a long log is read from the broker."""


class Gateway:
    """
    A gateway: the one at `url`, else the one of the `loopcast up` that keeps its data in `data`.

    Raises:
        ConfigurationError: no gateway is named and none runs here, or what is named is no URL.
    """

    def __init__(self, url: str, data: Path) -> None:
        self.url = http_address(url, data, "LOOPCAST_GATEWAY_URL")
        self._client = httpx.Client(timeout=SECONDS, headers=bearer_header())

    def get(self, experiment: str, what: str, parameters: Mapping[str, str | int | float]) -> dict[str, Any]:
        """
        What `GET /v1/experiments/{experiment}/{what}` answers.

        Raises:
            ConfigurationError: nobody answers, or it is refused; in the gateway's own words where it has some.
        """
        target = f"{self.url}/v1/experiments/{quote(experiment, safe='')}/{what}"
        try:
            answer = self._client.get(target, params=parameters)
        except httpx.HTTPError as error:
            raise ConfigurationError(f"No gateway answers at {self.url}: {error}. Is `loopcast up` running?") from None
        try:
            body: dict[str, Any] = answer.json()
        except ValueError:
            raise ConfigurationError(f"{self.url} is no gateway: it answered {answer.status_code}, no JSON.") from None
        if answer.is_error:
            raise refusal("The gateway", answer.status_code, body.get("detail", answer.status_code))
        return body

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
