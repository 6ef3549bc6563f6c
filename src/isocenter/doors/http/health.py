"""``/health/live``: the process runs. ``/health/ready``: database and object store answer."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isocenter.doors.http.gate import public
from isocenter.doors.http.services import HttpServices
from isocenter.kit.errors import IsocenterError

_KEPT_S = 3.0
_CHECK_S_MAX = 5.0


class Readiness:
    """The outcome is kept for some seconds: probes come often, and the store's check writes a file."""

    def __init__(self, services: HttpServices) -> None:
        self._services = services
        self._lock = asyncio.Lock()
        self._at_s: float | None = None
        self._problems: dict[str, str] = {}

    async def problems(self) -> dict[str, str]:
        """What is wrong, by part, in words; empty when all is well."""
        async with self._lock:
            now_s = self._services.clock.monotonic_s()
            if self._at_s is None or now_s - self._at_s >= _KEPT_S:
                database, store = await asyncio.gather(self._database(), self._store())
                found = {"database": database, "object store": store}
                self._problems = {part: words for part, words in found.items() if words}
                self._at_s = now_s
            return self._problems

    async def _database(self) -> str:
        try:
            async with asyncio.timeout(_CHECK_S_MAX):
                await self._services.database.ping()
        except IsocenterError as error:
            return f"{error.detail} {error.remedy}".strip()
        except TimeoutError:
            return f"The database did not answer within {_CHECK_S_MAX:.0f} s."
        except RuntimeError as error:  # its threads are gone: the process is shutting down
            return f"The database is closed ({type(error).__name__})."
        return ""

    async def _store(self) -> str:
        try:
            async with asyncio.timeout(_CHECK_S_MAX):
                health = await self._services.store.health()
        except TimeoutError:
            return f"The object store did not answer within {_CHECK_S_MAX:.0f} s."
        return "" if health.ok else health.problem


def health_routes(services: HttpServices) -> list[Route]:
    readiness = Readiness(services)

    async def live(_: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def ready(_: Request) -> Response:
        problems = await readiness.problems()
        if not problems:
            return _json(200, {"status": "ready"})
        response = _json(503, {"status": "not ready", "problems": problems})
        response.headers["Retry-After"] = "5"
        return response

    return [public(Route("/health/live", live)), public(Route("/health/ready", ready))]


def _json(status: int, content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
