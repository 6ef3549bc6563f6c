"""QIDO-RS's answers on both databases: order, pages, counts, what else they hold, XML, compression."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import zstandard

from isocenter.dicom.native_model import NAMESPACE
from isocenter.doors.http.services import HttpLimits
from services.archive import Image, element
from services.dicomweb import HttpServer, http_server
from services.schema import fresh_url
from services.sequences import code, items

XML = 'multipart/related; type="application/dicom+xml"'
PRIVATE = ((0x00090010, "LO", "ACME"), (0x00091001, "LO", "secret"))


def image(study: int, series: int, number: int, *more: tuple[int, str, Any], **changes: Any) -> Image:
    return Image(
        sop=f"1.9.{study}.{series}.{number}",
        series=f"1.9.{study}.{series}",
        study=f"1.9.{study}",
        patient_id=f"P{study}",
        name=("BAKER^A", "ADAMS^B", "CLARK^C", "ADAMS^D")[study % 4],
        more=(
            (0x00080020, "DA", f"2024010{study}"),
            (0x00080050, "SH", "" if study == 2 else f"A{9 - study}"),
            (0x00200011, "IS", "" if series == 2 else str(series)),
            (0x00200013, "IS", str(number)),
            *more,
        ),
    ).but(**changes)


ARCHIVE = [
    *(
        image(
            1, 1, number, (0x00181151, "IS", str(100 + number)), (0x00189075, "CS", "DIRECTIONAL"), *PRIVATE
        )
        for number in (1, 2, 3)
    ),
    image(1, 2, 1, modality="SR"),
    image(2, 1, 1, modality="MR"),
    image(3, 1, 1, (0x00409096, "SQ", items(element(0x00409210, "SH", "label")))),
    image(4, 1, 1, (0x00082218, "SQ", items(code("1"))), pixels=b"\0\1" * 8000),
]


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        limits = HttpLimits(search_objects_max=4, search_offset_max=50)
        async with http_server(tmp_path, database_url=url, limits=limits) as running:
            response = await running.store(*ARCHIVE)
            assert response.status_code == 200, response.text
            yield running


def studies(found: list[dict[str, Any]]) -> list[int]:
    return [int(one["0020000D"]["Value"][0].split(".")[2]) for one in found]


def instances(found: list[dict[str, Any]]) -> list[str]:
    return [one["00080018"]["Value"][0].removeprefix("1.9.") for one in found]


ORDERS = [
    ("orderby=StudyDate", [1, 2, 3, 4]),
    ("orderby=-StudyDate", [4, 3, 2, 1]),
    ("sort=-00080020", [4, 3, 2, 1]),
    ("orderby=%2BAccessionNumber", [2, 4, 3, 1]),
    ("orderby=-AccessionNumber", [1, 3, 4, 2]),
    ("orderby=PatientName", [1, 3, 4, 2]),
    ("orderby=PatientName,StudyDate", [1, 3, 4, 2]),
    ("orderby=-PatientSex,PatientID", [1, 2, 3, 4]),
    ("orderby=PatientSex&orderby=-PatientID", [4, 3, 2, 1]),
    ("orderby=-NumberOfStudyRelatedInstances,PatientID", [1, 2, 3, 4]),
    ("orderby=ModalitiesInStudy,StudyDate", [3, 4, 1, 2]),
    ("orderby=", [4, 3, 2, 1]),
]


async def test_every_order_and_its_pages(server: HttpServer) -> None:
    for order, expected in ORDERS:
        assert studies(await server.found(f"/studies?{order}")) == expected, order
        # The same in pages of one: by number, and on from the last match.
        by_offset = [studies(await server.found(f"/studies?{order}&limit=1&offset={n}")) for n in range(5)]
        assert by_offset == [*([one] for one in expected), []], order
        after, followed = "", []
        while page := await server.found(f"/studies?{order}&limit=1&after={after}"):
            followed += studies(page)
            after = page[-1]["0020000D"]["Value"][0]
        assert followed == expected, order


async def test_instances_in_order(server: HttpServer) -> None:
    found = await server.found("/instances?includefield=PatientID")
    for one in found:  # each with what its own levels above say
        study, series, _ = one["00080018"]["Value"][0].removeprefix("1.9.").split(".")
        assert one["0020000D"]["Value"] == [f"1.9.{study}"] and one["00100020"]["Value"] == [f"P{study}"]
        assert one["0020000E"]["Value"] == [f"1.9.{study}.{series}"]
    everything = instances(found)
    assert everything == ["4.1.1", "3.1.1", "2.1.1", "1.1.1", "1.1.2", "1.1.3", "1.2.1"]
    for query in ("", "orderby=-SeriesNumber", "orderby=StudyDate,-InstanceNumber", "orderby=Modality"):
        expected = instances(await server.found(f"/instances?{query}"))
        assert sorted(expected) == sorted(everything)
        after, followed = "", []
        while page := await server.found(f"/instances?{query}&limit=2&after={after}"):
            followed += instances(page)
            after = page[-1]["00080018"]["Value"][0]
        assert followed == expected, query
    assert instances(await server.found("/studies/1.9.1/instances?orderby=-InstanceNumber"))[:2] == [
        "1.1.3",
        "1.1.2",
    ]
    # A series without a number is the smallest when asked for, the last when not.
    series = "/studies/1.9.1/series"
    assert [one["0020000E"]["Value"][0] for one in await server.found(series)] == ["1.9.1.1", "1.9.1.2"]
    ordered = await server.found(f"{series}?orderby=SeriesNumber")
    assert [one["0020000E"]["Value"][0] for one in ordered] == ["1.9.1.2", "1.9.1.1"]


async def test_counts(server: HttpServer) -> None:
    for path, count in (
        ("/patients", 4),
        ("/patients/count?PatientName=ADAMS*", 2),
        ("/studies", 4),
        ("/series", 5),
        ("/instances", 7),
        ("/studies/1.9.1/series", 2),
        ("/studies/1.9.1/instances", 4),
        ("/studies/1.9.1/series/1.9.1.1/instances", 3),
        ("/studies/9.9.9/instances", 0),
        ("/instances/count?PatientID=P1", 4),
        ("/instances/count?Modality=CT", 5),
        ("/instances/count?InstanceNumber=1", 5),
        ("/series/count?PatientID=P1&limit=1&offset=7", 2),
        ("/studies/count?ModalitiesInStudy=MR", 1),
    ):
        response = await server.get(path if "/count" in path else f"{path}/count")
        assert response.headers["content-type"] == "application/json"
        assert response.json() == {"count": count}, path
    assert (await server.get("/studies/count?StudyDate=x")).status_code == 400
    assert (await server.get("/studies/count", Accept="text/html")).status_code == 406
    response = await server.get("/studies/count?Rows=1&Nonsense=2")
    assert "Rows" in response.headers["warning"] and "Nonsense" in response.headers["warning"]


async def test_the_total_comes_with_a_page_where_it_is_asked_for(server: HttpServer) -> None:
    for query, total in (
        ("count=true", "4"),
        ("count=true&limit=2", "4"),
        ("count=true&limit=2&offset=3", "4"),
        ("count=true&limit=2&offset=40", "4"),
        ("count=true&limit=1&after=1.9.3", "4"),
        ("count=true&limit=0", "4"),
        ("count=true&PatientID=P1&limit=1", "1"),
        ("count=true&PatientID=nobody", "0"),
    ):
        assert (await server.get(f"/studies?{query}")).headers["x-total-count"] == total, query
    for query in ("", "count=false", "limit=1"):
        assert "x-total-count" not in (await server.get(f"/studies?{query}")).headers


async def test_patients(server: HttpServer) -> None:
    found = await server.found("/patients")
    names = [one["00100010"]["Value"][0]["Alphabetic"] for one in found]
    assert names == ["ADAMS^B", "ADAMS^D", "BAKER^A", "CLARK^C"]
    (one,) = await server.found("/patients?PatientID=P1")
    assert one == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "ADAMS^B"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA", "Value": ["19700101"]},
        "00100040": {"vr": "CS", "Value": ["F"]},
        "00201200": {"vr": "IS", "Value": [1]},
        "00201202": {"vr": "IS", "Value": [2]},
        "00201204": {"vr": "IS", "Value": [4]},
    }
    pages = [await server.found(f"/patients?limit=3&offset={offset}") for offset in (0, 3)]
    assert [one["00100020"]["Value"][0] for page in pages for one in page] == ["P1", "P3", "P4", "P2"]
    response = await server.get("/patients?StudyDate=20240101")
    assert "StudyDate" in response.headers["warning"]
    assert (await server.get("/patients?after=1.2")).status_code == 400
    assert (await server.get("/patients/P1/studies")).status_code == 404


async def test_attributes_that_only_the_objects_tell(server: HttpServer) -> None:
    path = "/studies/1.9.1/series/1.9.1.1/instances"
    found = await server.found(f"{path}?includefield=XRayTubeCurrent,00189075&includefield=00091001")
    assert [one["00181151"]["Value"] for one in found] == [[101], [102], [103]]
    assert found[0]["00189075"] == {"vr": "CS", "Value": ["DIRECTIONAL"]}
    assert found[0]["00091001"] == {"vr": "LO", "Value": ["secret"]}
    assert found[0]["00090010"] == {"vr": "LO", "Value": ["ACME"]}, "its private creator comes along"
    assert list(found[0]) == sorted(found[0])
    again = await server.found(f"{path}?includefield=XRayTubeCurrent,00189075&includefield=00091001")
    assert again == found, "remembered"
    (found_one,) = await server.found(
        "/instances?PatientID=P3&includefield=RealWorldValueMappingSequence.LUTLabel"
    )
    assert found_one["00409096"]["Value"][0]["00409210"]["Value"] == ["label"]
    (found_one,) = await server.found("/instances?PatientID=P4&includefield=PixelData")
    pixels = await server.client.get(found_one["7FE00010"]["BulkDataURI"])
    assert pixels.content == b"\0\1" * 8000
    (found_one,) = await server.found("/instances?PatientID=P2&includefield=XRayTubeCurrent")
    assert "00181151" not in found_one


async def test_bounds_on_reading_objects(server: HttpServer) -> None:
    response = await server.get("/instances?includefield=XRayTubeCurrent")
    assert len(response.json()) == 7
    assert "XRayTubeCurrent" in response.headers["warning"] and "limit=4" in response.headers["warning"]
    response = await server.get("/instances?includefield=XRayTubeCurrent&limit=4")
    assert "warning" not in response.headers
    response = await server.get("/series?includefield=XRayTubeCurrent")
    assert "only kept with the instances: XRayTubeCurrent" in response.headers["warning"]
    # Of lower levels nothing is returned, and nothing said (PS3.18 §10.6.3.3.1).
    response = await server.get("/studies?includefield=SOPInstanceUID")
    assert "warning" not in response.headers and "00080018" not in response.json()[0]


async def test_a_lost_object_costs_its_attributes_only(server: HttpServer) -> None:
    key = await server.archive.one("SELECT object_key FROM instance WHERE sop_instance_uid = '1.9.2.1.1'")
    await server.archive.store.delete(key)
    response = await server.get("/instances?PatientID=P2&includefield=XRayTubeCurrent")
    assert response.status_code == 200
    assert len(response.json()) == 1
    assert "1 objects could not be read" in response.headers["warning"]


async def test_xml(server: HttpServer) -> None:
    for path in ("/studies", "/instances?includefield=all", "/patients", "/studies?PatientID=nobody"):
        response = await server.get(path, Accept=XML)
        assert response.status_code == 200
        parts = xml_parts(response.headers["content-type"], response.content)
        expected = await server.found(path)
        assert len(parts) == len(expected)
        for part, one in zip(parts, expected, strict=True):
            assert part.tag == f"{{{NAMESPACE}}}NativeDicomModel"
            assert [attribute.get("tag") for attribute in part] == list(one)
    for accept, kind in (
        ("multipart/related", "multipart/related"),
        (f"{XML}, application/dicom+json;q=0.5", "multipart/related"),
        (f"{XML};q=0.1, application/dicom+json;q=0.5", "application/dicom+json"),
        ("multipart/related; type=application/dicom+xml", "multipart/related"),
    ):
        response = await server.get("/studies", Accept=accept)
        assert response.headers["content-type"].split(";")[0] == kind, accept
    assert (await server.get("/studies", Accept='multipart/related; type="image/jpeg"')).status_code == 406
    query = "/studies?accept=multipart/related%3B+type%3D%22application/dicom%2Bxml%22"
    assert (await server.get(query)).headers["content-type"].startswith("multipart/related")


def xml_parts(content_type: str, body: bytes) -> list[ElementTree.Element]:
    """With the standard library's parser of multipart, which knows nothing of DICOM."""
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    parts = message.get_payload()
    if not isinstance(parts, list):
        return []
    for part in parts:
        assert part.get_content_type() == "application/dicom+xml"
        assert int(part["Content-Length"]) == len(part.get_payload(decode=True))
    return [ElementTree.fromstring(part.get_payload(decode=True)) for part in parts]


