"""Notification connections (PS3.18 §8.10): UPS event reports over a WebSocket, one a subscriber.

Reports wait in the database until they were sent, so that a subscriber which was away is told what it missed.
They are forgotten after they were sent: one that is cut off in between may hear a report twice. A newer
connection of the same AE title takes the place of an older one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from isocenter.doors.http.problems import problem
from isocenter.doors.http.refusals import UpgradeRequired
from isocenter.doors.http.services import HttpServices
from isocenter.features.worklist.telling import Listeners, forget_reports, waiting_reports
from isocenter.kit.errors import Busy, Forbidden, IsocenterError
from isocenter.platform.security import Action, Permission, Subject, event_of

_LOOK_EVERY_S = 2.0
"""For what other processes wrote."""
_ADMITTED_AGAIN_EVERY_S = 60.0
_POLICY_VIOLATION, _REPLACED, _TRY_AGAIN = 1008, 4001, 1013
_MESSAGE_IDS = 0xFFFF
_CONNECTIONS_MAX = 1000


class ForeignPage(Forbidden):
    """A page of another site: browsers send its visitor's address, and perhaps cookies, along."""

    default_code = "foreign-origin"

    def __init__(self) -> None:
        super().__init__(
            "A page of this origin may not open connections here.",
            remedy="The operator lists origins in cors_origins.",
        )


class Notifications:
    def __init__(self, services: HttpServices, listeners: Listeners) -> None:
        self._services = services
        self._listeners = listeners
        self._current: dict[tuple[int, str], asyncio.Event] = {}

    async def without_upgrade(self, _: Request) -> Response:
        raise UpgradeRequired

    async def connect(self, socket: WebSocket) -> None:
        socket.state.trace_id = ""
        try:
            self._services.policy.check(socket.scope)
            self._check_origin(socket)
            subject = await self._admit(socket)
            if len(self._current) >= _CONNECTIONS_MAX:
                raise Busy(f"{_CONNECTIONS_MAX} notification connections are open, the most there may be.")
        except IsocenterError as error:
            status, headers, body = problem(error, "")
            await socket.send_denial_response(Response(body, status, headers))
            return
        title = socket.path_params["aetitle"]
        self._services.recorder.record(
            event_of(subject, Action.READ, resource_kind="workitem", details={"subscriber": title})
        )
        await socket.accept()
        with self._only_one(subject.organization_id, title) as replaced:
            code = await self._run(socket, subject.organization_id, title, replaced)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it may be gone
            await socket.close(code)

    async def _run(self, socket: WebSocket, organization_id: int, title: str, replaced: asyncio.Event) -> int:
        """Until the subscriber leaves; the code to close with."""
        loop = asyncio.get_running_loop()
        leaving = asyncio.create_task(_drained(socket))
        giving_way = asyncio.create_task(replaced.wait())
        check_at_s = loop.time() + _ADMITTED_AGAIN_EVERY_S
        number = 0
        try:
            with self._listeners.listening(organization_id) as woken:
                while not leaving.done() and not giving_way.done():
                    woken.clear()
                    number, sent = await self._send_waiting(socket, organization_id, title, number)
                    if sent:
                        continue
                    if loop.time() > check_at_s:
                        await self._admit(socket)
                        check_at_s = loop.time() + _ADMITTED_AGAIN_EVERY_S
                    await _first_of(leaving, giving_way, woken)
        except WebSocketDisconnect:
            pass
        except IsocenterError as error:
            return _POLICY_VIOLATION if isinstance(error, Forbidden) or error.code == _UNKNOWN else _TRY_AGAIN
        finally:
            leaving.cancel()
            giving_way.cancel()
            await asyncio.gather(leaving, giving_way, return_exceptions=True)
        return _REPLACED if replaced.is_set() else 1000

    async def _send_waiting(
        self, socket: WebSocket, organization_id: int, title: str, number: int
    ) -> tuple[int, bool]:
        reports = await waiting_reports(self._services.database, organization_id, title)
        for _, document in reports:
            number = number % _MESSAGE_IDS + 1
            report: dict[str, Any] = orjson.loads(document)
            report["00000110"] = {"vr": "US", "Value": [number]}
            await socket.send_text(orjson.dumps(dict(sorted(report.items()))).decode())
        if reports:
            await forget_reports(self._services.database, organization_id, title, reports[-1][0])
        return number, bool(reports)

    @contextlib.contextmanager
    def _only_one(self, organization_id: int, title: str) -> Any:
        place = (organization_id, title)
        if older := self._current.get(place):
            older.set()
        mine = self._current[place] = asyncio.Event()
        try:
            yield mine
        finally:
            if self._current.get(place) is mine:
                del self._current[place]

    async def _admit(self, socket: HTTPConnection) -> Subject:
        # The gate reads headers, address and state: all that a request and a WebSocket have in common.
        return await self._services.gate.admit(socket, Permission.WORKLIST_READ)  # type: ignore[arg-type]

    def _check_origin(self, socket: WebSocket) -> None:
        """Browsers let any page open a WebSocket anywhere; only the server can tell them apart (RFC 6455
        §10.2)."""
        origin = socket.headers.get("origin")
        if origin is None or origin in self._services.policy.origins:
            return
        if urlsplit(origin).netloc.lower() != socket.headers.get("host", "").lower():
            raise ForeignPage


_UNKNOWN = "not-authenticated"


async def _drained(socket: WebSocket) -> None:
    """Returns when the peer has closed; whatever it says before is of no interest."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _first_of(
    leaving: asyncio.Task[None], giving_way: asyncio.Task[bool], woken: asyncio.Event
) -> None:
    waking = asyncio.create_task(woken.wait())
    try:
        await asyncio.wait(
            {leaving, giving_way, waking}, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        waking.cancel()
