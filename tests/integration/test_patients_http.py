"""``/api/v1/patients``: what persons do with patients, and what the audit trail is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import orjson
import pytest
from starlette.routing import BaseRoute

from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.application import create_app
from isocenter.doors.http.gate import declared
from isocenter.doors.http.patient_routes import patient_router
from isocenter.doors.http.services import HttpServices
from isocenter.features.archive.patients.services import patients_of
from isocenter.features.audit.trail import AuditTrail
from isocenter.kit.clock import SystemClock
from isocenter.platform.security import PERMISSIONS_OF_ROLE, Permission, Role
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.dicomweb import open_gate
from services.schema import fresh_url

NOWHERE = "7" * 32
ODD = "A/../?&#%00\N{SNOWMAN} x"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []


@pytest.fixture
async def recorder(archive: TestArchive) -> AsyncIterator[AuditTrail]:
    made = AuditTrail(archive.database, archive.clock, linger_s=0)
    yield made
    await made.close()


@pytest.fixture
async def api(archive: TestArchive, recorder: AuditTrail) -> AsyncIterator[httpx2.AsyncClient]:
    gate = open_gate()
    services = HttpServices(archive.database, archive.store, archive.ingest, gate)
    app = create_app(
        services,
        routers=(patient_router(patients_of(archive.database, archive.clock), gate, recorder),),
        mounts={MOUNT: dicomweb_door(services)},
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter") as client:
        yield client
    await services.workers.close()


def image(number: int, patient_id: str, **more: Any) -> Image:
    study = f"1.{number}"
    told = {"name": "DOE^JANE", **more}
    return Image(
        sop=f"{study}.1.1", series=f"{study}.1", study=study, patient_id=patient_id.encode(), **told
    ).but(more=((0x00080005, "CS", "ISO_IR 192"),))


def who(patient_id: str, issuer: str = "") -> dict[str, str]:
    return {"patient_id": patient_id, "issuer": issuer}


async def post(api: httpx2.AsyncClient, path: str, body: Any, status: int = 200) -> dict[str, Any]:
    answer = await api.post(f"/api/v1/patients/{path}", json=body)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def get(api: httpx2.AsyncClient, path: str = "", **query: Any) -> dict[str, Any]:
    answer = await api.get(f"/api/v1/patients{path}", params=query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def studies_of(api: httpx2.AsyncClient, patient_id: str) -> list[str]:
    answer = await api.get("/dicom-web/studies", params={"PatientID": patient_id})
    return sorted(one["0020000D"]["Value"][0] for one in answer.json()) if answer.content else []


async def trail(archive: TestArchive, recorder: AuditTrail) -> list[tuple[str, str, str, dict[str, Any]]]:
    await recorder.settled()
    rows = await archive.rows(
        "SELECT action, resource_kind, resource_id, outcome, details FROM audit_event "
        "WHERE organization_id = :id AND resource_kind LIKE 'patient%' ORDER BY sequence",
        id=ORGANIZATION,
    )
    return [
        (
            row["action"],
            row["resource_kind"],
            row["resource_id"],
            row["outcome"],
            orjson.loads(row["details"]),
        )
        for row in rows
    ]


async def test_merge_and_back(api: httpx2.AsyncClient, archive: TestArchive, recorder: AuditTrail) -> None:
    await archive.send(image(1, ODD), image(2, "B"))
    body = {"source": who(ODD), "target": who("B"), "reason": "one person"}
    assert await post(api, "merge", body) == {"studies": ["1.1"]}
    assert await studies_of(api, ODD) == await studies_of(api, "B") == ["1.1", "1.2"]
    gone = await get(api, patient_id=ODD)
    assert gone["studies"] == 0
    assert (gone["merged"]["survivor"], gone["merged"]["reason"]) == (who("B"), "one person")
    left = await get(api, patient_id="B")
    assert [one["patient"] for one in left["behind"]] == [who(ODD)] and left["studies"] == 2
    assert left["attributes"]["00100020"]["Value"] == ["B"] and left["merged"] is None
    assert await post(api, "unmerge", {"patient": who(ODD)}) == {"studies": ["1.1"]}
    assert await studies_of(api, ODD) == ["1.1"]
    assert [(one[0], one[1], one[2], one[3]) for one in await trail(archive, recorder)] == [
        ("change", "patient", ODD, "success"),
        ("read", "patient", ODD, "success"),
        ("read", "patient", "B", "success"),
        ("change", "patient", ODD, "success"),
    ]
    told = (await trail(archive, recorder))[0][4]
    assert told == {
        "doing": "merge",
        "issuer": "",
        "other": "B",
        "other_issuer": "",
        "why": "one person",
        "studies": 1,
    }


async def test_another_id_links_and_corrections(
    api: httpx2.AsyncClient, archive: TestArchive, recorder: AuditTrail
) -> None:
    await archive.send(image(1, "A"), image(2, "B"))
    change = {"patient": who("A"), "to": who("N", "X"), "reason": "misread"}
    assert await post(api, "change-id", change) == {"studies": ["1.1"]}
    assert await studies_of(api, "A") == ["1.1"]
    linked = await post(api, "link", {"patient": who("N", "X"), "other": who("B")})
    assert [one["patient"] for one in linked["links"]] == [who("B")]
    unlinked = await post(api, "unlink", {"patient": who("B"), "other": who("A")})
    assert unlinked["links"] == []
    corrected = await post(api, "correct", {"patient": who("N", "X"), "name": "Roe^Ann", "sex": "O"})
    assert corrected["corrected"]
    assert corrected["attributes"]["00100010"]["Value"] == [{"Alphabetic": "Roe^Ann"}]
    assert corrected["attributes"]["00100040"]["Value"] == ["O"]
    back = await post(api, "change-id", {"patient": who("N", "X"), "to": who("A")}, 409)
    assert back["code"] == "patient-id-taken" and "undo the merge" in back["remedy"]
    doings = [one[4]["doing"] for one in await trail(archive, recorder)]
    assert doings == ["change-id", "link", "unlink", "correct", "change-id"]


async def test_contradictions_are_settled(
    api: httpx2.AsyncClient, archive: TestArchive, recorder: AuditTrail
) -> None:
    await archive.send(
        image(1, "A"), image(2, "A", birth_date="19800101"), image(3, "A", birth_date="19900101")
    )
    page = await get(api, "/conflicts", limit=1)
    [first] = page["conflicts"]
    assert (first["tag"], first["kept"]["Value"], first["other"]["Value"]) == (
        "00100030",
        ["19700101"],
        ["19800101"],
    )
    assert (await get(api, "/conflicts", patient_id="A", limit=1)) == page
    rest = await get(api, "/conflicts", after=page["next_after"])
    assert len(rest["conflicts"]) == 1 and rest["next_after"] is None
    settled = await post(api, f"conflicts/{first['id']}/settle", {"decision": "take", "note": "passport"})
    assert (settled["state"], settled["settled_by"], settled["settled_note"]) == (
        "taken",
        "anybody",
        "passport",
    )
    assert await get(api, f"/conflicts/{first['id']}") == settled
    answer = await api.get("/dicom-web/studies", params={"PatientBirthDate": "19800101"})
    assert len(answer.json()) == 3
    again = await post(api, f"conflicts/{first['id']}/settle", {"decision": "keep"}, 409)
    assert again["code"] == "already-settled"
    assert [one[:4] for one in await trail(archive, recorder)][-3:] == [
        ("change", "patient-conflict", first["id"], "success"),
        ("read", "patient-conflict", first["id"], "success"),
        ("change", "patient-conflict", first["id"], "failed"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("merge", {"source": who("A"), "target": who("A")}, 400, "same-patient"),
        ("merge", {"source": who("A"), "target": who("SECRET")}, 404, "no-such-patient"),
        ("merge", {"source": who("A"), "target": who("SECRET\0")}, 400, "invalid-patient-id"),
        ("merge", {"source": who("A"), "target": who("B"), "reason": "\0"}, 400, "invalid-value"),
        ("merge", {"source": who("A"), "target": who("")}, 400, "invalid-parameters"),
        ("merge", {"source": who("A"), "target": who("SECRET" * 20)}, 400, "invalid-parameters"),
        ("merge", {"source": "SECRET", "target": who("B")}, 400, "invalid-parameters"),
        ("merge", {}, 400, "invalid-parameters"),
        ("unmerge", {"patient": who("A")}, 409, "patient-not-merged"),
        ("change-id", {"patient": who("A"), "to": who(" SECRET")}, 400, "invalid-patient-id"),
        ("change-id", {"patient": who("A"), "to": who("SECRET\n")}, 400, "invalid-patient-id"),
        ("change-id", {"patient": who("A"), "to": who("B")}, 409, "patient-id-taken"),
        ("link", {"patient": who("A"), "other": who("A")}, 400, "same-patient"),
        ("unlink", {"patient": who("A"), "other": who("B")}, 404, "no-such-link"),
        ("correct", {"patient": who("A")}, 400, "invalid-demographics"),
        ("correct", {"patient": who("A"), "birth_date": "SECRET"}, 400, "invalid-demographics"),
        ("correct", {"patient": who("A"), "SECRET": 1}, 400, "invalid-parameters"),
        (f"conflicts/{NOWHERE}/settle", {"decision": "keep"}, 404, "no-such-conflict"),
        (f"conflicts/{NOWHERE}/settle", {"decision": "SECRET"}, 400, "invalid-parameters"),
        ("conflicts/SECRET/settle", {"decision": "keep"}, 400, "invalid-parameters"),
    ],
)
async def test_mistakes_are_problem_documents(
    api: httpx2.AsyncClient, archive: TestArchive, path: str, body: Any, status: int, code: str
) -> None:
    await archive.send(image(1, "A"), image(2, "B"))
    document = await post(api, path, body, status)
    assert document["code"] == code and document["detail"]
    assert "SECRET" not in document["detail"].replace("body.SECRET", "").replace("SECRET:", "")
    assert "SECRET" not in document.get("remedy", "")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid-parameters"),
        ("?patient_id=SECRET", 404, "no-such-patient"),
        ("?patient_id=A&issuer=SECRET", 404, "no-such-patient"),
        ("?patient_id=SECRET%00", 400, "invalid-patient-id"),
        ("?patient_id=" + "SECRET" * 20, 400, "invalid-parameters"),
        ("/conflicts?after=" + NOWHERE, 404, "no-such-conflict"),
        ("/conflicts?after=SECRET", 400, "invalid-parameters"),
        ("/conflicts?limit=100000", 400, "invalid-parameters"),
        ("/conflicts?state=SECRET", 400, "invalid-parameters"),
        (f"/conflicts/{NOWHERE}", 404, "no-such-conflict"),
    ],
)
async def test_questions_that_are_none(
    api: httpx2.AsyncClient, archive: TestArchive, query: str, status: int, code: str
) -> None:
    await archive.send(image(1, "A"))
    answer = await api.get(f"/api/v1/patients{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "SECRET" not in answer.text


def test_looking_is_one_permission_and_changing_another() -> None:
    router = patient_router(patients_of(cast("Any", None), SystemClock()), open_gate())
    found = {(method, permission) for route in router.routes for method, permission in declared_of(route)}
    assert found == {("GET", Permission.PATIENTS_READ), ("POST", Permission.PATIENTS_MANAGE)}
    assert Permission.PATIENTS_MANAGE not in PERMISSIONS_OF_ROLE[Role.RADIOLOGIST]


def declared_of(route: BaseRoute) -> list[tuple[str, str]]:
    found = declared(route)
    assert found is not None and not isinstance(found, str)
    return [*found.items()]
