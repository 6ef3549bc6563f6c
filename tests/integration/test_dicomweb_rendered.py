"""WADO-RS Rendered resources over HTTP, from a stored object to a picture (PS3.18 §10.4.1.1.3, §8.3.5)."""

from __future__ import annotations

import email
import io
from collections.abc import AsyncIterator
from email.message import Message
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image as Pillow

from isocenter.features.archive.policies import ConflictPolicy
from isocenter.kit.errors import Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import Image
from services.dicomweb import HttpServer, http_server
from services.rendered_files import Tag, opened, stored

_GRAY = np.linspace(0, 1000, 64 * 48).astype("<u2").reshape(48, 64)
_WINDOW: tuple[Tag, ...] = (
    (0x00281050, "DS", "500"),
    (0x00281051, "DS", "1000"),
    (0x00281056, "CS", "LINEAR_EXACT"),
)
_CINE = np.stack([np.full((16, 24), 20 * number, np.uint8) for number in range(6)])
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
WAVEFORM = "1.2.840.10008.5.1.4.1.1.9.1.1"

IMAGE = stored(_GRAY, *_WINDOW)
CINE = stored(_CINE, (0x00181063, "DS", "50"), sop="1.2.3.1.2.1", series="1.2.3.1.2", modality="US")


def path_of(image: Image, frames: str = "", resource: str = "rendered") -> str:
    instance = f"/studies/{image.study}/series/{image.series}/instances/{image.sop}"
    return f"{instance}/frames/{frames}/{resource}" if frames else f"{instance}/{resource}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, audited=True) as made:
        assert (await made.store(IMAGE, CINE)).status_code == 200
        yield made


def parts(response: httpx2.Response) -> list[Message[str, str]]:
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content)
    found = message.get_payload()
    assert isinstance(found, list)
    return found


def content(part: Message[str, str]) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


# --- pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept,given",
    [
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("image/jp2", "image/jp2"),
        ("text/html, image/png;q=0.5, image/jpeg;q=0.4", "image/png"),
        ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", "image/jpeg"),
    ],
)
async def test_the_best_of_what_is_accepted(server: HttpServer, accept: str, given: str) -> None:
    response = await server.get(path_of(IMAGE), Accept=accept)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == given
    assert np.abs(opened(response.content).astype(int) - np.floor(_GRAY * 0.255 + 0.5)).mean() < 2


@pytest.mark.parametrize("accept", ["text/html", "video/mp4", "application/dicom", "image/webp"])
async def test_nothing_else_is_given(server: HttpServer, accept: str) -> None:
    response = await server.get(path_of(IMAGE), Accept=accept)
    assert response.status_code == 406
    assert "image/jpeg" in response.json()["detail"]


async def test_the_accept_parameter_outranks_the_header(server: HttpServer) -> None:
    response = await server.get(path_of(IMAGE) + "?accept=image/png", Accept="image/gif")
    assert response.headers["content-type"] == "image/png"


async def test_parameters_reach_the_picture(server: HttpServer) -> None:
    async def shown(query: str) -> Any:
        response = await server.get(f"{path_of(IMAGE)}?{query}", Accept="image/png")
        assert response.status_code == 200, response.text
        return opened(response.content)

    assert (await shown("viewport=32,32")).shape == (24, 32)
    cut = await shown("viewport=8,8,4,2,8,8")
    assert np.array_equal(cut, (await shown(""))[2:10, 4:12])
    assert np.array_equal(await shown("viewport=64,48,,,-64,"), (await shown(""))[:, ::-1])
    assert np.array_equal(
        await shown("window=200,400,linear-exact"),
        np.floor(np.clip((_GRAY - 200.0) / 400 + 0.5, 0, 1) * 255 + 0.5),
    )
    assert not np.array_equal(await shown("window=200,400,sigmoid"), await shown("window=200,400,linear"))
    assert not np.array_equal(
        await shown("viewport=640,480&annotation=patient,technique"), await shown("viewport=640,480")
    )
    assert (await shown("iccprofile=srgb")).ndim == 3
    large, small = [
        len((await server.get(f"{path_of(IMAGE)}?quality={quality}")).content) for quality in (100, 1)
    ]
    assert small < large


