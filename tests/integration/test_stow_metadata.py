"""STOW-RS of metadata and bulk data (PS3.18 §8.6.1.2.1): what becomes of it, what is refused."""

from __future__ import annotations

import asyncio
import io
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.features.archive.policies import BatchPolicy
from services.archive import broken_promises
from services.dicomweb import BOUNDARY, HttpServer, http_server
from services.stow import JSON, OCTETS, XML, message, send

J = "1.2.840.10008.1.2.4."
URI = "http://elsewhere.example/bulk/1"
PIXELS = bytes(range(200)) * 2
JPEG = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x0a\x00\x14\x01\x01\x11\x00" + b"\x55" * 50 + b"\xff\xd9"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running
        assert await broken_promises(running.archive) == []
        assert list((tmp_path / "spool").iterdir()) == []
        assert running.archive.spool.budget.used_bytes == 0


def attributes(number: int = 1, **more: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.7"]},
        "00080018": {"vr": "UI", "Value": [f"1.2.3.4.{number}"]},
        "00080020": {"vr": "DA", "Value": ["20260102"]},
        "00080060": {"vr": "CS", "Value": ["OT"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg", "Ideographic": "山田^太郎"}]},
        "00100020": {"vr": "LO", "Value": ["P1"]},
        "00100030": {"vr": "DA"},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.9"]},
        "00280002": {"vr": "US", "Value": [1]},
        "00280010": {"vr": "US", "Value": [10]},
        "00280011": {"vr": "US", "Value": [20]},
        "00280100": {"vr": "US", "Value": [16]},
    }
    return made | {name.removeprefix("x"): value for name, value in more.items()}


def pixels(uri: str = URI) -> dict[str, dict[str, Any]]:
    return {"x7FE00010": {"vr": "OW", "BulkDataURI": uri}}


def frames(number: int) -> dict[str, dict[str, Any]]:
    return pixels() | {"x00280008": {"vr": "IS", "Value": [number]}}


async def stored(server: HttpServer, number: int = 1) -> pydicom.FileDataset:
    response = await server.get(
        f"/studies/1.2.3/series/1.2.3.9/instances/1.2.3.4.{number}",
        Accept="application/dicom; transfer-syntax=*",
    )
    assert response.status_code == 200, response.text
    return pydicom.dcmread(io.BytesIO(response.content))


async def count(server: HttpServer) -> int:
    return len(await server.found("/instances"))


async def test_values_of_every_kind(server: HttpServer) -> None:
    more: dict[str, dict[str, Any]] = {
        "x00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]},
        "x00081115": {"vr": "SQ", "Value": [{"0020000E": {"vr": "UI", "Value": ["1.2"]}}, {}]},
        "x00181151": {"vr": "IS", "Value": ["12", 13]},
        "x00280030": {"vr": "DS", "Value": [0.5, "0.25"]},
        "x00209165": {"vr": "AT", "Value": ["00209056"]},
        "x00089459": {"vr": "FL", "Value": [1.5]},
        "x00660033": {"vr": "OB", "InlineBinary": "AQID"},
        "x00090010": {"vr": "LO", "Value": ["ACME"]},
        "x00091001": {"vr": "UN", "InlineBinary": "AQIDBA=="},
        "x00281052": {"vr": "DS"},
    }
    response = await send(server, [attributes(**pixels(), **more)], [(OCTETS, URI, PIXELS)])
    assert response.status_code == 200, response.text
    found = await stored(server)
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == "1.2.3.4.1"
    assert found.file_meta.MediaStorageSOPClassUID == found.SOPClassUID
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert found.SpecificCharacterSet == "ISO_IR 192", (
        "what JSON is in, and the only set that holds all of it"
    )
    assert str(found.PatientName) == "Müller^Jörg=山田^太郎"
    assert list(found.ImageType) == ["ORIGINAL", "", "AXIAL"]
    assert [len(item) for item in found.ReferencedSeriesSequence] == [1, 0]
    assert list(found.PixelSpacing) == [0.5, 0.25]
    assert found[0x00660033].value == b"\1\2\3\0"
    assert found[0x00091001].value == b"\1\2\3\4"
    assert found.RescaleIntercept is None
    assert found.PixelData == PIXELS
    assert (await send(server, [attributes(**pixels(), **more)], [(OCTETS, URI, PIXELS)])).json()["00081199"][
        "Value"
    ][0]["00091001"]["Value"] == ["IDENTICAL"]


async def test_several_instances_and_their_bulk_data(server: HttpServer) -> None:
    data_sets = [attributes(number, **pixels(f"bulk/{number}")) for number in range(1, 4)]
    bulk = [(OCTETS, f"bulk/{number}", bytes([number]) * 400) for number in (3, 1, 2)]
    assert (await send(server, data_sets, bulk)).status_code == 200
    for number in range(1, 4):
        assert (await stored(server, number)).PixelData == bytes([number]) * 400


async def test_names_of_parts(server: HttpServer) -> None:
    """Relative and absolute are one; Content-ID with cid: (RFC 2392); in whatever order."""
    relative, _ = message(
        [orjson.dumps([attributes(**pixels(server.dicomweb + "/b/1"))])], [(OCTETS, "b/1", PIXELS)]
    )
    by_id = (
        f"--{BOUNDARY}\r\nContent-Type: {OCTETS}\r\nContent-ID: <a b@c>\r\n\r\n".encode() + PIXELS + b"\r\n"
    )
    metadata, headers = message([orjson.dumps(attributes(2, **pixels("cid:a%20b@c")))])
    for body in (relative, by_id + metadata):
        response = await server.client.post(f"{server.dicomweb}/studies", content=body, headers=headers)
        assert response.status_code == 200, response.text
    assert (await stored(server, 2)).PixelData == PIXELS


async def test_bulk_data_within_sequences(server: HttpServer) -> None:
    item = {"00420011": {"vr": "OB", "BulkDataURI": "b"}, "00420012": {"vr": "LO", "Value": ["text/plain"]}}
    nested = {"vr": "SQ", "Value": [{"00081115": {"vr": "SQ", "Value": [item, {}]}}]}
    content = b"x" * 100_001
    assert (
        await send(server, [attributes(x00400260=nested)], [("application/pdf", "b", content)])
    ).status_code == 200
    found = await stored(server)
    inner = found.PerformedProtocolCodeSequence[0].ReferencedSeriesSequence
    assert inner[0].EncapsulatedDocument == content + b"\0"
    assert inner[0].MIMETypeOfEncapsulatedDocument == "text/plain"
    assert len(inner[1]) == 0


async def test_text_as_bulk_data_changes_its_character_set(server: HttpServer) -> None:
    text = "Größe " * 3000
    made = attributes(x0040A160={"vr": "UT", "BulkDataURI": "t"})
    assert (await send(server, [made], [(OCTETS, "t", text.encode("latin-1"))])).status_code == 200
    assert (await stored(server)).TextValue == text.rstrip()


@pytest.mark.parametrize(
    ("content_type", "syntax"),
    [
        ("image/jpeg; transfer-syntax=" + J + "51", J + "51"),
        ("image/jpeg", J + "50"),  # as the frame says
        ("image/jls", J + "80"),
        ("image/jls; transfer-syntax=" + J + "81", J + "81"),
        ("image/jp2", J + "90"),
        ("image/jphc; transfer-syntax=" + J + "203", J + "203"),
        ("image/dicom-rle", "1.2.840.10008.1.2.5"),
        ("application/octet-stream; transfer-syntax=" + J + "90", J + "90"),
    ],
)
async def test_compressed_frames(server: HttpServer, content_type: str, syntax: str) -> None:
    parts = [JPEG + bytes(number) for number in range(3)]
    response = await send(server, [attributes(**frames(3))], [(content_type, URI, one) for one in parts])
    assert response.status_code == 200, response.text
    found = await stored(server)
    assert found.file_meta.TransferSyntaxUID == syntax
    given_frames = list(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=3))
    assert given_frames == [one + bytes(len(one) % 2) for one in parts]
    offsets = pydicom.encaps.parse_basic_offsets(found.PixelData)
    assert len(offsets) == 3
    response = await server.get(
        "/studies/1.2.3/series/1.2.3.9/instances/1.2.3.4.1/frames/2",
        Accept=f'multipart/related; type="{OCTETS}"; transfer-syntax=*',
    )
    assert parts[1] in response.content


async def test_the_metadata_may_name_the_transfer_syntax(server: HttpServer) -> None:
    made = attributes(**pixels(), x00020010={"vr": "UI", "Value": [J + "91"]})
    response = await send(server, [made], [("image/jp2", URI, JPEG)])
    assert response.status_code == 200, "group 2 is no loss: it is in the file meta information"
    found = await stored(server)
    assert found.file_meta.TransferSyntaxUID == J + "91"


@pytest.mark.parametrize(
    ("content_type", "syntax"),
    [
        ("video/mp4", J + "102"),
        ("video/mpeg; transfer-syntax=" + J + "100.1", J + "100.1"),
        ("video/H265; transfer-syntax=" + J + "107", J + "107"),
    ],
)
async def test_video(server: HttpServer, content_type: str, syntax: str) -> None:
    content = b"\0\0\1\xb3" + bytes(range(250)) * 400
    response = await send(server, [attributes(**frames(25))], [(content_type, URI, content)])
    assert response.status_code == 200, response.text
    found = await stored(server)
    assert found.file_meta.TransferSyntaxUID == syntax
    assert next(pydicom.encaps.generate_fragments(found.PixelData[8:])) == content
    assert found.PixelData[:8] == b"\xfe\xff\x00\xe0\0\0\0\0", "video has no table"


async def test_uncompressed_frames_in_parts(server: HttpServer) -> None:
    bulk = [(OCTETS, f"{URI}/frames/{number}", bytes([number]) * 400) for number in range(1, 5)]
    assert (await send(server, [attributes(**frames(4))], bulk)).status_code == 200
    assert (await stored(server)).PixelData == b"".join(bytes([number]) * 400 for number in range(1, 5))


async def test_attributes_without_a_place_are_left_out_and_it_is_said(server: HttpServer) -> None:
    made = attributes(x00080000={"vr": "UL", "Value": [99]}, x00000002={"vr": "UI", "Value": ["1.2"]})
    response = await send(server, [made])
    assert response.status_code == 202
    [item] = response.json()["00081199"]["Value"]
    assert item["00081196"]["Value"] == [0xB006]
    assert 0x00080000 not in await stored(server)


@pytest.mark.parametrize("batch", list(BatchPolicy))
async def test_one_that_is_no_valid_instance(tmp_path: Path, batch: BatchPolicy) -> None:
    async with http_server(tmp_path, batch=batch) as server:
        bad = attributes(2)
        del bad["00080060"]
        nameless = attributes(3, x00080018={"vr": "UI", "Value": ["no UID"]})
        response = await send(server, [attributes(1), bad, nameless])
        whole = batch is BatchPolicy.ALL_OR_NOTHING
        assert response.status_code == (409 if whole else 202)
        assert await count(server) == (0 if whole else 1)
        failed = response.json()["00081198"]["Value"]
        reasons = [one["00081197"]["Value"][0] for one in failed]
        assert reasons == ([0x0110, 0xA900, 0xA900] if whole else [0xA900, 0xA900])
        assert await broken_promises(server.archive) == []


def nested(depth: int) -> bytes:
    return b'{"00081115":{"vr":"SQ","Value":[' * depth + b"{}" + b"]}}" * depth


LAUGHS = b"""<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<NativeDicomModel><DicomAttribute tag="00100020" vr="LO"><Value number="1">&b;</Value></DicomAttribute>
</NativeDicomModel>"""
FILE = b"""<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><NativeDicomModel>&a;</NativeDicomModel>"""


def xml(inner: bytes) -> bytes:
    return b"<NativeDicomModel>" + inner + b"</NativeDicomModel>"


BROKEN_JSON: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "invalid-dicom-json"),
    "numbers": (b"[1, 2]", "invalid-dicom-json"),
    "as deep as the parser goes": (b"[" * 100_000, "invalid-dicom-json"),
    "deep": (nested(200), "too-deep"),
    "deeper than objects may be": (nested(100), "too-deep"),
    "huge number": (b'{"00280010":{"vr":"US","Value":[1e400]}}', "invalid-dicom-json"),
    "huge integer": (b'{"00280010":{"vr":"US","Value":[' + b"9" * 5000 + b"]}}", "invalid-dicom-json"),
    "huge integer as text": (
        b'{"00281234":{"vr":"UV","Value":["' + b"9" * 5000 + b'"]}}',
        "invalid-dicom-json",
    ),
    "vr of another type": (b'{"00280010":{"vr":["US"],"Value":[1]}}', "invalid-dicom-json"),
    "vr unknown": (b'{"00280010":{"vr":"XX","Value":[1]}}', "invalid-dicom-json"),
    "sequence elsewhere": (b'{"00081115":{"vr":"SQ","BulkDataURI":"b"}}', "invalid-dicom-json"),
    "no tag": (b'{"PatientID":{"vr":"LO","Value":["1"]}}', "invalid-dicom-json"),
    "two kinds": (b'{"00660033":{"vr":"OB","InlineBinary":"AA==","BulkDataURI":"b"}}', "invalid-dicom-json"),
    "missing bulk": (
        b'{"7FE00010":{"vr":"OW","BulkDataURI":"http://169.254.169.254/x"}}',
        "bulk-data-missing",
    ),
    "a file": (b'{"00660033":{"vr":"OB","BulkDataURI":"file:///etc/passwd"}}', "bulk-data-missing"),
    "broken address": (b'{"00660033":{"vr":"OB","BulkDataURI":"http://[::1"}}', "bulk-data-missing"),
    "uri of another type": (b'{"7FE00010":{"vr":"OW","BulkDataURI":7}}', "invalid-dicom-json"),
    "charset of another type": (b'{"00080005":{"vr":"CS","Value":[7]}}', "invalid-dicom-json"),
    "frames past counting": (
        b'{"00280008":{"vr":"IS","Value":["' + b"9" * 5000 + b'"]},"7FE00010":{"vr":"OB","BulkDataURI":"j"}}',
        "",
    ),
}
BROKEN_XML: dict[str, tuple[bytes, str]] = {
    "no XML": (b"<", "invalid-native-model"),
    "billion laughs": (LAUGHS, "invalid-native-model"),
    "external entity": (FILE, "invalid-native-model"),
    "another document": (b"<html/>", "invalid-native-model"),
    "unknown encoding": (
        b'<?xml version="1.0" encoding="klingon"?><NativeDicomModel/>',
        "invalid-native-model",
    ),
    "deep": (
        b"<NativeDicomModel>" + b'<DicomAttribute tag="00081115" vr="SQ"><Item number="1">' * 100_000,
        "invalid-native-model",
    ),
    "deeper than objects may be": (
        xml(
            b'<DicomAttribute tag="00081115" vr="SQ"><Item number="1">' * 100
            + b"</Item></DicomAttribute>" * 100
        ),
        "too-deep",
    ),
    "a value far away": (
        xml(b'<DicomAttribute tag="00080008" vr="CS"><Value number="999999999">A</Value></DicomAttribute>'),
        "invalid-native-model",
    ),
    "text between": (xml(b"hello"), "invalid-native-model"),
    "twice": (xml(b'<DicomAttribute tag="00100020" vr="LO"/>' * 2), "invalid-native-model"),
    "two kinds": (
        xml(
            b'<DicomAttribute tag="00660033" vr="OB"><InlineBinary>AA==</InlineBinary><BulkData uri="b"/>'
            b"</DicomAttribute>"
        ),
        "invalid-native-model",
    ),
    "no number": (
        xml(b'<DicomAttribute tag="00080008" vr="CS"><Value>A</Value></DicomAttribute>'),
        "invalid-native-model",
    ),
    "not base64": (
        xml(b'<DicomAttribute tag="00660033" vr="OB"><InlineBinary>*</InlineBinary></DicomAttribute>'),
        "invalid-dicom-json",
    ),
}


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        *(pytest.param(JSON, *case, id=f"json {name}") for name, case in BROKEN_JSON.items()),
        *(pytest.param(XML, *case, id=f"xml {name}") for name, case in BROKEN_XML.items()),
    ],
)
async def test_broken_metadata_is_refused_whole(
    server: HttpServer, kind: str, content: bytes, code: str
) -> None:
    """With a good instance before it: nothing of the request is stored."""
    good = orjson.dumps(attributes()) if kind == JSON else xml(b'<DicomAttribute tag="00100020" vr="LO"/>')
    body, headers = message([good, content], [("image/jpeg", "j", JPEG)], kind)
    response = await server.client.post(f"{server.dicomweb}/studies", content=body, headers=headers)
    assert response.status_code == 400 if code else response.status_code in {202, 400, 409}, response.text
    if code:
        assert response.json()["code"] == code
        assert await count(server) == 0
        assert await server.archive.one("SELECT count(*) AS n FROM quarantine") == 0


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("image/png", 415),
        ("application/dicom", 415),
        (OCTETS + "; transfer-syntax=1.2.840.10008.1.2.2", 415),
        (OCTETS + "; transfer-syntax=1.2.3", 415),
        ("image/jpeg; transfer-syntax=" + J + "90", 400),
    ],
)
async def test_parts_that_are_no_bulk_data(server: HttpServer, content_type: str, status: int) -> None:
    response = await send(server, [attributes(**pixels())], [(content_type, URI, PIXELS)])
    assert response.status_code == status, response.text
    assert await count(server) == 0


