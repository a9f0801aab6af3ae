"""Refusals over HTTP: problem details (RFC 9457)."""

from __future__ import annotations

from loopcast.problems import problem

__all__ = ["JSON", "problem"]

JSON = "application/json"