@pytest.mark.parametrize(
    "query,parameter",
    [
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("quality=high", "quality"),
        ("quality=", "quality"),
        ("viewport=", "viewport"),
        ("viewport=100", "viewport"),
        ("viewport=0,100", "viewport"),
        ("viewport=1000000000,1000000000", "viewport"),
        ("viewport=100,100,0", "viewport"),
        ("viewport=100,100,-1,0,5,5", "viewport"),
        ("viewport=100,100,0,0,0,5", "viewport"),
        ("viewport=100,100,nan,0,5,5", "viewport"),
        ("viewport=100,100,1e99,0,5,5", "viewport"),
        ("viewport=1e2,1e2", "viewport"),
        ("window=40,400", "window"),
        ("window=40,400,cubic", "window"),
        ("window=40,0,linear", "window"),
        ("window=40,0,sigmoid", "window"),
        ("window=inf,1,linear", "window"),
        ("window=,,linear", "window"),
        ("annotation=everything", "annotation"),
        ("annotation=", "annotation"),
        ("iccprofile=cmyk", "iccprofile"),
        ("window=" + "1" * 300 + ",1,linear", "window"),
    ],
)
async def test_parameters_that_are_none(server: HttpServer, query: str, parameter: str) -> None:
    response = await server.get(f"{path_of(IMAGE)}?{query}")
    assert response.status_code == 400
    document = response.json()
    assert document["code"] == "invalid-parameter"
    assert [error["parameter"] for error in document["errors"]] == [parameter]


async def test_a_region_outside_of_the_image(server: HttpServer) -> None:
    response = await server.get(path_of(IMAGE) + "?viewport=10,10,64,0,5,5")
    assert (response.status_code, response.json()["code"]) == (400, "viewport-outside")


# --- several frames ---------------------------------------------------------------------------------------


async def test_one_frame_stands_for_an_instance_of_many(server: HttpServer) -> None:
    response = await server.get(path_of(CINE), Accept="image/png")
    assert set(opened(response.content).flat) == {60}, "the middle one"


async def test_a_frame_by_its_number(server: HttpServer) -> None:
    for number in (1, 6):
        response = await server.get(path_of(CINE, str(number)), Accept="image/png")
        assert set(opened(response.content).flat) == {20 * (number - 1)}


@pytest.mark.parametrize("frames", ["7", "1,7", "6-9"])
async def test_frames_that_are_not_there(server: HttpServer, frames: str) -> None:
    response = await server.get(path_of(CINE, frames))
    assert (response.status_code, response.json()["code"]) == (404, "no-such-frame")


@pytest.mark.parametrize("frames", ["0", "-1", "x", "1,,2", "1.5", "3-2", "1-999999999", "1" * 12, ","])
async def test_lists_of_frames_that_are_none(server: HttpServer, frames: str) -> None:
    response = await server.get(path_of(CINE, frames))
    assert response.status_code == 400, response.text
    assert response.json()["code"] == "invalid-frame-list"


async def test_several_frames_a_part_each(server: HttpServer) -> None:
    for accept in ('multipart/related; type="image/png"', "*/*"):
        response = await server.get(path_of(CINE, "2,4-5"), Accept=accept)
        assert response.status_code == 200, response.text
        found = parts(response)
        kind = "image/png" if "png" in accept else "image/jpeg"
        assert [part.get_content_type() for part in found] == [kind] * 3
        grays = [round(float(opened(content(part)).mean())) for part in found]
        assert grays == pytest.approx([20, 60, 80], abs=2)
    refused = await server.get(path_of(CINE, "2,4"), Accept="image/jpeg")
    assert refused.status_code == 406 and "multipart/related" in refused.json()["detail"]


async def test_an_animation(server: HttpServer) -> None:
    response = await server.get(path_of(CINE), Accept="image/gif")
    made = Pillow.open(io.BytesIO(response.content))
    assert getattr(made, "n_frames", 1) == 6 and made.info["duration"] == 50
    some = await server.get(path_of(CINE, "1,3"), Accept="image/gif")
    assert getattr(Pillow.open(io.BytesIO(some.content)), "n_frames", 1) == 2


async def test_a_film(server: HttpServer) -> None:
    response = await server.get(path_of(CINE), Accept="video/mp4")
    assert response.headers["content-type"] == "video/mp4"
    assert response.content[4:12] == b"ftypisom" and b"av01" in response.content
    some = await server.get(path_of(CINE, "1-2") + "?viewport=12,12", Accept="video/*")
    assert some.headers["content-type"] == "video/mp4" and len(some.content) < len(response.content)


# --- studies and series -----------------------------------------------------------------------------------


