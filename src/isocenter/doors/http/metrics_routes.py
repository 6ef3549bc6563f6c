"""``/metrics``: how this process does, as Prometheus reads it. Nothing of any patient; numbers of sources and
organisations."""

from __future__ import annotations

import ipaddress

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isocenter.doors.http.gate import Gate, declare
from isocenter.platform.security import Permission
from isocenter.platform.telemetry.exposition import CONTENT_TYPE, Exposition

_FORWARDED = ("forwarded", "via", "x-forwarded-for")


def metrics_route(exposition: Exposition, gate: Gate, *, from_this_machine: bool = False) -> Route:
    """Needs the permission ``metrics:read``; with ``from_this_machine`` loopback may too."""

    async def metrics(request: Request) -> Response:
        if not (from_this_machine and _is_of_this_machine(request)):
            await gate.admit(request, Permission.METRICS_READ)
        return Response(
            await exposition.text(), headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"}
        )

    route = Route("/metrics", metrics)
    declare(route, {"GET": Permission.METRICS_READ, "HEAD": Permission.METRICS_READ})
    return route


def _is_of_this_machine(request: Request) -> bool:
    """A proxy on this machine asks over loopback for others, and says so, whether we trust it or not."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
