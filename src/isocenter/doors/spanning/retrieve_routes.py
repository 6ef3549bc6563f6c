"""``/api/v1/spanner/{config}/dicom-web``: retrieving what any archive of a configuration has (PS3.18 §10.4).

The resources and their forms are those of the archive's own door; only where instances are found is another.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.conditional import headers_alone
from isocenter.doors.dicomweb.media_types import DICOM, MULTIPART_RELATED, parse_accept
from isocenter.doors.dicomweb.representations import object_wishes
from isocenter.doors.dicomweb.resources import SERIES, STUDY, Endpoint, retrieving_of
from isocenter.doors.dicomweb.retrieve import RetrieveTransaction
from isocenter.doors.dicomweb.routes import guarded_route
from isocenter.doors.dicomweb.witness import tell
from isocenter.doors.http.services import HttpServices
from isocenter.doors.spanning.answers import DICOM_WEB, source_headers
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.spanner.retrieval.service import Retrievals
from isocenter.features.spanner.retrieval.under_way import Retrieval
from isocenter.features.spanner.retrieval.wanted import Holding, Wanted
from isocenter.kit.errors import NotFound
from isocenter.platform.security import Permission


def retrieve_routes(services: HttpServices, retrievals: Retrievals[StoredInstance]) -> list[Route]:
    finder = SpannedInstances(retrievals)
    found = retrieving_of(services, Addresses(services.public_url, DICOM_WEB), finder)
    streamed = _Streamed(finder, found.retrieve)
    by_path = {**found.by_path, STUDY: streamed.objects, SERIES: streamed.objects}
    return [
        guarded_route(DICOM_WEB + path, services, {"GET": (Permission.SPANNER_RETRIEVE, _told(endpoint))})
        for path, endpoint in by_path.items()
    ]


class SpannedInstances:
    """Those of all archives of the configuration that the path names; implements `finding.InstanceFinder`."""

    def __init__(self, retrievals: Retrievals[StoredInstance]) -> None:
        self._retrievals = retrievals

    async def find(
        self, request: Request, study: str, series: str = "", instance: str = ""
    ) -> list[StoredInstance]:
        wanted = _wanted(study, series, instance)
        if instance:
            # A viewer asks frame by frame: not each time are all archives asked who has it.
            one = await self._retrievals.one_at_hand(*_where(request), wanted)
            if one is not None:
                return [one]
        retrieval = await self.begin(request, wanted)
        with retrieval.attending():
            await retrieval.settled()
        return retrieval.in_order()

    async def representative(self, request: Request, study: str, series: str = "") -> StoredInstance:
        """The middle one of the series that has the most: the others need not be retrieved for a picture."""
        holdings = await self.holdings(request, _wanted(study, series))
        if not holdings:  # what is at hand of archives that do not answer
            instances = await self.find(request, study, series)
            return instances[len(instances) // 2]
        members = _largest_series(holdings)
        middle = members[len(members) // 2]
        [found] = await self.find(request, study, middle.series_uid, middle.sop_instance_uid)
        return found

    async def holdings(self, request: Request, wanted: Wanted) -> Sequence[Holding]:
        return await self._retrievals.holdings(*_where(request), wanted)

    async def begin(self, request: Request, wanted: Wanted) -> Retrieval[StoredInstance]:
        retrieval = await self._retrievals.begin(*_where(request), wanted)
        request.state.outcomes = retrieval.outcomes
        return retrieval


class _Streamed:
    """Objects of a study or series, passed on as they come."""

    def __init__(self, finder: SpannedInstances, retrieve: RetrieveTransaction) -> None:
        self._finder = finder
        self._retrieve = retrieve

    async def objects(self, request: Request) -> Response:
        wishes = [
            wish
            for wish in object_wishes(parse_accept(accepted(request)))
            if wish.container == MULTIPART_RELATED
        ]
        if not wishes:
            return await self._retrieve.objects(request)  # another container, or none that there is
        path = request.path_params
        wanted = _wanted(path["study"], path.get("series", ""))
        if request.method == "HEAD":
            holdings = await self._finder.holdings(request, wanted)
            tell(request, {"part": "objects", "objects": len(holdings)})
            return headers_alone({"content-type": f'{MULTIPART_RELATED}; type="{DICOM}"'})
        retrieval = await self._finder.begin(request, wanted)
        tell(request, {"part": "objects", "objects": retrieval.expected})
        return await self._retrieve.arriving(wishes, _arriving(retrieval))


async def _arriving(retrieval: Retrieval[StoredInstance]) -> AsyncGenerator[StoredInstance, None]:
    with retrieval.attending():
        async with aclosing(retrieval.batches()) as batches:
            async for batch in batches:
                for one in batch:
                    yield one
        retrieval.check()


def _told(endpoint: Endpoint) -> Endpoint:
    """The trail learns of the configuration, the client how asking its sources ended."""

    async def answer(request: Request) -> Response:
        tell(request, {"spanner_config": _where(request)[1]})
        response = await endpoint(request)
        outcomes = getattr(request.state, "outcomes", None)
        if outcomes:
            service = str(request.base_url).rstrip("/")
            response.headers.update(source_headers(outcomes, (), service))
        return response

    return answer


def _where(request: Request) -> tuple[int, int]:
    """Organisation and configuration. Raises NotFound."""
    number = request.path_params["config_id"]
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise NotFound("There is no such configuration.", code="no-such-spanner-config")
    return request.state.subject.organization_id, int(number)


def _wanted(study: str, series: str = "", instance: str = "") -> Wanted:
    return Wanted(study, (series,) if series else (), (instance,) if instance else ())


def _largest_series(holdings: Sequence[Holding]) -> list[Holding]:
    by_series: dict[str, list[Holding]] = {}
    for one in holdings:
        by_series.setdefault(one.series_uid, []).append(one)
    return max(by_series.values(), key=len)
