"""Who is asking, and may they? Every route says which permission it needs, or that it is public.

    reads = gate.needs(Permission.X)                     # FastAPI
    async def list_entries(subject: Subject = reads): ...

    declare(route, {"GET": Permission.X})                # Starlette, whose endpoint calls gate.admit()
    public(Route("/health/live", live))

A test walks all routes and refuses one without a declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from isocenter.kit.errors import Forbidden, Unauthenticated
from isocenter.platform.security import (
    Action,
    EventOutcome,
    NoRecorder,
    Permission,
    Recorder,
    Subject,
    event_of,
)

PUBLIC = "public"
"""What a route declares that anybody may call: health, the starting page, logging in."""

KNOWN = "known"
"""What a route declares that everybody may call who has a credential: who am I, log out."""

Declaration = str | Mapping[str, str]
"""``PUBLIC``, or the permission by method."""


def declare(route: BaseRoute, declaration: Declaration) -> None:
    route.declared = declaration  # type: ignore[attr-defined]


def public(route: Route) -> Route:
    declare(route, PUBLIC)
    return route


def declared(route: BaseRoute) -> Declaration | None:
    """What a route says of who may call it; None where it says nothing."""
    found: Declaration | None = getattr(route, "declared", None)
    if found is None and isinstance(route, APIRoute):
        asked = [getattr(one.call, "permission", None) for one in route.dependant.dependencies]
        permissions = [permission for permission in asked if permission]
        if permissions:
            found = dict.fromkeys(route.methods or (), str(permissions[0]))
    return found


class NobodyKnown(Unauthenticated):
    """No credentials, or none that count. One answer for all of these: it must not tell which."""

    default_code = "not-authenticated"

    def __init__(self) -> None:
        super().__init__(
            "This needs a valid credential.",
            remedy="Log in and send 'Authorization: Bearer …', or send 'Authorization: Api-Key …'.",
        )
        self.headers = {"WWW-Authenticate": 'Bearer realm="isocenter", Api-Key realm="isocenter"'}


class Authenticator(Protocol):
    async def subject_of(self, authorization: str, address: str) -> Subject:
        """Whose credential that is (the header's whole value). Raises Unauthenticated."""
        ...


class Gate:
    """``anybody`` is who asks without credentials where the operator switched logins off."""

    def __init__(
        self,
        authenticator: Authenticator | None,
        *,
        anybody: Subject | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._anybody = anybody
        self._recorder = recorder or NoRecorder()

    async def admit(self, request: Request, permission: Permission | None) -> Subject:
        """The subject, who is also in ``request.state.subject`` then; with None whoever is known may.

        Raises Unauthenticated, Forbidden.
        """
        subject = await self._subject_of(request)
        request.state.subject = subject
        if permission is not None and not subject.may(permission):
            self._recorder.record(
                event_of(
                    subject,
                    Action.ACCESS,
                    outcome=EventOutcome.DENIED,
                    resource_kind="permission",
                    resource_id=permission,
                    trace_id=request.state.trace_id,
                )
            )
            raise Forbidden(
                f"This needs the permission {permission}.",
                code="permission-missing",
                remedy="Ask an administrator of your organisation for it.",
            )
        return subject

    def needs(self, permission: Permission | None) -> Any:
        """A FastAPI dependency: the subject, who has the permission (None: whoever is known)."""

        async def admitted(request: Request) -> Subject:
            return await self.admit(request, permission)

        admitted.permission = permission or KNOWN  # type: ignore[attr-defined]
        return Depends(admitted)

    async def _subject_of(self, request: Request) -> Subject:
        authorization = request.headers.get("authorization")
        if authorization is None or self._authenticator is None:
            if self._anybody is not None:
                return self._anybody
            raise NobodyKnown
        try:
            return await self._authenticator.subject_of(authorization, client_address(request))
        except Unauthenticated:
            raise NobodyKnown from None


def client_address(request: Request) -> str:
    """Where the request came from; where a trusted proxy stands in between, what it says (proxies.py)."""
    return request.client.host if request.client else ""