async def test_a_series_is_shown_by_the_instance_in_its_middle(tmp_path: Path) -> None:
    images = [
        stored(
            np.full((8, 8), 10 * number, np.uint8),
            (0x00200013, "IS", str(number)),
            sop=f"1.2.3.1.1.{number}",
            modality="US",
        )
        for number in (5, 1, 4, 2, 3)
    ]
    derived = stored(
        np.full((8, 8), 200, np.uint8),
        (0x00200011, "IS", "1"),
        sop="1.2.3.1.0.1",
        series="1.2.3.1.0",
        modality="SEG",
    )
    async with http_server(tmp_path) as server:
        await server.store(derived, *images)
        for path in ("/studies/1.2.3.1", "/studies/1.2.3.1/series/1.2.3.1.1"):
            response = await server.get(path + "/rendered", Accept="image/png")
            assert set(opened(response.content).flat) == {30}, path
        segmentation = await server.get("/studies/1.2.3.1/series/1.2.3.1.0/rendered", Accept="image/png")
        assert set(opened(segmentation.content).flat) == {200}
        everything = await server.get(
            "/studies/1.2.3.1/series/1.2.3.1.1/rendered", Accept='multipart/related; type="image/png"'
        )
        grays = [int(opened(content(part))[0, 0]) for part in parts(everything)]
        assert grays == [10, 20, 30, 40, 50]


async def test_all_of_a_study_with_what_cannot_be_shown(tmp_path: Path) -> None:
    """A part for each frame; a problem document for what is broken; nothing for reports."""
    broken = IMAGE.but(sop="1.2.3.1.1.9", pixels=b"\1\2")
    report = IMAGE.but(sop="1.2.3.1.3.1", series="1.2.3.1.3", modality="SR", sop_class=REPORT, more=())
    async with http_server(tmp_path) as server:
        await server.store(IMAGE, CINE, broken, report)
        response = await server.get(
            f"/studies/{IMAGE.study}/rendered", Accept='multipart/related; type="image/jpeg"'
        )
        kinds = [part.get_content_type() for part in parts(response)]
        assert sorted(kinds) == ["application/problem+json"] + ["image/jpeg"] * 7


@pytest.mark.parametrize(
    "path",
    ["/studies/9.9", "/studies/1.2.3.1/series/9.9", "/studies/1.2.3.1/series/1.2.3.1.1/instances/9.9"],
)
async def test_what_is_not_there(server: HttpServer, path: str) -> None:
    for resource in ("rendered", "thumbnail"):
        response = await server.get(f"{path}/{resource}")
        assert response.status_code == 404 and response.json()["code"].startswith("no-such-")


# --- documents --------------------------------------------------------------------------------------------


async def test_a_report_is_text(tmp_path: Path, pydicom_test_files: list[Path]) -> None:
    file = next(path for path in pydicom_test_files if path.name == "test-SR.dcm").read_bytes()
    async with http_server(tmp_path) as server:
        stored_at = (await server.store(file)).json()["00081199"]["Value"][0]["00081190"]["Value"][0]
        page = await server.client.get(stored_at + "/rendered")
        assert page.headers["content-type"] == "text/html; charset=utf-8" and "<h1>" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        plain = await server.client.get(stored_at + "/rendered", headers={"Accept": "text/plain"})
        assert plain.headers["content-type"] == "text/plain; charset=utf-8" and "3 cm" in plain.text
        refused = await server.client.get(stored_at + "/rendered", headers={"Accept": "image/jpeg"})
        assert refused.status_code == 406 and "text/html" in refused.json()["detail"]


def document(content: bytes, mime_type: str) -> Image:
    return Image(
        sop_class=PDF,
        modality="DOC",
        more=((0x00420011, "OB", content), (0x00420012, "LO", mime_type), (0x7FE00010, "OW", None)),  # type: ignore[arg-type]
    )


async def test_a_pdf_is_given_as_it_is(tmp_path: Path) -> None:
    small, large = b"%PDF-1.7 small!!", b"%PDF-1.7" + bytes(range(256)) * 8192
    for number, written in enumerate((small, large)):
        async with http_server(tmp_path / str(number)) as server:
            image = document(written, "application/pdf")
            assert (await server.store(image)).status_code == 200
            response = await server.get(path_of(image))
            assert response.headers["content-type"] == "application/pdf"
            assert response.content == written
            again = await server.get(path_of(image), **{"If-None-Match": response.headers["etag"]})
            assert again.status_code == 304


