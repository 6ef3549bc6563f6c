"""WADO-RS and DELETE over HTTP (PS3.18 §10.4): objects come back as they were sent, whole or in part."""

from __future__ import annotations

import email
import email.policy
import io
from array import array
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGBaseline8Bit

from isocenter.dicom.uids import is_valid_uid
from isocenter.features.archive.changes import read_changes
from isocenter.kit.errors import Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import ORGANIZATION, Image, broken_promises, element
from services.dicomweb import HttpServer, http_server
from services.schema import fresh_url

IMAGES = [
    *(Image(sop=f"1.2.3.1.1.{number}", pixels=bytes([number]) * 3000) for number in (1, 2, 3)),
    Image(sop="1.2.3.1.2.1", series="1.2.3.1.2"),
    Image(sop="1.2.3.2.1.1", series="1.2.3.2.1", study="1.2.3.2", patient_id="P2"),
]
STUDY, SERIES = "/studies/1.2.3.1", "/studies/1.2.3.1/series/1.2.3.1.1"
INSTANCE = SERIES + "/instances/1.2.3.1.1.2"
OCTETS_AS_STORED = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
MULTIPART = 'multipart/related; type="application/dicom"'


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with http_server(tmp_path, database_url=url) as running:
            assert (await running.store(*IMAGES)).status_code == 200
            yield running
            assert await broken_promises(running.archive) == []


