"""UPS events over a WebSocket (PS3.18 §8.10, §11.10), by the websockets library as subscriber."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from isocenter.doors.http.guards import HttpPolicy
from isocenter.features.worklist.telling import (
    EVENTS_KEPT,
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    forget_reports,
    tell_one,
    waiting_reports,
)
from services.archive import ORGANIZATION
from services.dicomweb import HttpServer, http_server
from services.schema import fresh_url
from services.workitems import Scheduler, code, dicom_json, performed

STATE_REPORT, CANCEL_REQUESTED, PROGRESS, ASSIGNED = 1, 2, 3, 5


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        policy = HttpPolicy(frozenset({"https://viewer.example"}))
        async with http_server(tmp_path, database_url=url, policy=policy) as made:
            yield made


@pytest.fixture
def ups(server: HttpServer) -> Scheduler:
    return Scheduler(server.client, server.dicomweb)


def channel(server: HttpServer, title: str = "AE1", path: str = "/subscribers/", **more: Any) -> Any:
    return connect(server.dicomweb.replace("http", "ws", 1) + path + title, **more)


async def heard(socket: ClientConnection) -> tuple[int, str, dict[str, Any]]:
    """Event type, workitem and the whole report."""
    report = json.loads(await asyncio.wait_for(socket.recv(), 20))
    assert report["00000002"]["Value"] == ["1.2.840.10008.5.1.4.34.6.4"]
    return report["00001002"]["Value"][0], report["00001000"]["Value"][0], report


async def subscribe(ups: Scheduler, uid: str, query: str = "", title: str = "AE1") -> str:
    response = await ups.send("POST", f"/workitems/{uid}/subscribers/{title}{query}")
    assert response.status_code == 201, response.text
    return response.headers["content-location"]


async def test_a_subscriber_hears_of_its_workitem(ups: Scheduler, server: HttpServer) -> None:
    uid = await ups.create()
    other = await ups.create()
    location = await subscribe(ups, uid)
    assert location == f"{server.dicomweb}/subscribers/AE1".replace("http", "ws", 1)
    async with connect(location) as socket:
        event, named, report = await heard(socket)
        assert (event, named) == (STATE_REPORT, uid)
        assert report["00741000"]["Value"] == ["SCHEDULED"] and report["00404041"]["Value"] == ["READY"]
        await ups.move(other, "IN PROGRESS")  # nobody asked to hear of it
        await ups.update(uid, dicom_json(ScheduledStationNameCodeSequence=code("GPU9")), "")
        event, named, report = await heard(socket)
        assert (event, named) == (ASSIGNED, uid)
        assert report["00404025"]["Value"][0]["00080100"]["Value"] == ["GPU9"]
        await ups.move(uid, "IN PROGRESS")
        assert (await heard(socket))[2]["00741000"]["Value"] == ["IN PROGRESS"]
        progress = dicom_json(ProcedureStepProgressInformationSequence=dicom_json(ProcedureStepProgress="50"))
        await ups.update(uid, progress)
        event, _, report = await heard(socket)
        assert event == PROGRESS and report["00741002"]["Value"][0]["00741004"]["Value"] == ["50"]
        await ups.send(
            "POST",
            f"/workitems/{uid}/cancelrequest",
            dicom_json(ReasonForCancellation="Wrong patient", ContactDisplayName="Dr. House"),
        )
        event, _, report = await heard(socket)
        assert event == CANCEL_REQUESTED and report["00741236"]["Value"] == ["anybody"]
        assert report["00741238"]["Value"] == ["Wrong patient"]
        await ups.update(uid, performed())
        await ups.move(uid, "COMPLETED")
        event, _, report = await heard(socket)
        assert event == STATE_REPORT and report["00741000"]["Value"] == ["COMPLETED"]
        assert report["00000110"]["Value"] == [6]


async def test_who_was_away_is_told_later(ups: Scheduler, server: HttpServer) -> None:
    uid = await ups.create()
    await subscribe(ups, uid)
    async with channel(server) as socket:
        await heard(socket)
    await ups.move(uid, "IN PROGRESS")
    async with channel(server, path="/ws/subscribers/") as socket:
        assert (await heard(socket))[2]["00741000"]["Value"] == ["IN PROGRESS"]
        await ups.update(uid, performed())
        await ups.move(uid, "COMPLETED")
        assert (await heard(socket))[2]["00741000"]["Value"] == ["COMPLETED"]


async def test_the_whole_worklist(ups: Scheduler, server: HttpServer) -> None:
    old = await ups.create()
    await subscribe(ups, GLOBAL_SUBSCRIPTION)
    async with channel(server) as socket:
        assert (await heard(socket))[:2] == (STATE_REPORT, old)
        new = await ups.create()
        assert (await heard(socket))[:2] == (STATE_REPORT, new)
        assert (await heard(socket))[:2] == (ASSIGNED, new)
        suspended = await ups.send("POST", f"/workitems/{GLOBAL_SUBSCRIPTION}/subscribers/AE1/suspend")
        assert suspended.status_code == 200
        await ups.create()
        await ups.move(new, "IN PROGRESS")
        assert (await heard(socket))[:2] == (STATE_REPORT, new)
        gone = await ups.send("DELETE", f"/workitems/{GLOBAL_SUBSCRIPTION}/subscribers/AE1")
        assert gone.status_code == 200
        await ups.move(old, "IN PROGRESS")
        await subscribe(ups, old)
        assert (await heard(socket))[2]["00741000"]["Value"] == ["IN PROGRESS"]  # of the new subscription
    async with asyncio.timeout(20):  # they are forgotten once they were sent, which is a moment later
        while await waiting_reports(server.archive.database, ORGANIZATION, "AE1"):
            pass


async def test_a_filtered_worklist(ups: Scheduler, server: HttpServer) -> None:
    query = "?filter=ScheduledStationNameCodeSequence.CodeValue%3DGPU2,WorklistLabel%3DAI"
    await subscribe(ups, FILTERED_SUBSCRIPTION, query)
    for bad in ("", "?filter=nonsense", "?filter=NoSuchThing%3D1", "?deletionlock=perhaps"):
        path = f"/workitems/{FILTERED_SUBSCRIPTION}/subscribers/AE1{bad}"
        assert (await ups.send("POST", path)).status_code == 400
    async with channel(server) as socket:
        await ups.create()
        matching = await ups.create(ScheduledStationNameCodeSequence=code("GPU2"))
        assert (await heard(socket))[1] == matching


async def test_subscribers_are_told_apart(ups: Scheduler, server: HttpServer) -> None:
    first, second = await ups.create(), await ups.create()
    await subscribe(ups, first, title="AE1")
    await subscribe(ups, second, "?deletionlock=true", title="AE2")
    async with channel(server, "AE1") as one, channel(server, "AE2") as two:
        assert (await heard(one))[1] == first
        assert (await heard(two))[1] == second
    assert (await ups.send("POST", f"/workitems/{first}/subscribers/{'A' * 17}")).status_code == 400


async def test_a_newer_connection_takes_over(ups: Scheduler, server: HttpServer) -> None:
    uid = await ups.create()
    async with channel(server) as older, channel(server) as newer:
        await asyncio.wait_for(older.wait_closed(), 20)
        assert older.close_code == 4001
        await subscribe(ups, uid)
        assert (await heard(newer))[1] == uid


async def test_what_nobody_fetches_is_bounded(ups: Scheduler, server: HttpServer) -> None:
    uid = await ups.create()
    reports = [dicom_json(PatientID=str(number)) for number in range(EVENTS_KEPT + 5)]
    await server.archive.database.write(tell_one, ORGANIZATION, "AE1", uid, reports, 0)
    waiting = await waiting_reports(server.archive.database, ORGANIZATION, "AE1")
    assert json.loads(waiting[0][1])["00100020"]["Value"] == ["5"]
    assert await server.archive.one("SELECT count(*) FROM workitem_event") == EVENTS_KEPT


async def test_subscribers_that_talk_or_break_off(ups: Scheduler, server: HttpServer) -> None:
    uid = await ups.create()
    async with channel(server) as talking:
        await talking.send("hello")
        await talking.send(b"\x00" * 1000)
        await subscribe(ups, uid)
        assert (await heard(talking))[1] == uid
    broken = await channel(server)
    broken.transport.abort()
    await ups.move(uid, "IN PROGRESS")
    async with channel(server) as socket:
        assert (await heard(socket))[2]["00741000"]["Value"] == ["IN PROGRESS"]


async def test_pages_of_other_sites(server: HttpServer) -> None:
    async with channel(server, origin="https://viewer.example"):
        pass
    async with channel(server, origin=server.url):
        pass
    with pytest.raises(InvalidStatus) as refused:
        await channel(server, origin="https://evil.example")
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["code"] == "foreign-origin"
    assert (await server.get("/subscribers/AE1")).status_code == 426
    assert websockets.__version__


async def test_a_number_is_never_used_again(ups: Scheduler, server: HttpServer) -> None:
    """A connection that gives way may forget what it sent after the newer one has done so."""
    database, uid = server.archive.database, await ups.create()
    await database.write(tell_one, ORGANIZATION, "AE1", uid, [dicom_json(PatientID="1")], 0)
    ((sent, _),) = await waiting_reports(database, ORGANIZATION, "AE1")
    await forget_reports(database, ORGANIZATION, "AE1", sent)
    await database.write(tell_one, ORGANIZATION, "AE1", uid, [dicom_json(PatientID="2")], 0)
    await forget_reports(database, ORGANIZATION, "AE1", sent)
    assert len(await waiting_reports(database, ORGANIZATION, "AE1")) == 1
