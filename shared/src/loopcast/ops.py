"""The ops port: `/livez`, `/readyz`, `/startupz` and `/metrics`, apart from the public port."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from loopcast.health import Health
from loopcast.metrics import Metrics

__all__ = ["METRICS_PATH", "PROBES", "ops_app"]

PROBES = ("/livez", "/readyz", "/startupz")
METRICS_PATH = "/metrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def ops_app(health: Health, metrics: Metrics) -> Starlette:
    """The ASGI application of the ops port."""

    def probe(path: str) -> Route:
        question = {"/livez": health.liveness, "/readyz": health.readiness, "/startupz": health.startup}[path]

        async def answer(_: Request) -> Response:
            well, sentence = question()
            return PlainTextResponse(f"{sentence}\n", status_code=200 if well else 503)

        return Route(path, answer)

    async def scrape(_: Request) -> Response:
        return Response(metrics.render(), media_type=METRICS_TYPE)

    async def elsewhere(_: Request, __: Exception) -> Response:
        here = ", ".join((*PROBES, METRICS_PATH))
        return PlainTextResponse(f"GET {here}; the service itself is at its public port\n", status_code=404)

    return Starlette(routes=[*map(probe, PROBES), Route(METRICS_PATH, scrape)], exception_handlers={404: elsewhere})
