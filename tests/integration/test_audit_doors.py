"""What each door tells the trail: one event a request, one a study of an association, failures too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.dimse.net.errors import AssociationRejected
from isocenter.features.audit.dicom_messages import dicom_message
from isocenter.features.audit.entries import Entry
from isocenter.features.audit.reading import Filter, all_entries
from isocenter.features.audit.trail import AuditTrail
from isocenter.features.audit.verifying import verify
from isocenter.platform.db import Database
from services.archive import CT, ORGANIZATION, Image
from services.dicomweb import HttpServer, http_server
from services.retrieving import SR, Receiver, get, images, move, receiving
from services.schema import fresh_url
from services.scp import EXPLICIT, ScpDoor, scp_door


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def web(url: str, tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, database_url=url, audited=True) as server:
        yield server


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path, database_url=url, loopback_exempt=False) as opened:
        await opened.ae_titles.register(ORGANIZATION, "SCANNER")
        yield opened


async def recorded(trail: AuditTrail, database: Database) -> list[Entry]:
    await trail.settled()
    assert (await verify(database, ORGANIZATION)).intact
    return [entry async for entry in all_entries(database, ORGANIZATION, Filter())]


def told(entry: Entry) -> tuple[str, str, str, str, dict[str, Any]]:
    details = orjson.loads(entry.details)
    return entry.action, entry.outcome, entry.resource_kind, entry.resource_id, details


async def test_dicomweb(web: HttpServer) -> None:
    image = Image()
    bad = Image(sop="1.2.3.1.1.2", modality=None)
    await web.store(image, bad)
    await web.get("/studies?PatientName=DOE*&StudyDate=20260101&limit=5")
    await web.get(f"/studies/{image.study}/series?Modality=CT&Modality=MR")
    await web.get("/studies?StudyDate=nonsense")
    study = f"/studies/{image.study}"
    one = f"{study}/series/{image.series}/instances/{image.sop}"
    await web.get(one, accept="application/dicom")
    await web.get(f"{study}/metadata")
    await web.get(f"{one}/bulkdata/7FE00010")
    await web.get("/studies/9.9.9")
    await web.client.delete(web.dicomweb + study)
    await web.client.delete(web.dicomweb + study)
    entries = await recorded(web.trail, web.archive.database)
    place = {"study": image.study, "series": image.series}
    assert [told(entry) for entry in entries] == [
        ("store", "success", "study", image.study, {"stored": 1, "refused": 1, "codes": "missing:1"}),
        (
            "search",
            "success",
            "study",
            "",
            {"PatientName": "DOE*", "StudyDate": "20260101", "limit": "5", "answers": 1},
        ),
        ("search", "success", "series", "", {"Modality": "CT\\MR", "study": image.study, "answers": 1}),
        ("search", "failed", "study", "", {"StudyDate": "nonsense", "reason": "invalid-date-time"}),
        ("read", "success", "instance", image.sop, {"part": "objects", "objects": 1, **place}),
        ("read", "success", "study", image.study, {"part": "metadata", "objects": 1}),
        ("read", "success", "instance", image.sop, {"part": "bulkdata", "path": "7FE00010", **place}),
        ("read", "failed", "study", "9.9.9", {"reason": "no-such-study"}),
        ("delete", "success", "study", image.study, {}),
        ("delete", "failed", "study", image.study, {"reason": "no-such-study"}),
    ]
    assert {(entry.subject_kind, entry.address) for entry in entries} == {("anybody", "127.0.0.1")}
    assert {len(entry.trace_id) for entry in entries} == {32}


async def test_a_deletion_is_durable_in_the_trail_before_it_is_answered(web: HttpServer) -> None:
    await web.store(Image())
    await web.client.delete(f"{web.dicomweb}/studies/{Image().study}")
    rows = await web.archive.rows("SELECT action FROM audit_event ORDER BY sequence")
    assert [row["action"] for row in rows] == ["store", "delete"]


async def test_searches_share_transactions(web: HttpServer, monkeypatch: Any) -> None:
    await web.trail.settled()
    writes = 0
    write = web.archive.database.write

    async def counted(*args: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(*args)

    web.trail._linger_s = 1000  # nobody is waited for but settled()
    monkeypatch.setattr(web.archive.database, "write", counted)
    for _ in range(50):
        await web.get("/studies?PatientID=P1")
    entries = await recorded(web.trail, web.archive.database)
    assert len(entries) == 50 and writes == 1


async def test_an_association_tells_a_study_once(door: ScpDoor) -> None:
    images = [Image(sop=f"1.2.3.1.1.{number}") for number in range(1, 6)]
    other = Image(study="1.2.3.2", series="1.2.3.2.1", sop="1.2.3.2.1.1")
    bad = Image(sop="1.2.3.1.1.9", modality=None, patient_id="P9", study="1.2.3.9", series="1.2.3.9.1")
    await door.store(*images, images[0], other, bad)
    await door.server.shutdown(10)
    entries = await recorded(door.trail, door.archive.database)
    assert [told(entry) for entry in entries] == [
        ("store", "success", "study", images[0].study, {"stored": 5, "duplicate": 1}),
        ("store", "success", "study", other.study, {"stored": 1}),
        ("store", "failed", "study", bad.study, {"quarantined": 1}),
    ]
    first = entries[0]
    assert (first.subject_kind, first.subject_id, first.address) == ("ae-title", "SCANNER", "127.0.0.1")


async def test_queries_over_dimse(door: ScpDoor) -> None:
    await door.store(Image())
    await door.find("STUDY", t00100010=b"DOE*", t0020000D=b"")
    with pytest.raises(Exception, match="Level"):
        await door.find("NONSENSE", t00100010=b"DOE*")
    await door.server.shutdown(10)
    entries = await recorded(door.trail, door.archive.database)
    searches = [told(entry) for entry in entries if entry.action == "search"]
    assert searches[0] == ("search", "success", "study", "", {"PatientName": "DOE*", "answers": 1})
    assert searches[1][1] == "failed" and "Level" in searches[1][4]["reason"]


async def test_refused_associations(door: ScpDoor) -> None:
    with pytest.raises(AssociationRejected):
        await door.connect(calling="STRANGER")
    with pytest.raises(AssociationRejected):
        await door.connect(called="NOT-US")
    entries = await recorded(door.trail, door.archive.database)
    assert [(told(entry), entry.subject_id) for entry in entries] == [
        (
            ("access", "denied", "association", "ISOCENTER", {"reason": "calling-ae-title-not-registered"}),
            "STRANGER",
        ),
        (("access", "denied", "association", "NOT-US", {"reason": "called-ae-title-not-ours"}), "SCANNER"),
    ]


async def test_a_retrieval_tells_each_study_once_and_to_whom(door: ScpDoor) -> None:
    await door.archive.send(*images(2, study=1), *images(1, study=2, sop_class=SR, modality="SR"))
    receiver = Receiver({CT: (EXPLICIT,)}, statuses={"1.5.1.1.2": 0xA900})
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        await move(door, "STORE", calling="SCANNER", t0020000D=b"1.5.1\\1.5.2")
        await move(door, "STORE", calling="SCANNER", t0020000D=b"1.5.9\0")
    await move(door, "NOBODY", calling="SCANNER", t0020000D=b"1.5.1\0")
    await move(door, "STORE", calling="SCANNER")
    await get(door, Receiver(), calling="SCANNER", t0020000D=b"1.5.1\0")
    entries = await recorded(door.trail, door.archive.database)
    there = {"part": "objects", "destination": "STORE", "destination_host": "127.0.0.1"}
    nothing: dict[str, Any] = {"objects": 0, "level": "study"}
    assert [told(entry) for entry in entries] == [
        ("read", "success", "study", "1.5.1", {**there, "objects": 1, "failed": 1}),
        ("read", "failed", "study", "1.5.2", {**there, "failed": 1}),
        ("read", "success", "study", "", {**there, **nothing, "StudyInstanceUID": "1.5.9"}),
        (
            "read",
            "failed",
            "study",
            "",
            {
                **nothing,
                "part": "objects",
                "destination": "NOBODY",
                "destination_host": "",
                "StudyInstanceUID": "1.5.1",
                "reason": "unknown to this organisation",
            },
        ),
        (
            "read",
            "failed",
            "study",
            "",
            {
                "part": "objects",
                "objects": 0,
                "destination": "STORE",
                "destination_host": "",
                "reason": "no Study Instance UID",
            },
        ),
        ("read", "success", "study", "1.5.1", {"part": "objects", "objects": 2}),
    ]
    transferred, failed = (dicom_message(entry, "ISOCENTER").decode() for entry in entries[:2])
    assert "DICOM Instances Transferred" in transferred and "DICOM Instances Transferred" in failed
    assert transferred.count("Destination Role ID") == 1
    assert 'UserID="STORE" UserIsRequestor="false" NetworkAccessPointID="127.0.0.1"' in transferred
    got = dicom_message(entries[-1], "ISOCENTER").decode()
    assert got.count("Destination Role ID") == 1 and 'UserID="SCANNER"' in got
