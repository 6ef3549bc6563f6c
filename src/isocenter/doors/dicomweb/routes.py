"""The paths of DICOM's web services (PS3.18 §10) and who answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from isocenter.dicom.dictionary import keyword_of
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.bulk_collections import BulkCollections
from isocenter.doors.dicomweb.bulk_data import BulkDataTransaction
from isocenter.doors.dicomweb.delete import DeleteTransaction
from isocenter.doors.dicomweb.frames import FramesTransaction
from isocenter.doors.dicomweb.metadata import MetadataTransaction
from isocenter.doors.dicomweb.retrieve import RetrieveTransaction
from isocenter.doors.dicomweb.search import SearchTransaction
from isocenter.doors.dicomweb.store import StoreTransaction
from isocenter.doors.dicomweb.witness import witnessed
from isocenter.doors.http.gate import declare
from isocenter.doors.http.refusals import MethodNotAllowed
from isocenter.doors.http.services import HttpServices
from isocenter.platform.security import Permission

MOUNT = "/dicom-web"

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"

Endpoint = Callable[[Request], Awaitable[Response]]
Guarded = tuple[Permission, Endpoint]


def dicomweb_door(services: HttpServices) -> Router:
    """The ASGI application to mount at `MOUNT`; plain routes, since validation by models would cost more
    than the searches themselves."""
    keyword_of(0x00100010)  # the dictionary takes a second to load: now, not with the first request
    addresses = Addresses(services.public_url, MOUNT)
    search = SearchTransaction(services, addresses)
    images = services.images_or_new()
    retrieve = RetrieveTransaction(services, images)
    frames = FramesTransaction(services, images)
    bulk_data = BulkDataTransaction(services, images, frames)
    collections = BulkCollections(services, addresses, frames, bulk_data)
    metadata = MetadataTransaction(services, addresses)
    storing = StoreTransaction(services, addresses)
    deleting = DeleteTransaction(services)

    def route(path: str, **by_method: Guarded) -> Route:
        return _route(path, services, by_method)

    def searching(endpoint: Endpoint) -> Guarded:
        return Permission.STUDIES_SEARCH, endpoint

    def retrieving(endpoint: Endpoint) -> Guarded:
        return Permission.STUDIES_RETRIEVE, endpoint

    stores = (Permission.STUDIES_STORE, storing.store)
    deletes = (Permission.STUDIES_DELETE, deleting.delete)
    routes = [
        route("/studies", GET=searching(search.studies), POST=stores),
        route(_STUDY, GET=retrieving(retrieve.objects), POST=stores, DELETE=deletes),
        route(_SERIES, GET=retrieving(retrieve.objects), DELETE=deletes),
        route(_INSTANCE, GET=retrieving(retrieve.objects), PUT=stores, POST=stores, DELETE=deletes),
        route(_STUDY + "/metadata", GET=retrieving(metadata.metadata)),
        route(_SERIES + "/metadata", GET=retrieving(metadata.metadata)),
        route(_INSTANCE + "/metadata", GET=retrieving(metadata.metadata)),
        route(_INSTANCE + "/bulkdata/{path:path}", GET=retrieving(bulk_data.bulk_data)),
        route(_INSTANCE + "/frames/{frames}", GET=retrieving(frames.frames)),
        *(
            route(level + resource, GET=retrieving(endpoint))
            for level in (_STUDY, _SERIES, _INSTANCE)
            for resource, endpoint in (
                ("/bulkdata", collections.bulk_data),
                ("/pixeldata", collections.pixel_data),
            )
        ),
        route(_STUDY + "/series", GET=searching(search.series)),
        route(_SERIES + "/instances", GET=searching(search.instances)),
        route(_STUDY + "/instances", GET=searching(search.instances)),
        route("/series", GET=searching(search.series)),
        route("/instances", GET=searching(search.instances)),
    ]
    return Router(routes, redirect_slashes=False)


def _route(path: str, services: HttpServices, by_method: dict[str, Guarded]) -> Route:
    """One route per path, so that a wrong method is told all the right ones."""
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]
    allowed = ", ".join(by_method)

    async def endpoint(request: Request) -> Response:
        found = by_method.get(request.method)
        if found is None:
            raise MethodNotAllowed(request.method, allowed)
        permission, answer = found
        await services.gate.admit(request, permission)
        return await witnessed(services.recorder, request, permission, answer)

    route = Route(path, endpoint)
    route.methods = None  # all: the endpoint itself refuses
    declare(route, {method: permission for method, (permission, _) in by_method.items()})
    return route
