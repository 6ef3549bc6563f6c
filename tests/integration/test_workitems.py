"""UPS-RS (PS3.18 §11) over HTTP, on both databases: states, rules, matching, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.dicom.native_model import native_xml
from services.dicomweb import HttpServer, http_server
from services.schema import fresh_url
from services.workitems import (
    TRANSACTION,
    Scheduler,
    a_workitem,
    cancelled,
    code,
    dicom_json,
    into,
    performed,
)

_OTHER = "1.2.3.4.5"
_XML = "application/dicom+xml"


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with http_server(tmp_path, database_url=url, audited=True) as made:
            yield made


@pytest.fixture
def ups(server: HttpServer) -> Scheduler:
    return Scheduler(server.client, server.dicomweb)


async def test_a_workitem_from_its_creation_to_its_end(ups: Scheduler) -> None:
    uid = await ups.create()
    kept = (await ups.send("GET", f"/workitems/{uid}")).json()[0]
    assert kept["00741204"]["Value"] == ["Segment the liver"]
    assert kept["00404010"]["Value"]  # when it was changed last: the server says
    assert (await ups.update(uid, dicom_json(ScheduledProcedureStepPriority="HIGH"), "")).status_code == 200
    assert (await ups.move(uid, "IN PROGRESS")).status_code == 200
    assert (await ups.update(uid, performed())).status_code == 200
    assert (await ups.move(uid, "COMPLETED")).status_code == 200
    kept = (await ups.send("GET", f"/workitems/{uid}")).json()[0]
    assert kept["00741000"]["Value"] == ["COMPLETED"] and kept["00741200"]["Value"] == ["HIGH"]
    again = await ups.move(uid, "COMPLETED")
    assert again.status_code == 200
    assert "already in the requested state of COMPLETED" in again.headers["warning"]


async def test_the_transaction_uid_is_a_secret(ups: Scheduler) -> None:
    uid = await ups.create()
    await ups.move(uid, "IN PROGRESS")
    kept = await ups.send("GET", f"/workitems/{uid}")
    listed = await ups.send("GET", "/workitems")
    assert TRANSACTION not in kept.text + listed.text and "00081195" not in kept.text + listed.text
    assert await ups.found(f"?TransactionUID={TRANSACTION}") == []
    for transaction, says in (("", "missing"), (_OTHER, "incorrect")):
        for response in (
            await ups.update(uid, performed(), transaction),
            await ups.move(uid, "COMPLETED", transaction),
        ):
            assert response.status_code == 400, response.text
            assert f"The Transaction UID is {says}." in response.headers["warning"]
    assert await ups.state(uid) == "IN PROGRESS"
    stolen = await ups.move(uid, "IN PROGRESS", _OTHER)
    assert stolen.status_code == 409 and "inconsistent" in stolen.headers["warning"]


@pytest.mark.parametrize(
    ("before", "wanted", "status"),
    [
        ("SCHEDULED", "COMPLETED", 409),
        ("SCHEDULED", "CANCELED", 409),
        ("SCHEDULED", "SCHEDULED", 409),
        ("IN PROGRESS", "IN PROGRESS", 409),
        ("IN PROGRESS", "SCHEDULED", 409),
        ("COMPLETED", "IN PROGRESS", 409),
        ("COMPLETED", "CANCELED", 409),
        ("CANCELED", "COMPLETED", 409),
        ("CANCELED", "CANCELED", 200),
        ("SCHEDULED", "NONSENSE", 400),
    ],
)
async def test_the_states_that_there_are_no_ways_between(
    ups: Scheduler, before: str, wanted: str, status: int
) -> None:
    uid = await ups.create()
    if before != "SCHEDULED":
        await ups.move(uid, "IN PROGRESS")
        await ups.update(uid, performed() | cancelled())
        if before != "IN PROGRESS":
            await ups.move(uid, before)
    response = await ups.move(uid, wanted)
    assert response.status_code == status, response.text
    assert await ups.state(uid) == before


async def test_final_states_ask_for_what_was_done(ups: Scheduler) -> None:
    uid = await ups.create()
    await ups.move(uid, "IN PROGRESS")
    refused = await ups.move(uid, "COMPLETED")
    assert refused.status_code == 409 and refused.json()["code"] == "final-state-requirements"
    await ups.update(uid, performed(PerformedProcedureStepEndDateTime=None))
    refused = await ups.move(uid, "COMPLETED")
    assert "PerformedProcedureStepEndDateTime" in refused.json()["detail"]
    refused = await ups.move(uid, "CANCELED")
    assert refused.status_code == 409
    await ups.update(uid, cancelled())
    assert (await ups.move(uid, "CANCELED")).status_code == 200
    assert (await ups.update(uid, performed())).status_code == 409


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        ({"ProcedureStepLabel": None}, "/00741204"),
        ({"ScheduledProcedureStepStartDateTime": None}, "/00404005"),
        ({"ScheduledProcedureStepStartDateTime": "tomorrow"}, "/00404005"),
        ({"ScheduledProcedureStepPriority": "URGENT"}, "/00741200"),
        ({"InputReadinessState": None}, "/00404041"),
        ({"ProcedureStepState": "IN PROGRESS"}, "/00741000"),
        ({"TransactionUID": _OTHER}, "/00081195"),
        ({"UnifiedProcedureStepPerformedProcedureSequence": dicom_json(PatientID="x")}, "/00741216"),
        ({"ScheduledWorkitemCodeSequence": dicom_json(CodeValue="1")}, "/00404018"),
    ],
)
async def test_what_cannot_be_created(ups: Scheduler, change: dict[str, Any], tag: str) -> None:
    response = await ups.send("POST", "/workitems", [a_workitem(**change)])
    assert response.status_code == 400, response.text
    assert response.json()["code"] == "workitem-attributes"
    assert tag in [one["pointer"] for one in response.json()["errors"]]
    assert await ups.found() == []


async def test_uids_are_the_requesters_if_it_likes(ups: Scheduler) -> None:
    for number, query in enumerate(("?workitem={}", "?AffectedSOPInstanceUID={}", "?{}")):
        uid = f"1.2.3.{number}"
        response = await ups.send("POST", "/workitems" + query.format(uid), [a_workitem()])
        assert response.status_code == 201
        assert response.headers["location"].endswith(f"/workitems/{uid}")
    again = await ups.send("POST", "/workitems?workitem=1.2.3.0", a_workitem())
    assert again.status_code == 409 and again.json()["code"] == "workitem-exists"
    assert (await ups.send("POST", "/workitems?workitem=1.02", a_workitem())).status_code == 400
    assert sorted(await ups.found()) == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]


async def test_type_2_attributes_that_are_left_out_are_added(ups: Scheduler) -> None:
    given = a_workitem()
    del given["00400400"]
    response = await ups.send("POST", "/workitems", [given])
    assert "created with modifications" in response.headers["warning"]
    assert "warning" not in (await ups.send("POST", "/workitems", [a_workitem()])).headers


async def test_what_an_update_may_not_touch(ups: Scheduler) -> None:
    uid = await ups.create()
    for attributes in (
        dicom_json(PatientID="P2"),
        dicom_json(ProcedureStepState="COMPLETED"),
        dicom_json(ProcedureStepLabel=None),
    ):
        assert (await ups.update(uid, attributes, "")).status_code == 400
    same = await ups.update(uid, dicom_json(PatientID="P1", ProcedureStepLabel="Another"), "")
    assert same.status_code == 200
    unclaimed = await ups.update(uid, dicom_json(ProcedureStepLabel="x"), TRANSACTION)
    assert unclaimed.status_code == 409 and "claimed" in unclaimed.headers["warning"]


async def test_searching(ups: Scheduler) -> None:
    first = await ups.create()
    second = await ups.create(
        PatientName="MÜLLER^HANS",
        PatientID="P2",
        ScheduledProcedureStepStartDateTime="20260202080000",
        ScheduledStationNameCodeSequence=code("GPU2", "99LOCAL"),
        ReferencedRequestSequence=dicom_json(AccessionNumber="A77"),
    )
    await ups.move(second, "IN PROGRESS")
    for query, expected in {
        "": [first, second],
        "?PatientID=P2": [second],
        "?PatientID=P*": [first, second],
        "?PatientName=muller*": [second],
        "?ProcedureStepState=SCHEDULED": [first],
        "?00741000=IN+PROGRESS": [second],
        "?ScheduledProcedureStepStartDateTime=20260101-20260131": [first],
        "?ScheduledProcedureStepStartDateTime=20260202": [second],
        "?ScheduledStationNameCodeSequence.CodeValue=GPU2": [second],
        "?00404025.00080100=GPU1": [first],
        "?ScheduledStationNameCodeSequence.CodeValue=GPU3": [],
        "?ScheduledWorkitemCodeSequence.CodeValue=110004&ScheduledWorkitemCodeSequence."
        "CodingSchemeDesignator=DCM": [first, second],
        "?ReferencedRequestSequence.AccessionNumber=A77": [second],
        f"?SOPInstanceUID={first},{second}": [first, second],
        "?limit=1": [first],
        "?limit=1&offset=1": [second],
        "?includefield=all&PatientID=P1": [first],
    }.items():
        assert await ups.found(query) == expected, query
    limited = await ups.send("GET", "/workitems?limit=1")
    assert "299" in limited.headers["warning"]


async def test_a_request_to_cancel(ups: Scheduler) -> None:
    uid = await ups.create()
    asked = dicom_json(ReasonForCancellation="The patient left")
    assert (await ups.send("POST", f"/workitems/{uid}/cancelrequest", asked)).status_code == 202
    kept = (await ups.send("GET", f"/workitems/{uid}")).json()[0]
    assert kept["00741000"]["Value"] == ["CANCELED"]
    progress = kept["00741002"]["Value"][0]
    assert progress["00741238"]["Value"] == ["The patient left"] and progress["0074100E"]["Value"]
    again = await ups.send("POST", f"/workitems/{uid}/cancelrequest")
    assert again.status_code == 202 and "already" in again.headers["warning"]
    claimed = await ups.create()
    await ups.move(claimed, "IN PROGRESS")
    assert (await ups.send("POST", f"/workitems/{claimed}/cancelrequest")).status_code == 202
    assert await ups.state(claimed) == "IN PROGRESS"
    await ups.update(claimed, performed())
    await ups.move(claimed, "COMPLETED")
    assert (await ups.send("POST", f"/workitems/{claimed}/cancelrequest")).status_code == 409


async def test_xml_in_and_out(ups: Scheduler) -> None:
    given = a_workitem(PatientName="Yamada^Tarou=山田^太郎")
    given["00100010"]["Value"] = [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]
    created = await ups.send("POST", "/workitems", native_xml(given), **{"Content-Type": _XML})
    assert created.status_code == 201, created.text
    uid = created.headers["location"].rpartition("/")[2]
    kept = (await ups.send("GET", f"/workitems/{uid}")).json()[0]
    assert kept["00100010"]["Value"] == given["00100010"]["Value"]
    assert kept["00404018"] == given["00404018"]
    shown = await ups.send("GET", f"/workitems/{uid}", Accept=_XML)
    assert shown.headers["content-type"].startswith(_XML)
    assert "<FamilyName>山田</FamilyName>" in shown.text
    listed = await ups.send("GET", "/workitems", Accept=f'multipart/related; type="{_XML}"')
    assert listed.text.count("<NativeDicomModel") == 1
    moved = await ups.send(
        "PUT", f"/workitems/{uid}/state", native_xml(into("IN PROGRESS")), **{"Content-Type": _XML}
    )
    assert moved.status_code == 200
    assert (await ups.send("GET", f"/workitems/{uid}", Accept="image/png")).status_code == 406


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/dicom+json", b"", 400),
        ("application/dicom+json", b"[]", 400),
        ("application/dicom+json", b"[{},{}]", 400),
        ("application/dicom+json", b'"x"', 400),
        ("application/dicom+json", b"[[]]", 400),
        ("application/dicom+json", b'[{"00100010":7}]', 400),
        ("application/dicom+json", b'[{"00100010":{"vr":"XX"}}]', 400),
        ("application/dicom+json", b'[{"00081195":{"vr":"UI","Value":[{"a":1}]}}]', 400),
        ("application/dicom+json", b"[" * 100_000, 400),
        ("application/dicom+json", b'{"00400100":{"vr":"SQ","Value":[' * 300 + b"]}}" * 300, 400),
        (_XML, b"<a/>", 400),
        (_XML, b"<NativeDicomModel>", 400),
        (_XML, b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>', 400),
        (_XML, b"<NativeDicomModel><Value/></NativeDicomModel>", 400),
        (_XML, b'<NativeDicomModel><DicomAttribute tag="x"/></NativeDicomModel>', 400),
        (_XML, b"<NativeDicomModel>" + b'<DicomAttribute tag="00400100" vr="SQ"><Item>' * 500, 400),
        ("text/plain", b"x", 415),
        ("", b"x", 400),
    ],
)
async def test_bodies_that_are_no_workitem(
    ups: Scheduler, content_type: str, body: bytes, status: int
) -> None:
    response = await ups.send("POST", "/workitems", body, **{"Content-Type": content_type})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        "?limit=x",
        "?offset=-1",
        "?NoSuchAttribute=1",
        "?PatientID.CodeValue=1",
        "?ScheduledProcedureStepStartDateTime=yesterday",
        "?SOPInstanceUID=abc",
        "?" + ".".join(["ScheduledWorkitemCodeSequence"] * 20) + ".CodeValue=1",
    ],
)
async def test_searches_that_are_none(ups: Scheduler, query: str) -> None:
    response = await ups.send("GET", f"/workitems{query}")
    assert response.status_code == 400, response.text


async def test_what_is_not_there(ups: Scheduler) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("POST", "", [dicom_json(ProcedureStepLabel="x")]),
        ("PUT", "/state", into("IN PROGRESS")),
        ("POST", "/cancelrequest", None),
        ("POST", "/subscribers/AE1", None),
        ("DELETE", "/subscribers/AE1", None),
        ("POST", "/subscribers/AE1/suspend", None),
    ):
        response = await ups.send(method, f"/workitems/1.2.3{path}", body)
        assert response.status_code == 404, (method, path, response.text)
    assert (await ups.send("PATCH", "/workitems/1.2.3")).status_code == 405


async def test_the_trail_hears_of_it(ups: Scheduler, server: HttpServer) -> None:
    uid = await ups.create()
    await ups.move(uid, "IN PROGRESS")
    await server.trail.settled()
    rows = await server.archive.rows(
        "SELECT action, resource_id FROM audit_event WHERE resource_kind = 'workitem' ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [("store", ""), ("change", uid)]


async def test_documents_are_kept_as_they_came(ups: Scheduler) -> None:
    """Private attributes too."""
    given = a_workitem()
    given["00091001"] = {"vr": "LO", "Value": ["private"]}
    created = await ups.send(
        "POST", "/workitems", orjson.dumps([given]), **{"Content-Type": "application/json"}
    )
    uid = created.headers["location"].rpartition("/")[2]
    kept = (await ups.send("GET", f"/workitems/{uid}")).json()[0]
    assert kept["00091001"] == given["00091001"]


async def test_of_many_who_claim_it_one_gets_it(ups: Scheduler) -> None:
    uid = await ups.create()
    answers = await asyncio.gather(*(ups.move(uid, "IN PROGRESS", f"1.2.{n}") for n in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 11
    winner = [answer.status_code for answer in answers].index(200)
    assert (await ups.update(uid, performed(), f"1.2.{winner}")).status_code == 200
