"""Retrieve Capabilities (PS3.18 §8.9): what this service offers, made of its own routes.

As WADL (the default) or as JSON of the same. A route that the table below knows nothing of is listed all
the same, with its methods alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.answers import accepted
from isocenter.doors.dicomweb.media_types import DICOM, DICOM_JSON, JSON, OCTET_STREAM, parse_accept
from isocenter.doors.http.gate import declared
from isocenter.doors.http.refusals import NotAcceptable

WADL = "application/vnd.sun.wadl+xml"
_NAMESPACE = "http://wadl.dev.java.net/2009/02"

_DICOM_XML = "application/dicom+xml"
_PARTS = f'multipart/related; type="{DICOM}"'
_SEARCH = ("{attributeID}", "includefield", "fuzzymatching", "limit", "offset", "emptyvaluematching")
_WORKITEM = "/workitems/{workitem}"
_SUBSCRIBER = _WORKITEM + "/subscribers/{aetitle}"
_BODIES = (DICOM_JSON, _DICOM_XML)


@dataclass(frozen=True, slots=True)
class Transaction:
    """``name`` as PS3.18 calls it. ``query``: parameters; ``takes`` and ``gives``: media types."""

    name: str
    query: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    path: str
    method: str
    permission: str
    transaction: Transaction


_KNOWN: dict[tuple[str, str], Transaction] = {
    ("GET", "/workitems"): Transaction(
        "SearchForUPS", _SEARCH[:5], gives=(DICOM_JSON, f'multipart/related; type="{_DICOM_XML}"')
    ),
    ("POST", "/workitems"): Transaction("CreateUPS", ("workitem",), takes=_BODIES),
    ("GET", _WORKITEM): Transaction("RetrieveUPS", gives=_BODIES),
    ("POST", _WORKITEM): Transaction("UpdateUPS", ("transaction",), takes=_BODIES),
    ("PUT", _WORKITEM + "/state"): Transaction("ChangeUPSState", takes=_BODIES),
    ("POST", _WORKITEM + "/cancelrequest"): Transaction("RequestUPSCancellation", takes=_BODIES),
    ("POST", _SUBSCRIBER): Transaction("CreateSubscription", ("deletionlock", "filter")),
    ("DELETE", _SUBSCRIBER): Transaction("DeleteSubscription"),
    ("POST", _SUBSCRIBER + "/suspend"): Transaction("SuspendGlobalSubscription"),
    ("GET", "/subscribers/{aetitle}"): Transaction("OpenEventChannel"),
    ("GET", "/ws/subscribers/{aetitle}"): Transaction("OpenEventChannel"),
    ("OPTIONS", "/"): Transaction("RetrieveCapabilities", gives=(WADL, JSON)),
}
# By the path's last words, for resources that exist at several levels.
_BY_ENDING: dict[tuple[str, str], Transaction] = {
    ("GET", "patients"): Transaction("SearchForPatients", _SEARCH, gives=(DICOM_JSON,)),
    ("GET", "studies"): Transaction("SearchForStudies", _SEARCH, gives=(DICOM_JSON,)),
    ("GET", "series"): Transaction("SearchForSeries", _SEARCH, gives=(DICOM_JSON,)),
    ("GET", "instances"): Transaction("SearchForInstances", _SEARCH, gives=(DICOM_JSON,)),
    ("POST", "studies"): Transaction("StoreInstances", takes=(_PARTS, DICOM), gives=(DICOM_JSON,)),
    ("POST", "{study}"): Transaction("StoreStudyInstances", takes=(_PARTS, DICOM), gives=(DICOM_JSON,)),
    ("GET", "{study}"): Transaction("RetrieveStudy", gives=(_PARTS,)),
    ("GET", "{series}"): Transaction("RetrieveSeries", gives=(_PARTS,)),
    ("GET", "{instance}"): Transaction("RetrieveInstance", gives=(_PARTS, DICOM)),
    ("GET", "metadata"): Transaction("RetrieveMetadata", gives=(DICOM_JSON,)),
    ("GET", "{path:path}"): Transaction("RetrieveBulkdata", gives=(OCTET_STREAM,)),
    ("DELETE", "{study}"): Transaction("DeleteStudy"),
    ("DELETE", "{series}"): Transaction("DeleteSeries"),
    ("DELETE", "{instance}"): Transaction("DeleteInstance"),
}


def operations_of(routes: Iterable[BaseRoute]) -> list[Operation]:
    """Every method of every route, in their order; HEAD goes without saying."""
    found = []
    for route in routes:
        declaration = declared(route)
        if isinstance(route, WebSocketRoute) or declaration is None or isinstance(declaration, str):
            continue
        path = str(getattr(route, "path", ""))
        for method, permission in declaration.items():
            if method != "HEAD":
                found.append(Operation(path, method, str(permission), _transaction(method, path)))
    return found


def _transaction(method: str, path: str) -> Transaction:
    known = _KNOWN.get((method, path)) or _BY_ENDING.get((method, path.rpartition("/")[2]))
    return known or Transaction("")


class Capabilities:
    """``routes`` is filled once the door has all of its routes."""

    def __init__(self, addresses: Addresses, routes: Sequence[BaseRoute]) -> None:
        self._addresses = addresses
        self._routes = routes

    async def retrieve(self, request: Request) -> Response:
        base = self._addresses.base(request)
        operations = operations_of(self._routes)
        media_type = _chosen(accepted(request))
        body = wadl(base, operations) if media_type == WADL else orjson.dumps(as_json(base, operations))
        return Response(body, media_type=media_type)


def _chosen(accept: str) -> str:
    for media_range in parse_accept(accept):
        for media_type in (WADL, JSON):
            if media_range.covers(media_type):
                return media_type
    raise NotAcceptable(f"Capabilities are available as {WADL} and {JSON}.", remedy=f"Send 'Accept: {WADL}'.")


def as_json(base: str, operations: Sequence[Operation]) -> dict[str, Any]:
    return {
        "base": base,
        "resources": [
            {
                "path": path,
                "methods": [
                    {
                        "name": one.method,
                        "id": one.transaction.name,
                        "permission": one.permission,
                        "query": list(one.transaction.query),
                        "takes": list(one.transaction.takes),
                        "gives": list(one.transaction.gives),
                    }
                    for one in some
                ],
            }
            for path, some in _by_path(operations)
        ],
    }


def wadl(base: str, operations: Sequence[Operation]) -> bytes:
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<application xmlns="{_NAMESPACE}">']
    lines.append(f"<resources base={quoteattr(base)}>")
    for path, some in _by_path(operations):
        lines.append(f"<resource path={quoteattr(path.lstrip('/').replace(':path}', '}'))}>")
        for one in some:
            lines += _method(one)
        lines.append("</resource>")
    lines += ["</resources>", "</application>"]
    return "\n".join(lines).encode()


def _method(one: Operation) -> list[str]:
    named = f" id={quoteattr(one.transaction.name)}" if one.transaction.name else ""
    lines = [f"<method name={quoteattr(one.method)}{named}>", "<request>"]
    lines += [f'<param name={quoteattr(name)} style="query"/>' for name in one.transaction.query]
    lines += [f"<representation mediaType={quoteattr(one_type)}/>" for one_type in one.transaction.takes]
    lines += ["</request>", "<response>"]
    lines += [f"<representation mediaType={quoteattr(one_type)}/>" for one_type in one.transaction.gives]
    return [*lines, "</response>", "</method>"]


def _by_path(operations: Sequence[Operation]) -> list[tuple[str, list[Operation]]]:
    found: dict[str, list[Operation]] = {}
    for one in operations:
        found.setdefault(one.path, []).append(one)
    return list(found.items())
