"""Where the instances of an address are found: in this archive, or wherever else somebody looks for them."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.presented import find_instances
from isocenter.features.archive.representative import find_representative
from isocenter.features.archive.retrieve import StoredInstance


class InstanceFinder(Protocol):
    async def find(
        self, request: Request, study: str, series: str = "", instance: str = ""
    ) -> list[StoredInstance]:
        """All of a study, of a series, or the one instance, as they leave. Raises NotFound for none, Conflict
        where one of them must not leave."""
        ...

    async def representative(self, request: Request, study: str, series: str = "") -> StoredInstance:
        """The one that stands for a study or a series in a picture. Raises as `find` does."""
        ...


async def addressed(finder: InstanceFinder, request: Request) -> list[StoredInstance]:
    """The instances that the request's path names."""
    path = request.path_params
    return await finder.find(request, path["study"], path.get("series", ""), path.get("instance", ""))


class OwnInstances:
    """Those of the archive, of the subject's organisation."""

    def __init__(self, services: HttpServices) -> None:
        self._there = services.database, services.store

    async def find(
        self, request: Request, study: str, series: str = "", instance: str = ""
    ) -> list[StoredInstance]:
        organization_id = request.state.subject.organization_id
        return await find_instances(*self._there, organization_id, study, series, instance)

    async def representative(self, request: Request, study: str, series: str = "") -> StoredInstance:
        organization_id = request.state.subject.organization_id
        return await find_representative(*self._there, organization_id, study, series)
