"""``DELETE`` of a study, a series, an instance: not of PS3.18 but of every archive, in the same addresses."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions


class DeleteTransaction:
    def __init__(self, services: HttpServices) -> None:
        self._deletions = Deletions(services.database, services.clock)

    async def delete(self, request: Request) -> Response:
        """204 when it is gone, 404 when it never was. What was deleted can be restored for a while:
        ``/api/v1/deletions``."""
        path, subject = request.path_params, request.state.subject
        scope = Scope(path["study"], path.get("series", ""), path.get("instance", ""))
        await self._deletions.delete(subject.organization_id, scope, by=subject.called)
        return Response(None, 204)