def parts(response: httpx2.Response) -> list[EmailMessage]:
    """The parts of a multipart answer, taken apart by somebody else's code."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    assert message.is_multipart()
    found: list[Any] = list(message.iter_parts())
    return found


def contents(response: httpx2.Response) -> list[bytes]:
    boundary = response.headers["content-type"].rpartition("boundary=")[2].encode()
    pieces = response.content.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces[1:-1]]


async def test_a_study_a_series_an_instance(server: HttpServer) -> None:
    for path, count in ((STUDY, 4), (SERIES, 3), (INSTANCE, 1)):
        response = await server.get(path, Accept=MULTIPART)
        assert response.status_code == 200
        assert len(response.content) == int(response.headers["content-length"])
        assert response.headers["content-type"].startswith('multipart/related; type="application/dicom"')
        expected = {image.file for image in IMAGES[:4]}
        assert len(parts(response)) == count
        assert len(contents(response)) == count
        assert set(contents(response)) <= expected
        for part in parts(response):
            assert part.get_content_type() == "application/dicom"
            assert part["Content-Type"].params["transfer-syntax"] == "1.2.840.10008.1.2.1"


async def test_one_instance_alone(server: HttpServer) -> None:
    response = await server.get(INSTANCE, Accept="application/dicom")
    assert response.headers["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    assert response.content == IMAGES[1].file
    several = await server.get(SERIES, Accept="application/dicom")
    assert several.status_code == 406
    assert "multipart/related" in several.json()["remedy"]


async def test_transfer_syntaxes_that_nothing_has_to_be_done_for(server: HttpServer) -> None:
    for syntax in ("", "; transfer-syntax=*", "; transfer-syntax=1.2.840.10008.1.2.1"):
        assert (await server.get(STUDY, Accept=MULTIPART + syntax)).status_code == 200
    response = await server.get(STUDY, Accept=MULTIPART + "; transfer-syntax=1.2.840.10008.1.2.4.102")
    assert response.status_code == 406
    assert "1.2.840.10008.1.2.1" in response.json()["remedy"]
    second_best = MULTIPART + "; transfer-syntax=1.2.840.10008.1.2.4.102, " + MULTIPART + "; q=0.5"
    assert (await server.get(STUDY, Accept=second_best)).status_code == 200
    for accept in ('multipart/related; type="image/jpeg"', "image/png", "text/html"):
        assert (await server.get(STUDY, Accept=accept)).status_code == 406


async def test_what_is_not_there(server: HttpServer) -> None:
    for path in (
        "/studies/1.2.9",
        "/studies/1.2.3.1/series/1.2.9",
        "/studies/1.2.3.2/series/1.2.3.1.1",
        SERIES + "/instances/1.2.9",
        "/studies/1.2.3.2/series/1.2.3.2.1/instances/1.2.3.1.1.1",
        "/studies/..%2f..%2fetc",
    ):
        for more in ("", "/metadata"):
            response = await server.get(path + more)
            assert response.status_code == 404, path + more
            assert response.headers["content-type"] == "application/problem+json"


async def test_unchanged_objects_are_not_sent_again(server: HttpServer) -> None:
    for path, accept in ((STUDY, MULTIPART), (INSTANCE, MULTIPART), (INSTANCE, "application/dicom")):
        first = await server.get(path, Accept=accept)
        again = await server.get(path, **{"Accept": accept, "If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert first.content == (await server.get(path, Accept=accept)).content, "a strong tag: same bytes"
    tag = (await server.get(STUDY)).headers["etag"]
    await server.store(Image(sop="1.2.3.1.1.4"))
    assert (await server.get(STUDY, **{"If-None-Match": tag})).status_code == 200


async def test_head(server: HttpServer) -> None:
    whole = await server.get(STUDY)
    head = await server.client.head(server.dicomweb + STUDY)
    assert head.content == b""
    for name in ("content-length", "content-type", "etag"):
        assert head.headers[name] == whole.headers[name]


async def test_metadata_says_everything_but_the_pixels(server: HttpServer) -> None:
    for path, count in ((STUDY, 4), (SERIES, 3), (INSTANCE, 1)):
        response = await server.get(path + "/metadata")
        assert response.headers["content-type"] == "application/dicom+json"
        assert len(response.json()) == count
    (found,) = (await server.get(INSTANCE + "/metadata")).json()
    assert list(found) == sorted(found)
    expected = pydicom.dcmread(io.BytesIO(IMAGES[1].file))
    assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{server.dicomweb}{INSTANCE}/bulkdata/7FE00010"}
    pixels = await server.client.get(found.pop("7FE00010")["BulkDataURI"])
    assert pixels.headers["content-type"] == "application/octet-stream"
    assert pixels.content == expected.PixelData
    del expected.PixelData
    assert Dataset.from_json(found) == expected


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about its own odd files
async def test_every_file_of_pydicom_comes_back(tmp_path: Path, pydicom_test_files: list[Path]) -> None:
    """Byte by byte as a file; element by element as metadata with its bulk data."""
    async with http_server(tmp_path) as server:
        compared = 0
        for path in pydicom_test_files:
            content = path.read_bytes()
            answer = (await server.store(content)).json()
            stored = answer.get("00081199")
            if stored is None:
                continue
            url = stored["Value"][0]["00081190"]["Value"][0]
            given = await server.client.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
            sent = pydicom.dcmread(path, force=True)
            received = pydicom.dcmread(io.BytesIO(given.content))
            assert received == sent, path.name
            (found,) = (await server.client.get(url + "/metadata")).json()
            await compare_with_json(server, path.name, received, found)
            compared += 1
            await server.client.delete(url)
        assert compared > 50
        assert await server.found("/studies") == []


async def compare_with_json(server: HttpServer, name: str, sent: Dataset, found: dict[str, Any]) -> None:
    tags = {f"{one.tag:08X}" for one in sent if one.tag.element}
    assert set(found) == tags, name
    for uri, value in bulk_values(sent, found):
        accept = "application/octet-stream, " + OCTETS_AS_STORED
        response = await server.client.get(uri, headers={"Accept": accept})
        if uri.endswith("/7FE00010") and sent.file_meta.TransferSyntaxUID.is_compressed:
            response = await server.client.get(uri, headers={"Accept": OCTETS_AS_STORED})
        assert response.status_code == 200, (name, uri, response.text)
        if response.headers["content-type"].startswith("multipart/"):
            frames = list(generate_frames(value, number_of_frames=int(sent.get("NumberOfFrames", 1) or 1)))
            assert [frame.rstrip(b"\0") for frame in contents(response)] == [f.rstrip(b"\0") for f in frames]
        else:
            assert len(response.content) == len(value), (name, uri)


def bulk_values(sent: Dataset, found: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    for tag, attribute in found.items():
        one = sent[int(tag, 16)]
        if "BulkDataURI" in attribute:
            value = one.value if isinstance(one.value, bytes) else b""
            if value:
                yield attribute["BulkDataURI"], value
        elif attribute["vr"] == "SQ" and one.VR == "SQ":
            for item, content in zip(one.value, attribute.get("Value", []), strict=True):
                yield from bulk_values(item, content)


async def test_bulk_data_within_sequences(server: HttpServer) -> None:
    inner = element(0x00282000, "OB", bytes(range(256)) * 64)
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    image = IMAGES[0].but(sop="1.2.3.1.1.50", more=((0x00480105, "SQ", item),))
    assert (await server.store(image)).status_code == 200
    path = f"{SERIES}/instances/1.2.3.1.1.50"
    (found,) = (await server.get(path + "/metadata")).json()
    uri = found["00480105"]["Value"][0]["00282000"]["BulkDataURI"]
    assert uri.endswith("/bulkdata/00480105/0/00282000")
    assert (await server.client.get(uri)).content == bytes(range(256)) * 64
    whole = await server.client.get(
        uri, headers={"Accept": "multipart/related; type=application/octet-stream"}
    )
    assert contents(whole) == [bytes(range(256)) * 64]
    assert len(whole.content) == int(whole.headers["content-length"])
    for wrong in ("00480105", "00480105/1/00282000", "00480105/0", "xyz", "00480105/-1/00282000", "0" * 9000):
        response = await server.get(f"{path}/bulkdata/{wrong}")
        assert response.status_code == 404, wrong
    assert (await server.client.get(uri, headers={"Accept": "image/png"})).status_code == 406


async def test_compressed_frames_come_a_part_each(tmp_path: Path, pydicom_test_files: list[Path]) -> None:
    content = contents_of(pydicom_test_files, "examples_ybr_color.dcm")
    sent = pydicom.dcmread(io.BytesIO(content))
    assert sent.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert sent.NumberOfFrames > 1
    async with http_server(tmp_path) as server:
        answer = (await server.store(content)).json()
        url = answer["00081199"]["Value"][0]["00081190"]["Value"][0]
        accept = 'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50'
        response = await server.client.get(url + "/bulkdata/7FE00010", headers={"Accept": accept})
        frames = list(generate_frames(sent.PixelData, number_of_frames=int(sent.get("NumberOfFrames", 1))))
        assert contents(response) == frames
        assert parts(response)[0].get_content_type() == "image/jpeg"
        refused = await server.client.get(url + "/bulkdata/7FE00010", headers={"Accept": "image/png"})
        assert refused.status_code == 406


async def test_large_objects_without_pixels_are_mapped(tmp_path: Path) -> None:
    """An encapsulated document of some megabytes: its metadata is small, its bytes have an address."""
    document = bytes(range(256)) * (3 << 12)
    image = Image(pixels=b"", modality="DOC", sop_class="1.2.840.10008.5.1.4.1.1.104.1")
    image = image.but(more=((0x00420011, "OB", document), (0x7FE00010, "OW", None)))
    async with http_server(tmp_path) as server:
        assert (await server.store(image)).status_code == 200
        path = f"/studies/{image.study}/series/{image.series}/instances/{image.sop}"
        response = await server.get(path + "/metadata")
        assert len(response.content) < 4000
        (found,) = response.json()
        assert (await server.client.get(found["00420011"]["BulkDataURI"])).content == document


async def test_deleting(server: HttpServer) -> None:
    assert (await server.client.delete(server.dicomweb + INSTANCE)).status_code == 204
    assert len(await server.found(STUDY + "/instances")) == 3
    (study,) = await server.found("/studies?StudyInstanceUID=1.2.3.1")
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [3])
    assert (await server.client.delete(server.dicomweb + SERIES)).status_code == 204
    assert len(await server.found(STUDY + "/series")) == 1
    assert (await server.client.delete(server.dicomweb + STUDY)).status_code == 204
    assert len(await server.found("/studies")) == 1
    for path in (INSTANCE, SERIES, STUDY):
        assert (await server.client.delete(server.dicomweb + path)).status_code == 404
    changes = await read_changes(server.archive.database, ORGANIZATION, after=len(IMAGES))
    deleted = [
        (c.study_instance_uid, c.series_instance_uid, c.sop_instance_uid, c.detail["instances"])
        for c in changes
        if c.kind == "deleted"
    ]
    assert deleted == [
        ("1.2.3.1", "1.2.3.1.1", "1.2.3.1.1.2", 1),
        ("1.2.3.1", "1.2.3.1.1", "", 2),
        ("1.2.3.1", "", "", 1),
    ]
    assert await server.archive.one("SELECT count(*) AS n FROM patient") == 1, (
        "a patient goes with the last study"
    )
    assert len(await server.archive.keys()) == len(IMAGES), "the objects are the sweep's"
    assert (await server.store(*IMAGES)).status_code == 200, "and may come back"


async def test_a_lost_object_is_an_error_not_an_empty_answer(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        await server.store(*IMAGES)
        for key in await server.archive.keys():
            await server.archive.store.delete(key)
        for path in (STUDY, INSTANCE, INSTANCE + "/metadata", INSTANCE + "/bulkdata/7FE00010"):
            response = await server.get(path)
            assert response.status_code == 500, path
            assert response.json()["code"] == "object-lost"
            assert is_valid_uid(response.json()["detail"].split()[5])


async def test_an_object_lost_halfway_cuts_the_answer(tmp_path: Path) -> None:
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with http_server(tmp_path, store=store) as server:
        await server.store(*IMAGES)
        store.fail(Operation.GET, lambda: Unavailable("The store is away."), nth=2)
        with pytest.raises(httpx2.RemoteProtocolError):
            await server.get(STUDY)
        store.fail(Operation.GET, lambda: Unavailable("The store is away."))
        assert (await server.get(STUDY)).status_code == 503
        assert (await server.get(STUDY)).status_code == 200


async def test_deflated_objects(tmp_path: Path, pydicom_test_files: list[Path]) -> None:
    content = contents_of(pydicom_test_files, "image_dfl.dcm")
    sent = pydicom.dcmread(io.BytesIO(content))
    assert sent.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    async with http_server(tmp_path) as server:
        answer = (await server.store(content)).json()
        url = answer["00081199"]["Value"][0]["00081190"]["Value"][0]
        (found,) = (await server.client.get(url + "/metadata")).json()
        assert (await server.client.get(found["7FE00010"]["BulkDataURI"])).content == sent.PixelData


async def test_bulk_data_is_little_endian(tmp_path: Path, pydicom_test_files: list[Path]) -> None:
    content = contents_of(pydicom_test_files, "MR_small_bigendian.dcm")
    sent = pydicom.dcmread(io.BytesIO(content))
    assert sent.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    async with http_server(tmp_path) as server:
        answer = (await server.store(content)).json()
        url = answer["00081199"]["Value"][0]["00081190"]["Value"][0]
        given = (await server.client.get(url + "/bulkdata/7FE00010")).content
    words = array("H", sent.PixelData)
    words.byteswap()
    assert given == words.tobytes()


def contents_of(files: list[Path], name: str) -> bytes:
    return next(path for path in files if path.name == name).read_bytes()
