"""QIDO-RS's ways of matching, on both databases: sequences, fuzzy names, time zones, several values."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.archive.policies import ConflictPolicy
from services.archive import Image, element
from services.dicomweb import HttpServer, http_server
from services.schema import fresh_url
from services.sequences import code, items, request

MG = "1.2.840.10008.5.1.4.1.1.1.2"
UTF_8 = ((0x00080005, "CS", "ISO_IR 192"),)


def study(number: int, name: str, *more: tuple[int, str, Any], **changes: Any) -> Image:
    image = Image(
        sop=f"1.9.{number}.1.1",
        series=f"1.9.{number}.1",
        study=f"1.9.{number}",
        patient_id=f"P{number}",
        name=name.encode(),
        more=(*UTF_8, *more),
    )
    return image.but(**changes)


PROCEDURE = element(0x00321064, "SQ", items(code("P1", meaning="Cranial CT"), code("P2", "LN", "Thorax")))
ARCHIVE = [
    study(
        1,
        "Smith^John",
        (0x00080020, "DA", "20240101"),
        (0x00080030, "TM", "233000"),
        (0x00080201, "SH", "+0100"),
        (0x00080090, "PN", "Kowalski^Jan"),
        (0x00081032, "SQ", items(code("24725-4", "LN", "CT Head"))),
        (0x00081050, "PN", "Doe^Ann\\Roe^Bob"),
        (0x00081070, "PN", "Müller^Eva".encode()),
        (0x00082218, "SQ", items(code("69536005", meaning="Head"))),
        (0x00400275, "SQ", items(request("S1", "R1", PROCEDURE), request("S2", "R2"))),
        (0x00080008, "CS", "ORIGINAL\\PRIMARY"),
    ),
    study(
        2,
        "Schmidt^Johann",
        (0x00080020, "DA", "20240102"),
        (0x00080030, "TM", "003000"),
        (0x00080201, "SH", "+0200"),
        (0x00080090, "PN", "Kovalsky^Jan"),
        (0x00081050, "PN", "Roe^Bob"),
        (0x00082218, "SQ", items(code("69536005", meaning="Head"), code("51185008", meaning="Chest"))),
        (0x00400275, "SQ", items(request("S1", "R2"))),
        (0x00080008, "CS", "DERIVED\\SECONDARY"),
    ),
    study(
        3,
        "O'Brien-Jones^José",
        (0x00080020, "DA", "20240101"),
        (0x00080030, "TM", "233000"),
        modality="MG",
        sop_class=MG,
    ),
    study(4, "Yamada^Tarou=山田^太郎=ﾔﾏﾀﾞ^ﾀﾛｳ", (0x00080020, "DA", "20240103")),
    study(5, "van den Berg^Ada", (0x00080020, "DA", "20240104"), (0x00080201, "SH", "-0500")),
    study(6, "=柳^吉洞=류^길동", (0x00080020, "DA", "20240104")),
    study(1, "Smith^John").but(sop="1.9.1.2.1", series="1.9.1.2", modality="SR"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with http_server(tmp_path, database_url=url) as running:
            response = await running.store(*ARCHIVE)
            assert response.status_code == 200, response.text
            yield running


def numbers(found: list[dict[str, Any]]) -> set[int]:
    return {int(one["0020000D"]["Value"][0].split(".")[2]) for one in found}


async def matched(server: HttpServer, path: str, cases: list[tuple[str, set[int]]]) -> None:
    """Each search finds what it must, says no more than that, and counts the same."""
    for query, expected in cases:
        response = await server.get(f"{path}?{query}")
        assert response.status_code == 200, (query, response.text)
        assert "warning" not in response.headers, (query, response.headers["warning"])
        assert numbers(response.json()) == expected, query
        counted = await server.get(f"{path}/count?{query}")
        assert counted.json() == {"count": len(response.json())}, query


SEQUENCES: list[tuple[str, set[int]]] = [
    ("RequestAttributesSequence.ScheduledProcedureStepID=S1", {1, 2}),
    ("00400275.00400009=S2", {1}),
    ("RequestAttributesSequence.RequestedProcedureID=R2", {1, 2}),
    # of one item:
    ("RequestAttributesSequence.RequestedProcedureID=R2&00400275.00400009=S1", {2}),
    ("RequestAttributesSequence.RequestedProcedureID=R2&00400275.00400009=S2", {1}),
    ("00400275.00321064.00080100=P1", {1}),
    ("00400275.00321064.00080100=P1&00400275.00321064.00080102=SCT", {1}),
    ("00400275.00321064.00080100=P1&00400275.00321064.00080102=LN", set()),
    ("00400275.00321064.00080104=cranial*&00400275.00400009=S1", {1}),
    ("00400275.00321064.00080104=cranial*&00400275.00400009=S2", set()),
    ("RequestAttributesSequence.ScheduledProcedureStepDescription=description+of+s2", {1}),
    ("RequestAttributesSequence.ScheduledProcedureStepID=S*", {1, 2}),
    ("RequestAttributesSequence.ScheduledProcedureStepID=?2", {1}),
    ("RequestAttributesSequence.ScheduledProcedureStepID=S2%5CS9", {1}),
    ("RequestAttributesSequence.ScheduledProcedureStepID=s1", set()),
    ("RequestAttributesSequence.ScheduledProcedureStepID=*", {1, 2, 3, 4, 5, 6}),
    ("RequestAttributesSequence.ScheduledProcedureStepID=&PatientID=P1", {1}),
    ("AnatomicRegionSequence.CodeMeaning=CHEST&PatientID=P2", {2}),
    ("AnatomicRegionSequence.CodeMeaning=CHEST&PatientID=P1", set()),
    ("AnatomicRegionSequence.CodeValue=69536005", {1, 2}),
    ("ProcedureCodeSequence.CodeValue=24725-4", {1}),
    ('emptyvaluematching=true&AnatomicRegionSequence.CodeValue=""', {1, 3, 4, 5, 6}),
    ('emptyvaluematching=true&RequestAttributesSequence.RequestedProcedureID=""&Modality=MG', {3}),
    ('emptyvaluematching=true&RequestAttributesSequence=""&Modality=CT', {4, 5, 6}),
]


async def test_inside_sequences(server: HttpServer) -> None:
    await matched(server, "/series", SEQUENCES)
    await matched(server, "/studies", [("ProcedureCodeSequence.CodeMeaning=ct+head", {1})])
    (found,) = await server.found("/series?RequestAttributesSequence.RequestedProcedureID=R1")
    steps = [one["00400009"]["Value"] for one in found["00400275"]["Value"]]
    assert steps == [["S1"], ["S2"]]
    (found,) = await server.found("/studies?PatientID=P1&includefield=ProcedureCodeSequence.CodeValue")
    assert found["00081032"]["Value"][0]["00080104"]["Value"] == ["CT Head"]
    for beyond in ("00400275.00321064.00080117.00080100=X", "ContentSequence.00080100=X", "Rows.Columns=X"):
        response = await server.get(f"/series?{beyond}")
        assert response.status_code == 200 and "ignored" in response.headers["warning"]
    response = await server.get("/series?RequestAttributesSequence.RequestedProcedureCodeSequence=X")
    assert response.status_code == 400 and response.json()["code"] == "unmatchable-attribute"


FUZZY: list[tuple[str, set[int]]] = [
    ("PatientName=smith", {1, 2}),
    ("PatientName=SCHMITT^JOHN", {1}),
    ("PatientName=john+smyth", {1}),
    ("PatientName=johann^schmid", {2}),
    ("PatientName=smi*", {1}),
    ("PatientName=s*^j*", {1, 2}),
    ("PatientName=j^smith", {1, 2}),
    ("PatientName=*midt", {2}),
    ("PatientName=obrien", {3}),
    ("PatientName=Jose^OBRIEN", {3}),
    ("PatientName=jones^jos%C3%A9", {3}),
    ("PatientName=obrienjones", {3}),
    ("PatientName=tarou^yamada", {4}),
    ("PatientName=%E3%82%84%E3%81%BE%E3%81%A0", {4}),  # in hiragana, kept in half-width katakana
    ("PatientName=%E5%B1%B1%E7%94%B0", {4}),
    ("PatientName=%E5%A4%AA%E9%83%8E^%E5%B1%B1%E7%94%B0", {4}),
    ("PatientName==%E5%B1%B1*", {4}),
    ("PatientName=%EC%9C%A0", {6}),  # 유, kept as 류
    ("PatientName=vandenberg", {5}),
    ("PatientName=berg", {5}),
    ("PatientName=van+den+berg^ada", {5}),
    ("PatientName=vanden+berg", {5}),
    ("PatientName=van+lee", set()),
    ("PatientName=*", {1, 2, 3, 4, 5, 6}),
    ("PatientName=^^", {1, 2, 3, 4, 5, 6}),
    ("PatientName=nobody", set()),
    ("PatientName=smith&PatientID=P2", {2}),
    ("PatientName=obrien%5Cberg", {3, 5}),
    ("ReferringPhysicianName=kovalski", {1, 2}),
    ("ReferringPhysicianName=jan+kowalsky&PatientName=john", {1}),
]


async def test_fuzzy_names(server: HttpServer) -> None:
    await matched(server, "/studies", [(f"fuzzymatching=true&{query}", found) for query, found in FUZZY])
    await matched(server, "/series", [("fuzzymatching=true&OperatorsName=mueller", {1})])
    await matched(server, "/studies", [("fuzzymatching=false&PatientName=SCHMITT^JOHN", set())])
    assert len(await server.found("/patients?fuzzymatching=true&PatientName=smith")) == 2


NAMES: list[tuple[str, set[int]]] = [
    ("ReferringPhysicianName=KOWALSKI^JAN", {1}),
    ("ReferringPhysicianName=kow*", {1}),
    ("ReferringPhysicianName=*jan", {1, 2}),
    ("PerformingPhysicianName=roe^bob", {1, 2}),
    ("PerformingPhysicianName=doe^ann", {1}),
    ("PerformingPhysicianName=doe^ann%5Croe^bob", {1, 2}),
    ("multiplevaluematching=true&PerformingPhysicianName=doe^ann%5Croe^bob", {1}),
    ("multiplevaluematching=true&PerformingPhysicianName=roe^bob%5Cdoe^ann&PatientID=P1", {1}),
    ("OperatorsName=muller*", {1}),
    ('emptyvaluematching=true&OperatorsName=""&Modality=CT', {2, 4, 5, 6}),
    ('emptyvaluematching=true&PatientName=""', set()),
    ("ModalitiesInStudy=CT%5CSR&PatientID=P*", {1, 2, 4, 5, 6}),
    ("multiplevaluematching=true&ModalitiesInStudy=CT%5CSR", {1}),
    ("multiplevaluematching=true&ModalitiesInStudy=CT%5CMG", set()),
    (f"SOPClassesInStudy={MG}", {3}),
    (f"SOPClassesInStudy={MG}%5C1.2.840.10008.5.1.4.1.1.2", {1, 2, 3, 4, 5, 6}),
    ("SOPClassesInStudy=1.2.840.10008.5.1.4.1.1.1", set()),
    ('emptyvaluematching=true&SOPClassesInStudy=""', set()),
]


async def test_names_and_several_values(server: HttpServer) -> None:
    await matched(server, "/series", NAMES)


ZONES: list[tuple[str, set[int]]] = [
    # study 1 is 22:30 UTC, 2 is 22:30 UTC, both of the same moment; 3 tells no zone, 4 to 6 no time
    ("StudyDate=20240101&StudyTime=233000", {1, 3}),
    ("TimezoneOffsetFromUTC=%2B0100&StudyDate=20240101", {1, 2, 3}),
    ("TimezoneOffsetFromUTC=%2B0200&StudyDate=20240101", {3}),
    ("TimezoneOffsetFromUTC=%2B0200&StudyDate=20240102", {1, 2}),
    ("TimezoneOffsetFromUTC=+0200&StudyDate=20240102", {1, 2}),  # + is a blank in a query string
    ("TimezoneOffsetFromUTC=%2B0000&StudyDate=20240101-20240101&StudyTime=2200-2259", {1, 2}),
    ("TimezoneOffsetFromUTC=%2B0000&StudyDate=20240101-20240102&StudyTime=2200-2259", {1, 2, 3}),
    ("TimezoneOffsetFromUTC=-1200&StudyTime=1000-1100", {1, 2}),
    ("TimezoneOffsetFromUTC=%2B1000&StudyTime=0800-0900", {1, 2}),
    ("TimezoneOffsetFromUTC=%2B0100&StudyTime=2300-2359", {1, 2, 3}),
    ("TimezoneOffsetFromUTC=%2B0100&StudyDate=20240104", {5, 6}),
    ("TimezoneOffsetFromUTC=-0000&StudyDate=20240101-", {1, 2, 3, 4, 5, 6}),
    ("TimezoneOffsetFromUTC=%2B1400&StudyDate=-20240101", {3}),
    ("TimezoneOffsetFromUTC=", {1, 2, 3, 4, 5, 6}),
]


async def test_dates_and_times_are_told_in_the_askers_zone(server: HttpServer) -> None:
    await matched(server, "/studies", ZONES)
    (found,) = await server.found("/studies?PatientID=P1")
    assert found["00080201"]["Value"] == ["+0100"]


async def test_lines_of_the_index(server: HttpServer) -> None:
    rows = struct.unpack("<H", b"\2\0")[0]
    for query, count in (
        ("Rows=1", 7),
        ("Rows=10", 0),
        (f"Columns={rows}", 7),
        ("ImageType=ORIGINAL", 1),
        ("ImageType=DER*", 1),
    ):
        response = await server.get(f"/instances?{query}")
        assert "warning" not in response.headers
        assert len(response.json()) == count, query
    response = await server.get("/instances?ImageType=PRIMARY&Rows=1-2")
    assert "Rows" in response.headers["warning"] or response.json() == []


async def test_what_a_study_says_of_its_series(server: HttpServer) -> None:
    (found,) = await server.found(
        "/studies?PatientID=P2&includefield=SOPClassesInStudy&includefield=AnatomicRegionsInStudyCodeSequence"
    )
    assert found["00080062"] == {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]}
    regions = [one["00080104"]["Value"][0] for one in found["00080063"]["Value"]]
    assert regions == ["Head", "Chest"]
    assert list(found) == sorted(found)
    (found,) = await server.found("/studies?PatientID=P1&includefield=all")
    assert len(found["00080062"]["Value"]) == 1
    assert {"00081032", "00201200", "00101010"} & set(found) >= {"00081032", "00201200"}


async def test_deleting_and_replacing_keep_the_values_right(server: HttpServer) -> None:
    path = "/studies/1.9.2"
    assert (await server.client.delete(server.dicomweb + path)).status_code in {200, 204}
    await matched(
        server,
        "/series",
        [
            ("RequestAttributesSequence.ScheduledProcedureStepID=S1", {1}),
            ("fuzzymatching=true&PatientName=smith", {1}),
        ],
    )
    for level in ("patient", "study", "series", "instance"):
        left = await server.archive.one(
            f"SELECT count(*) FROM {level}_value WHERE NOT EXISTS"
            f" (SELECT 1 FROM {level} WHERE {level}.id = {level}_value.{level}_pk)"
        )
        assert left == 0
    await server.client.delete(f"{server.dicomweb}/studies/1.9.1/series/1.9.1.1")
    (found,) = await server.found("/studies?PatientID=P1&includefield=SOPClassesInStudy")
    assert found["00080061"]["Value"] == ["SR"]


async def test_a_class_goes_with_its_last_object(server: HttpServer) -> None:
    await server.store(study(4, "Yamada^Tarou").but(sop="1.9.4.1.2", sop_class=MG))
    path = "/studies?PatientID=P4&includefield=SOPClassesInStudy"
    (found,) = await server.found(path)
    assert found["00080062"]["Value"] == [MG, "1.2.840.10008.5.1.4.1.1.2"]
    await server.client.delete(f"{server.dicomweb}/studies/1.9.4/series/1.9.4.1/instances/1.9.4.1.2")
    (found,) = await server.found(path)
    assert found["00080062"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    await matched(server, "/studies", [(f"SOPClassesInStudy={MG}", {3})])


async def test_later_objects_fill_in_what_is_matched_on(server: HttpServer) -> None:
    late = study(
        3,
        "O'Brien-Jones^José",
        (0x00080090, "PN", "Late^Ref"),
        (0x00400275, "SQ", items(request("S7", "R7"))),
        modality="MG",
        sop_class=MG,
    ).but(sop="1.9.3.1.2")
    await server.store(late)
    await matched(
        server,
        "/series",
        [
            ("RequestAttributesSequence.RequestedProcedureID=R7", {3}),
            ("ReferringPhysicianName=late^ref", {3}),
        ],
    )
    # What is there stays: a contradicting object changes nothing of what is matched on.
    await server.store(late.but(sop="1.9.3.1.3", more=(*late.more[:1], (0x00080090, "PN", "Other^Ref"))))
    await matched(server, "/series", [("ReferringPhysicianName=other^ref", set())])


async def test_structured_reports_by_their_title(server: HttpServer) -> None:
    report = study(7, "Rep^Ort", (0x0040A043, "SQ", items(code("18748-4", "LN", "Diagnostic report")))).but(
        modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.11"
    )
    await server.store(report)
    await matched(
        server,
        "/instances",
        [
            (
                "ConceptNameCodeSequence.CodeValue=18748-4&ConceptNameCodeSequence.CodingSchemeDesignator=LN",
                {7},
            ),
            ("ConceptNameCodeSequence.CodeMeaning=diagnostic*", {7}),
            ("ConceptNameCodeSequence.CodeValue=1", set()),
        ],
    )


async def test_what_is_replaced_within_a_batch_is_not_found(tmp_path: Path) -> None:
    async with http_server(tmp_path, conflict=ConflictPolicy.REPLACE) as server:
        versions = [
            study(8, "Rep^Ort", (0x0040A043, "SQ", items(code(title, "LN")))).but(
                modality="SR", sop_class="1.2.840.10008.5.1.4.1.1.88.11"
            )
            for title in ("first", "second")
        ]
        await server.store(*versions)
        await matched(
            server,
            "/instances",
            [
                ("ConceptNameCodeSequence.CodeValue=first", set()),
                ("ConceptNameCodeSequence.CodeValue=second", {8}),
            ],
        )
