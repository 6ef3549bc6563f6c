"""QIDO-RS over HTTP on both databases (PS3.18 §10.6)."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.doors.http.services import HttpLimits
from services.archive import Image
from services.dicomweb import HttpServer, http_server
from services.schema import fresh_url

US = "1.2.840.10008.5.1.4.1.1.6.1"


def study(number: int, **more: Any) -> Image:
    return Image(
        sop=f"1.9.{number}.1.1",
        series=f"1.9.{number}.1",
        study=f"1.9.{number}",
        patient_id=f"P{number}",
        **more,
    )


def with_values(image: Image, **values: str) -> Image:
    tags = {
        "StudyDate": (0x00080020, "DA"),
        "StudyTime": (0x00080030, "TM"),
        "AccessionNumber": (0x00080050, "SH"),
        "InstitutionName": (0x00080080, "LO"),
        "SeriesNumber": (0x00200011, "IS"),
        "InstanceNumber": (0x00200013, "IS"),
        "SpecificCharacterSet": (0x00080005, "CS"),
    }
    return image.but(more=(*image.more, *((*tags[name], value) for name, value in values.items())))


ARCHIVE = [
    with_values(
        study(1, name="DOE^JOHN", description="CT Chest"),
        StudyDate="20240101",
        StudyTime="0830",
        AccessionNumber="A1",
        InstitutionName="General",
        SeriesNumber="2",
    ),
    with_values(
        study(1, name="DOE^JOHN", description="CT Chest").but(
            series="1.9.1.2", sop="1.9.1.2.1", modality="SR"
        ),
        StudyDate="20240101",
        StudyTime="0830",
        AccessionNumber="A1",
        SeriesNumber="1",
    ),
    *(
        with_values(
            study(1, name="DOE^JOHN", description="CT Chest").but(sop=f"1.9.1.1.{number}"),
            StudyDate="20240101",
            StudyTime="0830",
            AccessionNumber="A1",
            SeriesNumber="2",
            InstanceNumber=str(number),
        )
        for number in (10, 9)
    ),
    with_values(
        study(2, name="Doe^Jane", modality="MR", sex="F"), StudyDate="20240215", StudyTime="235959.5"
    ),
    with_values(
        study(3, name="Müller^Jürgen".encode(), modality="US", sop_class=US),
        StudyDate="20231231",
        SpecificCharacterSet="ISO_IR 192",
    ),
    with_values(study(4, name=None, modality="CT", sex=None, birth_date=None), StudyDate=""),
    with_values(
        study(5, name="Yamada^Tarou=山田^太郎=やまだ^たろう".encode(), modality="CR"),
        StudyDate="20250505",
        SpecificCharacterSet="ISO_IR 192",
    ),
]


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with http_server(tmp_path, database_url=url) as running:
            response = await running.store(*ARCHIVE)
            assert response.status_code == 200, response.text
            yield running


def uids(found: list[dict[str, Any]], tag: str = "0020000D") -> list[str]:
    return [one[tag]["Value"][0] for one in found]


def numbers(found: list[dict[str, Any]]) -> set[int]:
    return {int(uid.split(".")[2]) for uid in uids(found)}


STUDIES: list[tuple[str, set[int]]] = [
    ("", {1, 2, 3, 4, 5}),
    ("PatientID=P1", {1}),
    ("00100020=P1", {1}),
    ("PatientID=p1", set()),
    ("PatientID=P*", {1, 2, 3, 4, 5}),
    ("PatientID=P?", {1, 2, 3, 4, 5}),
    ("PatientName=DOE*", {1, 2}),
    ("PatientName=doe^john", {1}),
    ("PatientName=muller*", {3}),
    ("PatientName=M%C3%9CLLER*", {3}),
    ("PatientName=%E5%B1%B1%E7%94%B0*", {5}),
    ("PatientName=Yamada^Tarou", {5}),
    ("PatientName=*", {1, 2, 3, 4, 5}),
    ("PatientName=", {1, 2, 3, 4, 5}),
    ("StudyDate=20240101", {1}),
    ("StudyDate=20240101-20240215", {1, 2}),
    ("StudyDate=20240102-", {2, 5}),
    ("StudyDate=-20240101", {1, 3}),
    ("StudyDate=20240101-20240215&StudyTime=0900-2359", {2}),
    ("StudyTime=08", {1}),
    ("StudyDescription=ct+chest", {1}),
    ("AccessionNumber=A1&PatientID=P1", {1}),
    ("AccessionNumber=A1&PatientID=P2", set()),
    ("ModalitiesInStudy=CT", {1, 4}),
    ("ModalitiesInStudy=SR", {1}),
    ("ModalitiesInStudy=MR%5CUS", {2, 3}),
    ("ModalitiesInStudy=C*", {1, 4, 5}),
    ("StudyInstanceUID=1.9.1,1.9.3", {1, 3}),
    ("StudyInstanceUID=1.9.1%5C1.9.3", {1, 3}),
    ("StudyInstanceUID=1.9.1&StudyInstanceUID=1.9.3", {1, 3}),
    ("PatientID=P1&PatientID=P2", {1, 2}),
    ("PatientSex=F", {1, 2, 3, 5}),
    ('emptyvaluematching=true&PatientSex=""', {4}),
    ("PatientID=%27%20OR%201%3D1%20--", set()),
]


async def test_studies(server: HttpServer) -> None:
    found = {query: numbers(await server.found(f"/studies?{query}")) for query, _ in STUDIES}
    assert found == dict(STUDIES)


async def test_a_study_holds_what_the_standard_lists(server: HttpServer) -> None:
    (found,) = await server.found("/studies?PatientID=P1")
    assert list(found) == sorted(found)
    assert found == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080020": {"vr": "DA", "Value": ["20240101"]},
        "00080030": {"vr": "TM", "Value": ["0830"]},
        "00080050": {"vr": "SH", "Value": ["A1"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00081190": {"vr": "UR", "Value": [f"{server.dicomweb}/studies/1.9.1"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE^JOHN"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA", "Value": ["19700101"]},
        "00100040": {"vr": "CS", "Value": ["F"]},
        "0020000D": {"vr": "UI", "Value": ["1.9.1"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": [4]},
    }


async def test_newest_study_first_and_numbers_in_order(server: HttpServer) -> None:
    assert uids(await server.found("/studies")) == ["1.9.5", "1.9.2", "1.9.1", "1.9.3", "1.9.4"]
    assert uids(await server.found("/studies/1.9.1/series"), "0020000E") == ["1.9.1.2", "1.9.1.1"]
    instances = await server.found("/studies/1.9.1/series/1.9.1.1/instances")
    assert uids(instances, "00080018") == ["1.9.1.1.1", "1.9.1.1.9", "1.9.1.1.10"]


async def test_pages(server: HttpServer) -> None:
    pages = [await server.found(f"/studies?limit=2&offset={offset}") for offset in (0, 2, 4, 6)]
    assert [uids(page) for page in pages] == [["1.9.5", "1.9.2"], ["1.9.1", "1.9.3"], ["1.9.4"], []]
    assert await server.found("/studies?limit=0") == []


async def test_includefield(server: HttpServer) -> None:
    (found,) = await server.found("/studies?PatientID=P1")
    assert "00081030" not in found
    for query in ("includefield=StudyDescription", "includefield=00080018,00081030", "includefield=all"):
        (found,) = await server.found(f"/studies?PatientID=P1&{query}")
        assert found["00081030"] == {"vr": "LO", "Value": ["CT Chest"]}
    (found,) = await server.found("/studies?PatientID=P1&includefield=NumberOfPatientRelatedStudies,00201204")
    assert found["00201200"]["Value"] == [1]
    assert found["00201204"]["Value"] == [4]
    (matched,) = await server.found("/studies?StudyDescription=CT*")
    assert "00081030" in matched, "what is matched on is returned"


async def test_series_and_instances_at_every_path(server: HttpServer) -> None:
    (series,) = await server.found("/studies/1.9.1/series?Modality=CT")
    assert series["00201209"]["Value"] == [3]
    assert series["00080060"]["Value"] == ["CT"]
    assert "00100010" not in series, "the study's own attributes are not repeated under its address"
    (series,) = await server.found("/series?Modality=SR")
    assert series["00100010"]["Value"] == [{"Alphabetic": "DOE^JOHN"}]
    assert series["00081190"]["Value"] == [f"{server.dicomweb}/studies/1.9.1/series/1.9.1.2"]
    assert len(await server.found("/studies/1.9.1/instances")) == 4
    assert len(await server.found("/instances")) == 8
    (instance,) = await server.found("/instances?SOPClassUID=" + US)
    assert instance["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert instance["00081190"]["Value"] == [
        f"{server.dicomweb}/studies/1.9.3/series/1.9.3.1/instances/1.9.3.1.1"
    ]
    (instance,) = await server.found("/studies/1.9.1/instances?InstanceNumber=9")
    assert instance["00080018"]["Value"] == ["1.9.1.1.9"]
    assert await server.found("/instances?PatientName=DOE*&Modality=MR")
    (general,) = await server.found("/series?InstitutionName=General")
    assert general["0020000E"]["Value"] == ["1.9.1.1"]
    assert general["00080080"]["Value"] == ["General"]


async def test_what_cannot_be_matched_is_said(server: HttpServer) -> None:
    response = await server.get(
        "/studies?PatientID=P1&Rows=512&RequestAttributesSequence.StudyInstanceUID=1.2"
    )
    assert len(response.json()) == 1
    warning = response.headers["warning"]
    assert warning.startswith(f"299 {server.dicomweb} ")
    assert "Rows" in warning
    assert "RequestAttributesSequence.StudyInstanceUID" in warning


async def test_unknown_parameters_are_ignored_and_said(server: HttpServer) -> None:
    """PS3.18 §8.3: as if they were not there."""
    response = await server.get("/studies?PatientID=P1&PatientNam=X&_=123&%22%0d%0aX-A:%201=2")
    assert len(response.json()) == 1
    assert "PatientNam, _, 1 other." in response.headers["warning"]
    assert "x-a" not in response.headers


WRONG = [
    ("orderby=Nonsense", "orderby"),
    ("orderby=PixelData", "orderby"),
    ("sort=-", "sort"),
    ("after=x", "after"),
    ("after=1.2.3.4.5", "after"),
    ("count=perhaps", "count"),
    ("offset=999999999", "offset"),
    ("RequestAttributesSequence.StudyInstanceUID.x=1&orderby=" + ",".join(["StudyDate"] * 9), "orderby"),
    ("TimezoneOffsetFromUTC=CET&StudyDate=20240101", "TimezoneOffsetFromUTC"),
    ("includefield=Nonsense", "includefield"),
    ("limit=-1", "limit"),
    ("limit=ten", "limit"),
    ("offset=1e9", "offset"),
    ("fuzzymatching=maybe", "fuzzymatching"),
    ("StudyDate=2024-01", "StudyDate"),
    ("StudyInstanceUID=1.2.x", "StudyInstanceUID"),
    ("StudyTime=25", "StudyTime"),
]


async def test_wrong_parameters_are_named(server: HttpServer) -> None:
    for query, named in WRONG:
        response = await server.get(f"/studies?{query}")
        assert response.status_code == 400
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert named in problem["detail"]
        assert problem["status"] == 400
        assert problem["trace_id"] == response.headers["x-trace-id"]


async def test_media_types(server: HttpServer) -> None:
    for accept, expected in (
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("*/*", "application/dicom+json"),
        ("text/html, application/*;q=0.5", "application/dicom+json"),
    ):
        response = await server.get("/studies", Accept=accept)
        assert response.headers["content-type"] == expected
    assert (await server.get("/studies", Accept="text/html")).status_code == 406
    response = await server.get("/studies?accept=application/json")
    assert response.headers["content-type"] == "application/json"
    assert (await server.get("/studies", Accept="a b c")).status_code == 400


async def test_compressed_when_asked_and_worth_it(server: HttpServer) -> None:
    async with server.client.stream(
        "GET", f"{server.dicomweb}/instances", headers={"Accept-Encoding": "gzip"}
    ) as response:
        raw = b"".join([piece async for piece in response.aiter_raw()])
    assert response.headers["content-encoding"] == "gzip"
    plain = await server.get("/instances", **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert "content-encoding" not in (await server.get("/studies?PatientID=P1")).headers


async def test_nothing_found_is_an_empty_list(server: HttpServer) -> None:
    """CP-2473."""
    response = await server.get("/studies?PatientID=nobody")
    assert (response.status_code, response.text) == (200, "[]")
    assert await server.found("/studies/1.2.3/series") == []


async def test_more_than_the_server_gives_at_once(tmp_path: Path) -> None:
    async with http_server(tmp_path, limits=HttpLimits(search_results_max=300)) as server:
        images = [study(number) for number in range(1, 306)]
        assert (await server.store(*images)).status_code == 200
        response = await server.get("/studies")
        assert len(response.json()) == 300
        assert "exceeded the maximum supported by the server (300)" in response.headers["warning"]
        rest = await server.get("/studies?offset=300")
        assert len(rest.json()) == 5
        assert "warning" not in rest.headers
        together = uids(response.json()) + uids(rest.json())
        assert len(set(together)) == 305
        assert "larger than 300" in (await server.get("/studies?limit=400")).headers["warning"]


async def test_addresses_are_the_public_ones(tmp_path: Path) -> None:
    async with http_server(tmp_path, public_url="https://pacs.example") as server:
        await server.store(study(1))
        (found,) = await server.found("/studies")
        assert found["00081190"]["Value"] == ["https://pacs.example/dicom-web/studies/1.9.1"]
