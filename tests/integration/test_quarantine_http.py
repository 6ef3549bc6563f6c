"""``/api/v1``: quarantine, change feed and AE titles over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from isocenter.doors.http.ae_title_routes import ae_title_router
from isocenter.doors.http.application import create_app
from isocenter.doors.http.changes_routes import changes_router
from isocenter.doors.http.quarantine_routes import quarantine_router
from isocenter.doors.http.services import HttpServices
from isocenter.features.ae_titles.callers import Caller
from isocenter.features.ae_titles.service import AeTitles
from isocenter.kit.errors import Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import Image, TestArchive, opened
from services.dicomweb import open_gate
from services.schema import fresh_url

BAD = Image(modality=None, name="SECRET^NAME")
NOWHERE = "7" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path, store=FaultyStore(LocalStore(tmp_path / "objects"))) as made:
        yield made


@pytest.fixture
async def ae_titles(archive: TestArchive) -> AsyncIterator[AeTitles]:
    made = AeTitles(archive.database, archive.clock)
    yield made
    await made.close()


@pytest.fixture
async def api(archive: TestArchive, ae_titles: AeTitles) -> AsyncIterator[httpx2.AsyncClient]:
    gate = open_gate()
    app = create_app(
        HttpServices(archive.database, archive.store, archive.ingest, gate),
        routers=(
            quarantine_router(archive.quarantine, gate),
            changes_router(archive.database, gate),
            ae_title_router(ae_titles, gate),
        ),
    )
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://isocenter/api/v1") as client:
        yield client


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["code"] == code and document["detail"]
    return document


# --- quarantine


async def test_what_waits_and_why(api: httpx2.AsyncClient, archive: TestArchive) -> None:
    assert (await api.get("/quarantine")).json() == {"entries": [], "waiting": 0, "next_after": None}
    await archive.send(BAD, Image(), b"no DICOM")
    listed = (await api.get("/quarantine")).json()
    assert listed["waiting"] == 2 and listed["next_after"] is None
    missing, unreadable = listed["entries"]
    assert [problem["code"] for problem in missing["problems"]] == ["missing"]
    assert missing["problems"][0]["tag"] == "00080060" and missing["problems"][0]["remedy"]
    assert missing["known"]["00100010"]["Value"] == [{"Alphabetic": "SECRET^NAME"}]
    assert datetime.fromisoformat(missing["received_at"]).tzinfo is not None
    assert unreadable["problems"][0]["tag"] == "" and unreadable["known"] == {}
    assert (await api.get(f"/quarantine/{missing['id']}")).json() == missing

    first = (await api.get("/quarantine", params={"limit": 1})).json()
    assert [entry["id"] for entry in first["entries"]] == [missing["id"]]
    second = (await api.get("/quarantine", params={"limit": 1, "after": first["next_after"]})).json()
    assert [entry["id"] for entry in second["entries"]] == [unreadable["id"]]


async def test_the_object_itself(api: httpx2.AsyncClient, archive: TestArchive) -> None:
    await archive.send(BAD)
    [entry] = (await api.get("/quarantine")).json()["entries"]
    content = await api.get(f"/quarantine/{entry['id']}/content")
    assert content.status_code == 200 and content.content == BAD.file
    assert content.headers["content-type"] == "application/dicom"
    assert "attachment" in content.headers["content-disposition"]
    assert content.headers["x-content-type-options"] == "nosniff"


async def test_a_store_that_is_away_is_a_problem_and_no_cut_answer(
    api: httpx2.AsyncClient, archive: TestArchive
) -> None:
    await archive.send(BAD)
    [entry] = (await api.get("/quarantine")).json()["entries"]
    store = archive.store
    assert isinstance(store, FaultyStore)
    store.fail(Operation.GET, lambda: Unavailable("The object store cannot be reached."))
    response = await api.get(f"/quarantine/{entry['id']}/content")
    problem(response, 503, "unavailable")
    assert response.headers["retry-after"]


async def test_correct_and_accept(api: httpx2.AsyncClient, archive: TestArchive) -> None:
    await archive.send(BAD)
    [entry] = (await api.get("/quarantine")).json()["entries"]
    path = f"/quarantine/{entry['id']}"
    accepted = await api.post(f"{path}/accept", json={"corrections": {"Modality": "CT", "00100020": "4711"}})
    assert accepted.status_code == 200, accepted.text
    assert accepted.json()["outcome"] == "stored" and accepted.json()["sop_instance_uid"] == BAD.sop
    assert await archive.one("SELECT patient_id FROM patient") == "4711"
    assert (await api.get(path)).json()["state"] == "accepted"
    problem(await api.post(f"{path}/accept", json={}), 409, "already-settled")
    problem(await api.post(f"{path}/discard", json={}), 409, "already-settled")
    assert (await api.get("/quarantine")).json()["waiting"] == 0
    assert len((await api.get("/quarantine", params={"state": "accepted"})).json()["entries"]) == 1


async def test_what_cannot_be_accepted_stays(api: httpx2.AsyncClient, archive: TestArchive) -> None:
    await archive.send(Image(study="1.2.abc"))
    [entry] = (await api.get("/quarantine")).json()["entries"]
    path = f"/quarantine/{entry['id']}"
    refused = problem(await api.post(f"{path}/accept", json={}), 409, "still-refused")
    assert "StudyInstanceUID" in refused["detail"] and refused["remedy"]
    problem(
        await api.post(f"{path}/accept", json={"corrections": {"NoSuchThing": "1"}}), 400, "unknown-attribute"
    )
    assert (await api.get(path)).json()["state"] == "waiting"


async def test_discard(api: httpx2.AsyncClient, archive: TestArchive) -> None:
    await archive.send(BAD)
    [entry] = (await api.get("/quarantine")).json()["entries"]
    discarded = await api.post(f"/quarantine/{entry['id']}/discard", json={"reason": "a phantom"})
    assert (discarded.json()["state"], discarded.json()["settled_note"]) == ("discarded", "a phantom")
    assert discarded.json()["settled_at"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", f"/quarantine/{NOWHERE}", None, 404, "not-found"),
        ("GET", f"/quarantine/{NOWHERE}/content", None, 404, "not-found"),
        ("POST", f"/quarantine/{NOWHERE}/accept", {}, 404, "not-found"),
        ("POST", f"/quarantine/{NOWHERE}/discard", {}, 404, "not-found"),
        ("GET", f"/quarantine?after={NOWHERE}", None, 404, "not-found"),
        ("GET", "/quarantine?after=1", None, 400, "invalid-parameters"),
        ("GET", "/quarantine/1", None, 400, "invalid-parameters"),
        ("GET", f"/quarantine/{NOWHERE}%0A", None, 400, "invalid-parameters"),
        ("GET", "/quarantine/SECRET", None, 400, "invalid-parameters"),
        ("GET", f"/quarantine/{2**70}", None, 400, "invalid-parameters"),
        ("GET", "/quarantine?limit=100000", None, 400, "invalid-parameters"),
        ("GET", "/quarantine?state=SECRET", None, 400, "invalid-parameters"),
        ("POST", f"/quarantine/{NOWHERE}/accept", {"SECRET": 1}, 400, "invalid-parameters"),
        ("GET", "/changes?after=-1", None, 400, "invalid-parameters"),
        ("GET", f"/changes?after={2**70}", None, 400, "invalid-parameters"),
        ("POST", "/ae-titles", {"title": "A\\B"}, 400, "invalid-ae-title"),
        ("POST", "/ae-titles", {"title": "CT1", "host": "ct1.example"}, 400, "invalid-host"),
        ("POST", "/ae-titles", {}, 400, "invalid-parameters"),
        ("DELETE", "/ae-titles/CT9", None, 404, "not-found"),
    ],
)
async def test_mistakes_are_problem_documents(
    api: httpx2.AsyncClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    document = problem(await api.request(method, path, json=body), status, code)
    if code == "invalid-parameters":
        assert "SECRET" not in document["detail"].replace("body.SECRET", "").replace("SECRET:", "")


# --- change feed


async def test_the_change_feed_by_cursor(api: httpx2.AsyncClient, archive: TestArchive) -> None:
    assert (await api.get("/changes")).json() == {"changes": [], "last": 0, "done": True}
    await archive.send(Image(), Image(sop="1.2.3.1.1.2"), BAD.but(sop="1.2.3.1.1.3"))
    first = (await api.get("/changes", params={"limit": 2})).json()
    assert [change["kind"] for change in first["changes"]] == ["stored", "stored"] and not first["done"]
    rest = (await api.get("/changes", params={"after": first["last"]})).json()
    assert [change["kind"] for change in rest["changes"]] == ["quarantined"] and rest["done"]
    assert rest["changes"][0]["sop_instance_uid"] == "1.2.3.1.1.3"
    assert (await api.get("/changes", params={"after": rest["last"]})).json()["last"] == rest["last"]


# --- AE titles


async def test_let_a_caller_in_and_out_again(api: httpx2.AsyncClient, ae_titles: AeTitles) -> None:
    door = ae_titles.admission
    assert not await door.admit(Caller("CT 1", "10.0.0.5"), "ISOCENTER")
    await door.notes.flush()
    listed = (await api.get("/ae-titles")).json()
    [refused] = listed["refused"]
    assert (refused["calling_ae_title"], refused["times"]) == ("CT 1", 1)
    assert refused["command"] == "isocenter ae add 'CT 1' --host 10.0.0.5"

    registered = await api.post("/ae-titles", json={"title": "CT 1", "host": "10.0.0.5", "description": "CT"})
    assert registered.status_code == 201 and registered.json()["host"] == "10.0.0.5"
    assert await door.admit(Caller("CT 1", "10.0.0.5"), "ISOCENTER")
    listed = (await api.get("/ae-titles")).json()
    assert listed["refused"] == [] and [one["title"] for one in listed["ae_titles"]] == ["CT 1"]

    removed = await api.delete("/ae-titles/CT%201", params={"host": "10.0.0.5"})
    assert removed.json() == {"removed": 1}
    assert not await door.admit(Caller("CT 1", "10.0.0.5"), "ISOCENTER")


async def test_what_a_caller_may_and_must_show(
    api: httpx2.AsyncClient, ae_titles: AeTitles, archive: TestArchive
) -> None:
    entry = {"title": "CT1", "services": ["store"], "certificate": "CT1.Hospital.Example"}
    registered = (await api.post("/ae-titles", json=entry)).json()
    assert (registered["services"], registered["certificate"]) == (["store"], "ct1.hospital.example")
    kept = (await api.post("/ae-titles", json={"title": "CT1", "description": "the CT"})).json()
    assert (kept["services"], kept["certificate"]) == (["store"], "ct1.hospital.example")
    for wrong in ({"services": []}, {"services": ["delete"]}, {"certificate": "sha256:00"}):
        assert (await api.post("/ae-titles", json={"title": "CT1", **wrong})).status_code in {400, 422}

    await archive.execute("INSERT INTO organization (id, slug, created_at_us) VALUES (7, 'secret', 0)")
    await ae_titles.register(7, "MR1", host="10.0.0.5")
    taken = await api.post("/ae-titles", json={"title": "MR1", "host": "10.0.0.5"})
    assert taken.status_code == 409 and taken.json()["code"] == "ae-title-taken"
    assert "secret" not in taken.text
    assert (await api.delete("/ae-titles/MR1")).status_code == 404
