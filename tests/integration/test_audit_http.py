"""``/api/v1/audit``: reading, filtering, proving and exporting the trail; and that looking is recorded."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from isocenter.doors.http.application import create_app
from isocenter.doors.http.audit_routes import audit_router
from isocenter.doors.http.services import HttpServices
from isocenter.features.audit.trail import AuditTrail
from isocenter.platform.security import Action, EventOutcome
from services.archive import ORGANIZATION, TestArchive, opened
from services.audit import disarm, event, execute
from services.dicomweb import open_gate
from services.schema import fresh_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@dataclass
class Api:
    client: httpx2.AsyncClient
    trail: AuditTrail
    archive: TestArchive

    async def events(self, **params: Any) -> list[dict[str, Any]]:
        answer = await self.client.get("/audit", params=params)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["events"])


@pytest.fixture
async def api(url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with opened(url, tmp_path) as archive:
        trail = AuditTrail(archive.database, archive.clock)
        gate = open_gate()
        app = create_app(
            HttpServices(archive.database, archive.store, archive.ingest, gate),
            routers=(audit_router(archive.database, gate, trail),),
        )
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter/api/v1") as client:
            yield Api(client, trail, archive)
        await trail.close()


async def test_reading_and_that_it_is_recorded(api: Api) -> None:
    for number in range(1, 6):
        api.trail.record(event(number))
    await api.trail.settled()
    first = (await api.client.get("/audit", params={"limit": 2})).json()
    assert [one["sequence"] for one in first["events"]] == [5, 4]
    assert first["events"][0]["details"] == {"number": 5} and first["next_before"] == 4
    rest = await api.events(before=4, resource_kind="study")
    assert [one["sequence"] for one in rest] == [3, 2, 1]
    await api.trail.settled()
    looked = await api.events(resource_kind="audit")
    assert [one["action"] for one in looked] == ["read", "read"]
    assert looked[0]["details"] == {"how": "json", "entries": 3, "before": "4", "resource_kind": "study"}
    assert looked[0]["subject_kind"] == "anybody" and looked[0]["trace_id"]


async def test_filters(api: Api) -> None:
    api.trail.record(event(1, action=Action.LOGIN, outcome=EventOutcome.DENIED))
    api.trail.record(event(2, details={"PatientName": "M\N{LATIN SMALL LETTER U WITH DIAERESIS}LLER"}))
    await api.trail.settled()
    at = (await api.events())[-1]["at"]
    for params in ({"action": "login"}, {"outcome": "denied"}, {"resource": "1.2.3.1"}, {"before": 2}):
        assert [one["sequence"] for one in await api.events(**params)] == [1], params
    assert [
        one["sequence"] for one in await api.events(text="m\N{LATIN SMALL LETTER U WITH DIAERESIS}ll")
    ] == [2]
    assert [one["sequence"] for one in await api.events(subject="Dr. Grey", **{"from": at})] == [2, 1]
    assert await api.events(to=at) == []


@pytest.mark.parametrize(
    "query",
    [
        "action=nothing",
        "from=yesterday",
        "from=2026-01-01T00:00:00",
        "limit=0",
        "before=-1",
        f"text={201 * 'x'}",
    ],
)
async def test_nonsense_is_refused_in_words(api: Api, query: str) -> None:
    answer = await api.client.get(f"/audit?{query}")
    assert answer.status_code == 400 and answer.json()["code"] == "invalid-parameters"


async def test_csv_runs_nothing_in_a_spreadsheet(api: Api) -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", '"quoted", and more', "two\r\nlines"]
    for number, text in enumerate(hostile):
        api.trail.record(event(number, subject_name=text))
    await api.trail.settled()
    answer = await api.client.get("/audit", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    shown = [row["subject_name"] for row in reversed(rows)]
    assert shown == [*(f"'{text}" for text in hostile[:6]), *hostile[6:]]
    assert rows[0]["details"] == '{"number":7}' and rows[0]["at"].endswith("+00:00")


async def test_proof(api: Api) -> None:
    for number in range(1, 6):
        api.trail.record(event(number))
    await api.trail.settled()
    verdict = (await api.client.get("/audit/verify")).json()
    assert verdict["intact"] and verdict["entries"] == 5 and verdict["head"].startswith("5:")
    await api.trail.settled()
    again = (await api.client.get("/audit/verify", params={"expect": verdict["head"]})).json()
    assert again["intact"] and again["entries"] == 6
    assert (await api.client.get("/audit/verify", params={"expect": "5:beef"})).status_code == 400
    forged = (await api.client.get("/audit/verify", params={"expect": "5:" + "0" * 64})).json()
    assert forged["broken"]["damage"] == "changed" and forged["broken"]["sequence"] == 5
    await disarm(api.archive.database)
    await execute(api.archive.database, "DELETE FROM audit_event WHERE sequence = 3")
    broken = (await api.client.get("/audit/verify")).json()
    assert (
        not broken["intact"] and broken["broken"]["damage"] == "removed" and broken["broken"]["sequence"] == 3
    )


async def test_fhir(api: Api) -> None:
    api.trail.record(event(1))
    await api.trail.settled()
    answer = await api.client.get("/audit/fhir")
    assert answer.headers["content-type"].startswith("application/fhir+json")
    bundle = answer.json()
    assert (bundle["resourceType"], bundle["type"], len(bundle["entry"])) == ("Bundle", "collection", 1)
    found = bundle["entry"][0]["resource"]
    assert found["resourceType"] == "AuditEvent" and found["type"]["code"] == "110103"
    assert found["id"] == f"{ORGANIZATION}-1"


async def test_another_organisation_has_another_trail(api: Api) -> None:
    await execute(
        api.archive.database, "INSERT INTO organization (id, slug, created_at_us) VALUES (2, 'other', 0)"
    )
    api.trail.record(event(1, organization_id=2))
    await api.trail.settled()
    assert await api.events() == []