async def raw(server: HttpServer, path: str, encodings: str) -> tuple[str, bytes]:
    async with server.client.stream(
        "GET", server.dicomweb + path, headers={"Accept-Encoding": encodings}
    ) as response:
        assert response.status_code == 200
        content = b"".join([piece async for piece in response.aiter_raw()])
    return response.headers.get("content-encoding", ""), content


async def test_codings(server: HttpServer) -> None:
    path = "/instances?includefield=all"
    coding, plain = await raw(server, path, "identity")
    assert coding == "" and len(plain) > 4096
    for accepted, expected in (
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0, zstd;q=0", ""),
        ("zstd;q=0.000", ""),
        ("br", ""),
        ("gzip;q=x", ""),
        (", ;;q=", ""),
    ):
        coding, content = await raw(server, path, accepted)
        assert coding == expected, accepted
        if coding == "gzip":
            content = gzip.decompress(content)
        if coding == "zstd":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        assert content == plain


async def test_long_answers_come_in_pieces_in_every_coding(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        images = [image(1, 1, number) for number in range(1, 601)]
        for start in range(0, 600, 200):
            assert (await server.store(*images[start : start + 200])).status_code == 200
        _, plain = await raw(server, "/instances", "identity")
        _, zipped = await raw(server, "/instances", "gzip")
        _, small = await raw(server, "/instances", "zstd")
        assert (
            plain == gzip.decompress(zipped) == zstandard.ZstdDecompressor().decompressobj().decompress(small)
        )
        response = await server.get("/instances", Accept=XML)
        assert len(xml_parts(response.headers["content-type"], response.content)) == 600


async def test_where_to_retrieve_from_over_dimse(tmp_path: Path) -> None:
    async with http_server(tmp_path, retrieve_ae_title="ISOCENTER") as server:
        await server.store(*ARCHIVE)
        (found,) = await server.found("/studies?PatientID=P1&includefield=RetrieveAETitle")
        assert found["00080054"] == {"vr": "AE", "Value": ["ISOCENTER"]}
        (found,) = await server.found("/studies?PatientID=P1")
        assert "00080054" not in found


async def test_the_trail_tells_of_counts_and_patients(tmp_path: Path) -> None:
    async with http_server(tmp_path, audited=True) as server:
        await server.store(*ARCHIVE)
        await server.found("/patients?PatientName=ADAMS*&RequestAttributesSequence.RequestedProcedureID=R")
        await server.get("/studies/1.9.1/instances/count?Modality=CT")
        await server.trail.settled()
        rows = await server.archive.rows("SELECT * FROM audit_event WHERE action = 'search' ORDER BY id")
        kinds = [row["resource_kind"] for row in rows]
        assert kinds == ["patient", "instance"]
        assert '"count":3' in rows[1]["details"] and '"study":"1.9.1"' in rows[1]["details"]
        assert "ADAMS*" in rows[0]["details"]
