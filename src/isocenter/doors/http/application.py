"""The HTTP application: the frame, health, the starting page, and whatever doors are mounted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.types import ASGIApp

from isocenter.doors.http.frame import Frame
from isocenter.doors.http.gate import public
from isocenter.doors.http.health import health_routes
from isocenter.doors.http.problem_pages import problem_page_routes
from isocenter.doors.http.proxies import TrustedProxies
from isocenter.doors.http.refusals import InvalidFields, MethodNotAllowed
from isocenter.doors.http.services import HttpServices

_PROBLEM: dict[str, Any] = {
    "description": "A problem document (RFC 9457); its type leads to a page about its code.",
    "content": {"application/problem+json": {}},
}

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def create_app(
    services: HttpServices,
    *,
    routers: Sequence[APIRouter] = (),
    mounts: Mapping[str, ASGIApp] | None = None,
    pages: Sequence[Route] = (),
    object_prefixes: Sequence[str] = ("/dicom-web/studies",),
) -> FastAPI:
    """The application that uvicorn serves.

    ``routers`` are the JSON API's (each with its own prefix); ``mounts`` are whole doors by path, such as
    ``{"/dicom-web": dicomweb_door(…)}``, tried before every other route; ``pages`` are what
    people open in a browser, and whatever else is no part of the API. ``object_prefixes``: see `Frame`.
    """
    mounts = mounts or {}
    app = FastAPI(
        title="Isocenter",
        version=version("isocenter"),
        openapi_url="/api/openapi.json",
        docs_url=None,  # both pages load scripts from a foreign host, which our content policy forbids
        redoc_url=None,
        responses={"default": _PROBLEM},
        # Asking OpenTelemetry whether anybody listens took a twelfth of a search.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.router.redirect_slashes = False  # a redirected POST would send its objects twice
    app.router.routes[:0] = [Mount(path, app=door) for path, door in mounts.items()]
    app.router.routes.extend(
        [*health_routes(services), *problem_page_routes(), *pages, public(Route("/", _start(tuple(mounts))))]
    )
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _reraise)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_middleware(
        Frame,
        limits=services.limits,
        policy=services.policy,
        clock=services.clock,
        measures=services.measures,
        object_prefixes=tuple(object_prefixes),
    )
    app.add_middleware(TrustedProxies, proxies=services.trusted_proxies)
    return app


async def _reraise(request: Request, error: Exception) -> Response:
    """The framework's own refusals become problem documents in the frame, as all others."""
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        raise MethodNotAllowed(request.method, ", ".join(_allowed(request))) from None
    raise error


def _allowed(request: Request) -> list[str]:
    """All methods of the resource (RFC 9110 §10.2.1); the framework names those of its first route only."""

    def has(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if has(method)]


async def _invalid_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    raise InvalidFields(error.errors()) from None


def _start(doors: tuple[str, ...]) -> Callable[[Request], Awaitable[Response]]:
    body = orjson.dumps(
        {
            "name": "Isocenter",
            "version": version("isocenter"),
            "doors": list(doors),
            "api": "/api/openapi.json",
            "problems": "/problems",
            "health": ["/health/live", "/health/ready"],
        }
    )

    async def start(_: Request) -> Response:
        return Response(body, media_type="application/json")

    return start