async def test_frames_that_do_not_add_up(server: HttpServer) -> None:
    for sent in (1, 3):
        parts = [("image/jp2", URI, JPEG)] * sent
        response = await send(server, [attributes(**frames(2))], parts)
        assert (response.status_code, response.json()["code"]) == (400, "bulk-data-missing")
    mixed = [("image/jp2", URI, JPEG), ("image/jls", URI, JPEG)]
    response = await send(server, [attributes(**frames(2))], mixed)
    assert (response.status_code, response.json()["code"]) == (400, "bulk-data-unusable")
    body, headers = message([orjson.dumps(attributes())])
    nameless = body.replace(f"--{BOUNDARY}--".encode(), f"--{BOUNDARY}\r\n\r\nxx\r\n--{BOUNDARY}--".encode())
    response = await server.client.post(f"{server.dicomweb}/studies", content=nameless, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed-multipart")
    assert await count(server) == 0


async def test_more_values_than_are_read(server: HttpServer) -> None:
    content = b'{"00280010":{"vr":"US","Value":[' + b"1," * 4_000_001 + b"1]}}"
    body, headers = message([content])
    response = await server.client.post(f"{server.dicomweb}/studies", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "metadata-too-large")


async def test_metadata_without_end(server: HttpServer) -> None:
    head, headers = message([b""])

    async def endless() -> AsyncIterator[bytes]:
        yield head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        for _ in range(70):
            yield b" " * (1 << 20)

    response = await server.client.post(f"{server.dicomweb}/studies", content=endless(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "metadata-too-large")


async def test_memory_stays_flat(server: HttpServer) -> None:
    """400 MB of pixels."""
    size = 400 << 20
    metadata, headers = message([orjson.dumps(attributes(**pixels()))])
    head = f"--{BOUNDARY}\r\nContent-Type: {OCTETS}\r\nContent-Location: {URI}\r\n\r\n".encode()

    async def body() -> AsyncIterator[bytes]:
        yield metadata.removesuffix(f"--{BOUNDARY}--\r\n".encode()) + head
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    response = await server.client.post(f"{server.dicomweb}/studies", content=body(), headers=headers)
    assert response.status_code == 200, response.text
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 100 << 10, f"{grown_kib >> 10} MiB"


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "vr",
                    "Value",
                    "InlineBinary",
                    "BulkDataURI",
                    "00080005",
                    "7FE00010",
                    "00081115",
                    "Alphabetic",
                    "x",
                ]
            ),
            inner | st.sampled_from(["SQ", "PN", "LT", "US", "OB", "AT", "DS", "CS"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_whatever_the_metadata_is(tmp_path: Path) -> None:
    """Any JSON is answered by 2xx or 4xx."""

    async def all_of_it() -> None:
        async with http_server(tmp_path) as server:
            loop = asyncio.get_running_loop()

            @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
            @given(
                st.lists(
                    st.dictionaries(
                        st.sampled_from(["00080005", "7FE00010", "00081115", "00100010", "00204000"]),
                        JSON_VALUES,
                        max_size=4,
                    ),
                    max_size=2,
                )
            )
            def one(data_sets: Any) -> None:
                body, headers = message(
                    [orjson.dumps(data_sets, option=orjson.OPT_PASSTHROUGH_DATETIME)],
                    [("image/jpeg", "x", JPEG)],
                )
                sending = server.client.post(f"{server.dicomweb}/studies", content=body, headers=headers)
                response = asyncio.run_coroutine_threadsafe(sending, loop).result(60)
                assert response.status_code < 500, (data_sets, response.text)

            await asyncio.to_thread(one)
            assert await broken_promises(server.archive) == []

    asyncio.run(all_of_it())


async def test_no_instance_at_all(server: HttpServer) -> None:
    response = await send(server, [])
    assert (response.status_code, response.json()["code"]) == (400, "malformed-multipart")
