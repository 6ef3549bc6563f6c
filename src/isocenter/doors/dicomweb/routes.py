"""The paths of DICOM's web services (PS3.18 §10) and who answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from isocenter.dicom.dictionary import keyword_of
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.delete import DeleteTransaction
from isocenter.doors.dicomweb.metadata import MetadataTransaction
from isocenter.doors.dicomweb.retrieve import RetrieveTransaction
from isocenter.doors.dicomweb.search import SearchTransaction
from isocenter.doors.dicomweb.store import StoreTransaction
from isocenter.doors.http.refusals import MethodNotAllowed
from isocenter.doors.http.services import HttpServices

MOUNT = "/dicom-web"

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"

Endpoint = Callable[[Request], Awaitable[Response]]


def dicomweb_door(services: HttpServices) -> Router:
    """The ASGI application to mount at `MOUNT`; plain routes, since validation by models would cost more
    than the searches themselves."""
    keyword_of(0x00100010)  # the dictionary takes a second to load: now, not with the first request
    addresses = Addresses(services.public_url, MOUNT)
    search = SearchTransaction(services, addresses)
    retrieve = RetrieveTransaction(services)
    metadata = MetadataTransaction(services, addresses)
    storing = StoreTransaction(services, addresses)
    deleting = DeleteTransaction(services)
    routes = [
        _route("/studies", GET=search.studies, POST=storing.store),
        _route(_STUDY, GET=retrieve.objects, POST=storing.store, DELETE=deleting.delete),
        _route(_SERIES, GET=retrieve.objects, DELETE=deleting.delete),
        _route(_INSTANCE, GET=retrieve.objects, DELETE=deleting.delete),
        _route(_STUDY + "/metadata", GET=metadata.metadata),
        _route(_SERIES + "/metadata", GET=metadata.metadata),
        _route(_INSTANCE + "/metadata", GET=metadata.metadata),
        _route(_INSTANCE + "/bulkdata/{path:path}", GET=metadata.bulk_data),
        _route(_STUDY + "/series", GET=search.series),
        _route(_SERIES + "/instances", GET=search.instances),
        _route(_STUDY + "/instances", GET=search.instances),
        _route("/series", GET=search.series),
        _route("/instances", GET=search.instances),
    ]
    return Router(routes, redirect_slashes=False)


def _route(path: str, **by_method: Endpoint) -> Route:
    """One route per path, so that a wrong method is told all the right ones."""
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]
    allowed = ", ".join(by_method)

    async def endpoint(request: Request) -> Response:
        found = by_method.get(request.method)
        if found is None:
            raise MethodNotAllowed(request.method, allowed)
        return await found(request)

    route = Route(path, endpoint)
    route.methods = None  # all: the endpoint itself refuses
    return route
