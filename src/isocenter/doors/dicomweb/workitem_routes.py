"""The paths of UPS-RS (PS3.18 Table 11.1.1-1), and which permission each needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.notifications import Notifications
from isocenter.doors.dicomweb.workitems import WorkitemTransactions, transaction_uid_of
from isocenter.doors.http.gate import declare
from isocenter.doors.http.refusals import MethodNotAllowed
from isocenter.doors.http.services import HttpServices
from isocenter.features.worklist.subscriptions import Subscriptions
from isocenter.features.worklist.workitems import Workitems
from isocenter.platform.security import Permission

_READS, _MANAGES, _PERFORMS = (
    Permission.WORKLIST_READ,
    Permission.WORKLIST_MANAGE,
    Permission.WORKLIST_PERFORM,
)
_WORKITEM = "/workitems/{workitem}"
_SUBSCRIBER = _WORKITEM + "/subscribers/{aetitle}"
_CHANNELS = ("/subscribers/{aetitle}", "/ws/subscribers/{aetitle}")

Endpoint = Callable[[Request], Awaitable[Response]]


def workitem_routes(services: HttpServices, addresses: Addresses) -> list[BaseRoute]:
    workitems = Workitems(services.database, services.clock)
    subscriptions = Subscriptions(services.database, services.clock, workitems.listeners)
    on = WorkitemTransactions(services, addresses, workitems, subscriptions)
    notifications = Notifications(services, workitems.listeners)

    def route(path: str, **by_method: tuple[Permission, Endpoint]) -> Route:
        return _route(path, services, by_method)

    routes: list[BaseRoute] = [
        route("/workitems", GET=(_READS, on.search), POST=(_MANAGES, on.create)),
        route(_WORKITEM, GET=(_READS, on.retrieve), POST=(_MANAGES, on.update)),
        route(_WORKITEM + "/state", PUT=(_PERFORMS, on.change_state)),
        route(_WORKITEM + "/cancelrequest", POST=(_MANAGES, on.request_cancellation)),
        route(_SUBSCRIBER, POST=(_READS, on.subscribe), DELETE=(_READS, on.unsubscribe)),
        route(_SUBSCRIBER + "/suspend", POST=(_READS, on.suspend)),
    ]
    for path in _CHANNELS:
        channel = WebSocketRoute(path, notifications.connect)
        declare(channel, {"GET": _READS})
        routes += [route(path, GET=(_READS, notifications.without_upgrade)), channel]
    return routes


def _route(path: str, services: HttpServices, by_method: dict[str, tuple[Permission, Endpoint]]) -> Route:
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]
    allowed = ", ".join(by_method)

    async def endpoint(request: Request) -> Response:
        found = by_method.get(request.method)
        if found is None:
            raise MethodNotAllowed(request.method, allowed)
        permission, answer = found
        if path == _WORKITEM and request.method == "POST" and transaction_uid_of(request):
            permission = _PERFORMS  # its owner's update; before it is claimed, whoever schedules
        await services.gate.admit(request, permission)
        return await answer(request)

    route = Route(path, endpoint)
    route.methods = None  # all: the endpoint itself refuses
    declare(route, {method: permission for method, (permission, _) in by_method.items()})
    return route
