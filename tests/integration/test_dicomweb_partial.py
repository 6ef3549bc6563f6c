"""Parts of answers (RFC 9110 §13, §14), whole ZIP archives, and metadata as XML."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pydicom
import pytest
import pytest_asyncio

from services.archive import Image, element
from services.dicomweb import HttpServer, http_server
from services.images import Pixels, compressed, data_set, file_of
from services.multipart import contents, locations, part_types

BIG = bytes(range(256)) * 128
WORDS = ((0x00280100, "US", b"\x10\0"), (0x00280101, "US", b"\x10\0"))
IMAGES = [
    *(Image(sop=f"1.2.3.1.1.{number}", pixels=bytes([number]) * 3000, more=WORDS) for number in (1, 2, 3)),
    Image(sop="1.2.3.1.2.1", series="1.2.3.1.2", more=(*WORDS, (0x00282000, "OB", BIG))),
]
STUDY = "/studies/1.2.3.1"
INSTANCE = STUDY + "/series/1.2.3.1.2/instances/1.2.3.1.2.1"
BULK = INSTANCE + "/bulkdata/00282000"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        assert (await running.store(*IMAGES)).status_code == 200
        yield running


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-5", -5, None),
        ("bytes=-999999999", 0, None),
        ("bytes=50-999999999", 50, None),
    ],
)
@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (BULK, "application/octet-stream"),
        (INSTANCE, "application/dicom; transfer-syntax=*"),
        (STUDY, "application/zip"),
    ],
)
async def test_a_part_is_that_part_of_the_whole(
    server: HttpServer, path: str, accept: str, asked: str, start: int, stop: int | None
) -> None:
    whole = await server.get(path, Accept=accept)
    assert whole.headers["accept-ranges"] == "bytes"
    part = await server.get(path, Accept=accept, Range=asked)
    expected = whole.content[start:stop]
    first = start % len(whole.content) if start < 0 else start
    assert (part.status_code, part.content) == (206, expected)
    assert part.headers["content-length"] == str(len(expected))
    last = first + len(expected) - 1
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole.content)}"
    assert part.headers["etag"] == whole.headers["etag"]


async def test_ranges_that_cannot_be(server: HttpServer) -> None:
    size = len(BIG)
    for asked in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0"):
        response = await server.get(BULK, Range=asked)
        assert (response.status_code, response.json()["code"]) == (416, "range-not-satisfiable")
        assert response.headers["content-range"] == f"bytes */{size}"
    for ignored in (
        "bytes=5-2",
        "bytes=a-b",
        "bytes=-",
        "items=0-1",
        "bytes=0-1,5-6",
        "bytes=" + "9" * 40 + "-",
    ):
        response = await server.get(BULK, Range=ignored)
        assert (response.status_code, response.content) == (200, BIG), ignored


async def test_a_part_of_another_version_is_the_whole(server: HttpServer) -> None:
    whole = await server.get(BULK)
    tag = whole.headers["etag"]
    part = await server.get(BULK, **{"Range": "bytes=0-9", "If-Range": tag})
    assert (part.status_code, len(part.content)) == (206, 10)
    for other in ('"other"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        response = await server.get(BULK, **{"Range": "bytes=0-9", "If-Range": other})
        assert (response.status_code, response.content) == (200, BIG)
    unchanged = await server.get(BULK, **{"Range": "bytes=0-9", "If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_parts_of_big_endian_bulk_data(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        made = data_set(Pixels(bits_allocated=32, bits_stored=32))
        await server.store(file_of(made, "1.2.840.10008.1.2.2"))
        path = "/studies/1.2.3.4.5/series/1.2.3.4.6/instances/1.2.3.4.7.1/bulkdata/7FE00010"
        assert (await server.get(path)).content == made.PixelData
        for start, stop in ((0, 1), (1, 6), (3, 4), (5, 900), (1900, 1920)):
            part = await server.get(path, Range=f"bytes={start}-{stop - 1}")
            assert part.content == made.PixelData[start:stop], (start, stop)


@pytest.mark.parametrize(("path", "count"), [(STUDY, 4), (STUDY + "/series/1.2.3.1.1", 3), (INSTANCE, 1)])
async def test_a_zip_of_it(server: HttpServer, path: str, count: int) -> None:
    response = await server.get(path, Accept="application/zip")
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-length"] == str(len(response.content))
    name = path.rpartition("/")[2]
    assert response.headers["content-disposition"] == f'attachment; filename="{name}.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    files = {f"{image.series}/{image.sop}.dcm": image.file for image in IMAGES}
    assert len(found) == count
    assert found.items() <= files.items()


async def test_a_zip_is_resumed_and_not_sent_twice(server: HttpServer) -> None:
    whole = await server.get(STUDY, Accept="application/zip")
    tag = whole.headers["etag"]
    pieces = b""
    while len(pieces) < len(whole.content):
        part = await server.get(
            STUDY,
            **{
                "Accept": "application/zip",
                "Range": f"bytes={len(pieces)}-{len(pieces) + 1999}",
                "If-Range": tag,
            },
        )
        assert part.status_code == 206
        pieces += part.content
    assert pieces == whole.content
    again = await server.get(STUDY, **{"Accept": "application/zip", "If-None-Match": tag})
    assert again.status_code == 304
    await server.store(Image(sop="1.2.3.1.1.9"))
    changed = await server.get(STUDY, **{"Accept": "application/zip", "Range": "bytes=5-", "If-Range": tag})
    assert changed.status_code == 200
    head = await server.client.head(server.dicomweb + STUDY, headers={"Accept": "application/zip"})
    assert head.headers["content-length"] == changed.headers["content-length"]


async def test_a_zip_holds_what_is_stored(server: HttpServer) -> None:
    stored = await server.get(STUDY, Accept="application/zip; transfer-syntax=1.2.840.10008.1.2.1")
    assert stored.status_code == 200
    other = await server.get(STUDY, Accept="application/zip; transfer-syntax=1.2.840.10008.1.2.4.90")
    assert other.status_code == 406


async def test_objects_larger_than_memory_likes_are_zipped_too(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        image = IMAGES[0].but(pixels=bytes(range(256)) * (24 << 10))
        await server.store(image)
        whole = await server.get(STUDY, Accept="application/zip")
        with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
            assert archive.read(archive.namelist()[0]) == image.file
        middle = await server.get(STUDY, Accept="application/zip", Range="bytes=5000000-5000099")
        assert middle.content == whole.content[5000000:5000100]


async def test_metadata_is_not_sent_twice(server: HttpServer) -> None:
    for accept in ("application/dicom+json", 'multipart/related; type="application/dicom+xml"'):
        first = await server.get(STUDY + "/metadata", Accept=accept)
        again = await server.get(
            STUDY + "/metadata", **{"Accept": accept, "If-None-Match": first.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")


async def test_metadata_as_xml(server: HttpServer) -> None:
    response = await server.get(STUDY + "/metadata", Accept='multipart/related; type="application/dicom+xml"')
    assert response.status_code == 200
    assert set(part_types(response)) == {"application/dicom+xml"}
    documents = [ET.fromstring(content) for content in contents(response)]
    assert len(documents) == 4
    space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
    tags = [one.get("tag") for one in documents[-1].iter(f"{space}DicomAttribute")]
    assert "00080018" in tags and "7FE00010" in tags
    bulk = [one.get("uri") for one in documents[-1].iter(f"{space}BulkData")]
    assert len(bulk) == 2
    assert (await server.client.get(str(bulk[0]))).status_code == 200
    for accept in ("application/xml", 'multipart/related; type="application/json"', "image/png"):
        assert (await server.get(STUDY + "/metadata", Accept=accept)).status_code == 406
    preferred = 'multipart/related; type="application/dicom+xml"; q=0.1, application/dicom+json'
    assert (await server.get(STUDY + "/metadata", Accept=preferred)).headers["content-type"] == (
        "application/dicom+json"
    )


async def test_odd_bulk_data_in_sequences_has_parts(server: HttpServer) -> None:
    inner = element(0x00282000, "OB", BIG)
    item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    await server.store(IMAGES[0].but(sop="1.2.3.1.1.50", more=((0x00480105, "SQ", item),)))
    path = STUDY + "/series/1.2.3.1.1/instances/1.2.3.1.1.50"
    (found,) = (await server.get(path + "/metadata")).json()
    uri = found["00480105"]["Value"][0]["00282000"]["BulkDataURI"]
    part = await server.client.get(uri, headers={"Range": "bytes=10-19"})
    assert part.content == BIG[10:20]
    file = await server.get(path, Accept="application/dicom")
    assert pydicom.dcmread(io.BytesIO(file.content)).SOPInstanceUID == "1.2.3.1.1.50"


async def test_all_bulk_data_in_one_answer(server: HttpServer) -> None:
    for path, images in ((STUDY, IMAGES), (INSTANCE, IMAGES[3:]), (STUDY + "/series/1.2.3.1.1", IMAGES[:3])):
        pixels = await server.get(path + "/pixeldata")
        assert contents(pixels) == [image.pixels for image in images]
        assert [where.rpartition("/instances/")[2] for where in locations(pixels)] == [
            f"{image.sop}/frames/1" for image in images
        ]
        everything = await server.get(path + "/bulkdata")
        values = [BIG] if images[-1] is IMAGES[3] else []
        assert sorted(contents(everything)) == sorted([image.pixels for image in images] + values)
        for where, content in zip(locations(everything), contents(everything), strict=True):
            octets = await server.client.get(where, headers={"Accept": "application/octet-stream"})
            assert octets.content == content, where
        tag = everything.headers["etag"]
        again = await server.get(path + "/bulkdata", **{"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
    for accept in ("image/png", "application/octet-stream", 'multipart/related; type="image/jls"'):
        assert (await server.get(STUDY + "/bulkdata", Accept=accept)).status_code == 406
    assert (await server.get("/studies/1.2.9/bulkdata")).status_code == 404


async def test_pixel_data_in_another_form_and_with_a_broken_one(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        broken = compressed(data_set(Pixels(), 2), "1.2.840.10008.1.2.4.90", [b"no codestream at all "])
        await server.store(file_of(data_set(Pixels(frames=2), 1)), file_of(broken))
        series = "/studies/1.2.3.4.5/series/1.2.3.4.6"
        jpeg_ls = 'multipart/related; type="image/jls"'
        given = await server.get(series + "/pixeldata", Accept=jpeg_ls)
        assert [kind.partition(";")[0] for kind in part_types(given)] == ["image/jls"] * 2 + [
            "application/octet-stream"
        ]
        assert contents(given)[2].startswith(b"no codestream")
        alone = await server.get(series + "/instances/1.2.3.4.7.2/pixeldata")
        assert (alone.status_code, alone.json()["code"]) == (406, "pixel-data-broken")
