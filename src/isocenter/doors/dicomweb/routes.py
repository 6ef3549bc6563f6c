"""The paths of DICOM's web services (PS3.18 §10) and who answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from isocenter.dicom.dictionary import keyword_of
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.bulk_collections import BulkCollections
from isocenter.doors.dicomweb.bulk_data import BulkDataTransaction
from isocenter.doors.dicomweb.capabilities import Capabilities
from isocenter.doors.dicomweb.delete import DeleteTransaction
from isocenter.doors.dicomweb.frames import FramesTransaction
from isocenter.doors.dicomweb.metadata import MetadataTransaction
from isocenter.doors.dicomweb.rendered import RenderedTransaction
from isocenter.doors.dicomweb.rendering import Renderer
from isocenter.doors.dicomweb.retrieve import RetrieveTransaction
from isocenter.doors.dicomweb.search import SearchTransaction
from isocenter.doors.dicomweb.store import StoreTransaction
from isocenter.doors.dicomweb.thumbnail import ThumbnailTransaction
from isocenter.doors.dicomweb.wado_uri import WadoUriTransaction
from isocenter.doors.dicomweb.witness import witnessed
from isocenter.doors.dicomweb.workitem_routes import workitem_routes
from isocenter.doors.http.gate import KNOWN, declare
from isocenter.doors.http.refusals import MethodNotAllowed
from isocenter.doors.http.services import HttpServices
from isocenter.platform.security import Permission

MOUNT = "/dicom-web"

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

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
    renderer = Renderer(services.store, images)
    rendered = RenderedTransaction(services, renderer)
    thumbnail = ThumbnailTransaction(services, renderer, services.thumbnails_or_new(images))
    wado_uri = WadoUriTransaction(services, retrieve, rendered)

    def route(path: str, **by_method: Guarded) -> Route:
        return _route(path, services, by_method)

    def searching(endpoint: Endpoint) -> Guarded:
        return Permission.STUDIES_SEARCH, endpoint

    def retrieving(endpoint: Endpoint) -> Guarded:
        return Permission.STUDIES_RETRIEVE, endpoint

    stores = (Permission.STUDIES_STORE, storing.store)
    deletes = (Permission.STUDIES_DELETE, deleting.delete)
    routes: list[BaseRoute] = [
        # Before the studies: no UID is "count".
        *(
            route(f"{path}/count", GET=searching(endpoint))
            for path, endpoint in (
                ("/patients", search.patient_count),
                ("/studies", search.study_count),
                ("/series", search.series_count),
                ("/instances", search.instance_count),
                (_STUDY + "/series", search.series_count),
                (_STUDY + "/instances", search.instance_count),
                (_SERIES + "/instances", search.instance_count),
            )
        ),
        route("/patients", GET=searching(search.patients)),
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
        *(
            route(level + resource, GET=retrieving(endpoint))
            for level in (_STUDY, _SERIES, _INSTANCE, _FRAMES)
            for resource, endpoint in (
                ("/rendered", rendered.rendered),
                ("/thumbnail", thumbnail.thumbnail),
            )
        ),
        route("/wado", GET=retrieving(wado_uri.retrieve)),
        route(_STUDY + "/series", GET=searching(search.series)),
        route(_SERIES + "/instances", GET=searching(search.instances)),
        route(_STUDY + "/instances", GET=searching(search.instances)),
        route("/series", GET=searching(search.series)),
        route("/instances", GET=searching(search.instances)),
        *workitem_routes(services, addresses),
    ]
    routes.append(_capabilities(services, addresses, routes))
    return Router(routes, redirect_slashes=False)


def _capabilities(services: HttpServices, addresses: Addresses, routes: list[BaseRoute]) -> Route:
    """``OPTIONS`` of the service itself, for whoever is known (PS3.18 §8.9)."""
    capabilities = Capabilities(addresses, routes)

    async def endpoint(request: Request) -> Response:
        if request.method != "OPTIONS":
            raise MethodNotAllowed(request.method, "OPTIONS")
        await services.gate.admit(request, None)
        return await capabilities.retrieve(request)

    route = Route("/", endpoint)
    route.methods = None  # all: the endpoint itself refuses
    declare(route, {"OPTIONS": KNOWN})
    return route


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
