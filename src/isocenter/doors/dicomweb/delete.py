"""``DELETE`` of a study, a series, an instance: not of PS3.18 but of every archive, in the same addresses."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.delete import delete_objects


class DeleteTransaction:
    def __init__(self, services: HttpServices) -> None:
        self._services = services

    async def delete(self, request: Request) -> Response:
        """204 when it is gone, 404 when it never was."""
        path = request.path_params
        await delete_objects(
            self._services.database,
            self._services.clock,
            request.state.subject.organization_id,
            path["study"],
            series=path.get("series", ""),
            instance=path.get("instance", ""),
        )
        return Response(None, 204)
