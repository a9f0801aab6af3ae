"""Where a service with a public port describes it for machines, as OpenAPI: the same at each of them."""

from __future__ import annotations

__all__ = ["OPENAPI", "OPENAPI_ALIAS"]

OPENAPI = "/v1/openapi.json"
"""Beside what it describes."""
OPENAPI_ALIAS = "/openapi.json"
"""The same document, where tools look for one that are told a host alone."""
