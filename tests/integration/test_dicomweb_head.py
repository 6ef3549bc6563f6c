"""HEAD of what is made when it is asked for: the headers of GET, and nothing is made (RFC 9110 §9.3.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.kit.errors import Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import Image
from services.dicomweb import HttpServer, http_server
from services.rendered_files import stored

IMAGE = stored(np.linspace(0, 1000, 64 * 48).astype("<u2").reshape(48, 64))
CINE = stored(
    np.stack([np.full((16, 24), 20 * number, np.uint8) for number in range(6)]),
    sop="1.2.3.1.2.1",
    series="1.2.3.1.2",
    modality="US",
)
PDF = Image(
    sop="1.2.3.1.3.1",
    series="1.2.3.1.3",
    sop_class="1.2.840.10008.5.1.4.1.1.104.1",
    modality="DOC",
    more=(
        (0x00420011, "OB", b"%PDF-1.7 small!!"),
        (0x00420012, "LO", "application/pdf"),
        (0x7FE00010, "OW", None),
    ),  # type: ignore[arg-type]
)
STUDY = f"/studies/{IMAGE.study}"
IMAGE_PATH, CINE_PATH, PDF_PATH = (
    f"{STUDY}/series/{one.series}/instances/{one.sop}" for one in (IMAGE, CINE, PDF)
)
WADO = f"/wado?requestType=WADO&studyUID={IMAGE.study}&seriesUID={IMAGE.series}&objectUID={IMAGE.sop}"
PARTS = 'multipart/related; type="image/png"'
UNSENT = (  # of what needs no look into the object
    (f"{STUDY}/rendered", "image/png"),
    (f"{STUDY}/rendered", PARTS),
    (f"{STUDY}/series/{CINE.series}/rendered", "video/mp4"),
    (f"{IMAGE_PATH}/rendered", "*/*"),
    (f"{IMAGE_PATH}/rendered?viewport=20,20", "image/jp2"),
    (f"{CINE_PATH}/rendered", "image/gif"),
    (f"{CINE_PATH}/rendered", PARTS),
    (f"{STUDY}/thumbnail", "*/*"),
    (f"{IMAGE_PATH}/thumbnail", "image/png"),
    (f"{CINE_PATH}/frames/6/thumbnail", "*/*"),
    (WADO, "*/*"),
    (f"{IMAGE_PATH}", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80"),
    (STUDY, 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80'),
)
OPENED = (
    (f"{CINE_PATH}/frames/1,3/rendered", "image/gif"),
    (f"{CINE_PATH}/frames/2/rendered", "image/jpeg"),
    (f"{PDF_PATH}/rendered", "application/pdf"),
)


async def head_is_as_get(server: HttpServer, path: str, accept: str) -> None:
    head = await server.client.head(server.dicomweb + path, headers={"Accept": accept})
    whole = await server.get(path, Accept=accept)
    assert (head.status_code, head.content) == (whole.status_code, b"") == (200, b""), whole.text
    for name in ("content-type", "etag", "cache-control", "vary"):
        assert head.headers.get(name) == whole.headers.get(name), (path, accept, name)
    length = str(len(whole.content))
    assert head.headers.get("content-length", length) == length, "the length of GET or none"
    again = await server.client.head(
        server.dicomweb + path, headers={"Accept": accept, "If-None-Match": head.headers["etag"]}
    )
    assert again.status_code == 304


async def test_the_headers_of_get(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        assert (await server.store(IMAGE, CINE, PDF)).status_code == 200
        for path, accept in UNSENT + OPENED:
            await head_is_as_get(server, path, accept)


async def test_nothing_is_read_or_made(tmp_path: Path) -> None:
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with http_server(tmp_path, store=store) as server:
        assert (await server.store(IMAGE, CINE, PDF)).status_code == 200
        for path, accept in UNSENT:
            store.fail(Operation.GET, lambda: Unavailable("The store is away."))
            head = await server.client.head(server.dicomweb + path, headers={"Accept": accept})
            assert head.status_code == 200, (path, accept)
            assert (await server.get(path, Accept=accept)).status_code == 503, "GET does read"


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        (f"{IMAGE_PATH}/rendered", "text/html", 406),
        (f"{IMAGE_PATH}/rendered?viewport=x", "*/*", 400),
        (f"{IMAGE_PATH}9/rendered", "*/*", 404),
        (f"{CINE_PATH}/frames/7/rendered", "*/*", 404),
        (f"{CINE_PATH}/frames/7/thumbnail", "*/*", 404),
        (f"{STUDY}9/thumbnail", "*/*", 404),
    ],
)
async def test_refused_as_get_is(tmp_path: Path, path: str, accept: str, status: int) -> None:
    async with http_server(tmp_path) as server:
        assert (await server.store(IMAGE, CINE)).status_code == 200
        head = await server.client.head(server.dicomweb + path, headers={"Accept": accept})
        assert head.status_code == (await server.get(path, Accept=accept)).status_code == status
