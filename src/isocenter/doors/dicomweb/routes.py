"""The paths of DICOM's web services (PS3.18 §10) and who answers them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from isocenter.dicom.dictionary import keyword_of
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.capabilities import Capabilities
from isocenter.doors.dicomweb.delete import DeleteTransaction
from isocenter.doors.dicomweb.finding import OwnInstances
from isocenter.doors.dicomweb.resources import INSTANCE, SERIES, STUDY, Endpoint, retrieving_of
from isocenter.doors.dicomweb.search import SearchTransaction
from isocenter.doors.dicomweb.store import StoreTransaction
from isocenter.doors.dicomweb.wado_uri import WadoUriTransaction
from isocenter.doors.dicomweb.witness import witnessed
from isocenter.doors.dicomweb.workitem_routes import workitem_routes
from isocenter.doors.http.gate import KNOWN, declare
from isocenter.doors.http.refusals import MethodNotAllowed
from isocenter.doors.http.services import HttpServices
from isocenter.platform.security import Permission

MOUNT = "/dicom-web"

Guarded = tuple[Permission, Endpoint]


def dicomweb_door(services: HttpServices) -> Router:
    """The ASGI application to mount at `MOUNT`; plain routes, since validation by models would cost more
    than the searches themselves."""
    keyword_of(0x00100010)  # the dictionary takes a second to load: now, not with the first request
    addresses = Addresses(services.public_url, MOUNT)
    search = SearchTransaction(services, addresses)
    storing = StoreTransaction(services, addresses)
    deleting = DeleteTransaction(services)
    finder = OwnInstances(services)
    found = retrieving_of(services, addresses, finder)
    wado_uri = WadoUriTransaction(finder, found.retrieve, found.rendered)

    def route(path: str, **by_method: Guarded) -> Route:
        return guarded_route(path, services, by_method)

    def searching(endpoint: Endpoint) -> Guarded:
        return Permission.STUDIES_SEARCH, endpoint

    def retrieving(endpoint: Endpoint) -> Guarded:
        return Permission.STUDIES_RETRIEVE, endpoint

    stores = (Permission.STUDIES_STORE, storing.store)
    deletes = (Permission.STUDIES_DELETE, deleting.delete)
    others: dict[str, dict[str, Guarded]] = {
        STUDY: {"POST": stores, "DELETE": deletes},
        SERIES: {"DELETE": deletes},
        INSTANCE: {"PUT": stores, "POST": stores, "DELETE": deletes},
    }
    routes: list[BaseRoute] = [
        # Before the studies: no UID is "count".
        *(
            route(f"{path}/count", GET=searching(endpoint))
            for path, endpoint in (
                ("/patients", search.patient_count),
                ("/studies", search.study_count),
                ("/series", search.series_count),
                ("/instances", search.instance_count),
                (STUDY + "/series", search.series_count),
                (STUDY + "/instances", search.instance_count),
                (SERIES + "/instances", search.instance_count),
            )
        ),
        route("/patients", GET=searching(search.patients)),
        route("/studies", GET=searching(search.studies), POST=stores),
        *(
            route(path, GET=retrieving(endpoint), **others.get(path, {}))
            for path, endpoint in found.by_path.items()
        ),
        route("/wado", GET=retrieving(wado_uri.retrieve)),
        route(STUDY + "/series", GET=searching(search.series)),
        route(SERIES + "/instances", GET=searching(search.instances)),
        route(STUDY + "/instances", GET=searching(search.instances)),
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


def guarded_route(path: str, services: HttpServices, by_method: dict[str, Guarded]) -> Route:
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
