"""``DELETE`` of a study, a series, an instance: not of PS3.18 but of every archive, in the same addresses."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.deletion.deleting import Cause, delete_objects


class DeleteTransaction:
    def __init__(self, services: HttpServices) -> None:
        self._services = services

    async def delete(self, request: Request) -> Response:
        """204 when it is gone, 404 when it never was. What was deleted can be restored for a while:
        ``/api/v1/deletions``."""
        path, subject = request.path_params, request.state.subject
        await delete_objects(
            self._services.database,
            self._services.clock,
            subject.organization_id,
            path["study"],
            series=path.get("series", ""),
            instance=path.get("instance", ""),
            cause=Cause(by=subject.name),
        )
        return Response(None, 204)