async def test_other_documents_and_kinds_are_not_rendered(tmp_path: Path) -> None:
    page = document(b"<script>alert(1)</script>!", "text/html")
    waveform = IMAGE.but(sop="1.2.3.1.4.1", series="1.2.3.1.4", modality="ECG", sop_class=WAVEFORM, more=())
    waveform = waveform.but(more=((0x7FE00010, "OW", None),))
    async with http_server(tmp_path) as server:
        assert (await server.store(page, waveform)).status_code == 200
        for image in (page, waveform):
            response = await server.get(path_of(image))
            assert response.status_code == 406 and response.json()["code"] == "not-renderable"
            icon = await server.get(path_of(image, resource="thumbnail"))
            assert icon.status_code == 200 and icon.headers["content-type"] == "image/jpeg"


# --- caching, audit, failures -----------------------------------------------------------------------------


async def test_tags(server: HttpServer) -> None:
    first = await server.get(path_of(IMAGE))
    assert first.headers["cache-control"] == "private, no-cache" and first.headers["vary"] == "accept"
    same = await server.get(path_of(IMAGE), **{"If-None-Match": f'"x", {first.headers["etag"]}'})
    assert (same.status_code, same.content) == (304, b"")
    others = [
        await server.get(path_of(IMAGE) + "?quality=50"),
        await server.get(path_of(IMAGE), Accept="image/png"),
        await server.get(path_of(CINE)),
        await server.get(path_of(CINE, "1")),
        await server.get(path_of(CINE, "2")),
    ]
    tags = {first.headers["etag"], *(one.headers["etag"] for one in others)}
    assert len(tags) == 6


async def test_a_replaced_image_has_another_tag(tmp_path: Path) -> None:
    async with http_server(tmp_path, conflict=ConflictPolicy.REPLACE) as server:
        await server.store(IMAGE)
        before = await server.get(path_of(IMAGE))
        await server.store(stored(_GRAY[::-1].copy(), *_WINDOW))
        after = await server.get(path_of(IMAGE), **{"If-None-Match": before.headers["etag"]})
        assert after.status_code == 200 and after.content != before.content


async def test_the_audit_trail_hears_of_it(server: HttpServer) -> None:
    await server.get(path_of(IMAGE) + "?annotation=patient")
    await server.get(path_of(CINE, "99"))
    await server.trail.settled()
    rows = await server.archive.rows(
        "SELECT resource_kind, resource_id, outcome, details FROM audit_event WHERE action = 'read'"
    )
    told = [(row["resource_kind"], row["resource_id"], row["outcome"]) for row in rows]
    assert told == [("instance", IMAGE.sop, "success"), ("instance", CINE.sop, "failed")]
    assert '"part":"rendered"' in rows[0]["details"].replace(" ", "")


async def test_a_store_that_is_away(tmp_path: Path) -> None:
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with http_server(tmp_path, store=store) as server:
        await server.store(IMAGE)
        for resource in ("rendered", "thumbnail"):
            store.fail(Operation.GET, lambda: Unavailable("The store is away."))
            assert (await server.get(path_of(IMAGE, resource=resource))).status_code == 503
        for key in await server.archive.keys():
            await server.archive.store.delete(key)
        lost = await server.get(path_of(IMAGE))
        assert (lost.status_code, lost.json()["code"]) == (500, "object-lost")
        icon = await server.get(path_of(IMAGE, resource="thumbnail"))
        assert icon.status_code == 200, "a wall of thumbnails has no holes"


async def test_every_file_is_shown_or_says_why(tmp_path: Path, dicom_test_files: list[Path]) -> None:
    """Real and deliberately broken files: never a 500, always a thumbnail."""
    shown = 0
    async with http_server(tmp_path, conflict=ConflictPolicy.REPLACE) as server:
        for file in dicom_test_files:
            if "mr-head" in file.parts:
                continue
            answer = (await server.store(file.read_bytes())).json()
            if "00081199" not in answer:
                continue
            url = answer["00081199"]["Value"][0]["00081190"]["Value"][0]
            response = await server.client.get(url + "/rendered")
            assert response.status_code in {200, 406}, (file.name, response.text)
            if response.status_code == 200:
                shown += 1
            else:
                assert response.json()["detail"] and response.json()["remedy"], file.name
            thumbnail = await server.client.get(url + "/thumbnail")
            assert thumbnail.status_code == 200, (file.name, thumbnail.text)
            assert max(Pillow.open(io.BytesIO(thumbnail.content)).size) == 256, file.name
    assert shown >= 20, shown
