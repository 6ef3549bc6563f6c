"""WADO-URI (PS3.18 §9): every parameter, and every one that contradicts another."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from services.archive import Image
from services.dicomweb import HttpServer, http_server
from services.rendered_files import opened, sequence, stored, us

_GRAY = np.linspace(0, 1000, 40 * 20).astype("<u2").reshape(20, 40)
IMAGE = stored(_GRAY, (0x00281050, "DS", "500"), (0x00281051, "DS", "1001"))
CINE = stored(
    np.stack([np.full((16, 24), 20 * number, np.uint8) for number in range(6)]),
    sop="1.2.3.1.2.1",
    series="1.2.3.1.2",
    modality="US",
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, audited=True) as made:
        assert (await made.store(IMAGE, CINE)).status_code == 200
        yield made


async def ask(server: HttpServer, query: str = "", *, of: object = IMAGE, **headers: str) -> httpx2.Response:
    image = IMAGE if of is IMAGE else CINE
    base = f"/wado?requestType=WADO&studyUID={image.study}&seriesUID={image.series}&objectUID={image.sop}"
    return await server.get(f"{base}&{query}" if query else base, **headers)


# --- objects ----------------------------------------------------------------------------------------------


async def test_the_object(server: HttpServer) -> None:
    response = await ask(server, "contentType=application/dicom")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/dicom")
    assert response.content == IMAGE.file
    other = await ask(server, "contentType=application/dicom&transferSyntax=1.2.840.10008.1.2.4.90")
    assert pydicom.dcmread(io.BytesIO(other.content)).file_meta.TransferSyntaxUID.endswith(".90")
    same = await ask(server, "contentType=application/dicom&transferSyntax=1.2.840.10008.1.2.1")
    assert same.status_code == 200 and pydicom.dcmread(io.BytesIO(same.content)).SOPInstanceUID == IMAGE.sop


async def test_a_transfer_syntax_that_there_is_not(server: HttpServer) -> None:
    response = await ask(server, "contentType=application/dicom&transferSyntax=1.2.3.4")
    assert response.status_code == 406


@pytest.mark.parametrize(
    "query",
    [
        "rows=10",
        "columns=10",
        "region=0,0,1,1",
        "windowCenter=1",
        "windowWidth=1",
        "frameNumber=1",
        "imageQuality=5",
        "annotation=patient",
        "presentationUID=1.2",
        "presentationSeriesUID=1.2",
    ],
)
async def test_what_is_for_pictures_is_not_for_objects(server: HttpServer, query: str) -> None:
    response = await ask(server, f"contentType=application/dicom&{query}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_de_identification_is_refused_in_words(server: HttpServer) -> None:
    response = await ask(server, "contentType=application/dicom&anonymize=yes")
    assert (response.status_code, response.json()["code"]) == (501, "wado-uri-parameter-unsupported")
    assert (await ask(server, "anonymize=yes")).status_code == 400, "and is not for pictures"
    assert (await ask(server, "transferSyntax=1.2.840.10008.1.2")).status_code == 400


# --- pictures ---------------------------------------------------------------------------------------------


async def test_a_picture_is_what_an_image_is_given_as(server: HttpServer) -> None:
    for query, headers, kind in (
        ("", {}, "JPEG"),
        ("contentType=image/png", {}, "PNG"),
        ("contentType=image/gif", {}, "GIF"),
        ("contentType=image/jpeg,image/png", {}, "JPEG"),
        ("contentType=image/jpeg;q=0.5,image/png", {}, "PNG"),
        ("contentType=image/png", {"Accept": "image/jpeg"}, "PNG"),
        ("", {"Accept": "image/png"}, "PNG"),
    ):
        response = await ask(server, query, **headers)
        assert response.status_code == 200, (query, response.text)
        assert Pillow.open(io.BytesIO(response.content)).format == kind, query


async def test_pictures_as_they_are_asked_for(server: HttpServer) -> None:
    async def shown(query: str) -> np.ndarray:  # type: ignore[type-arg]
        response = await ask(server, f"contentType=image/png&{query}")
        assert response.status_code == 200, response.text
        return opened(response.content)

    whole = await shown("")
    assert (await shown("rows=10")).shape == (10, 20)
    assert (await shown("columns=80")).shape == (40, 80)
    assert (await shown("rows=10&columns=10")).shape == (5, 10)
    assert np.array_equal(await shown("region=0.25,0.5,0.5,1.0"), whole[10:20, 10:20])
    assert (await shown("region=0,0,0.5,1&rows=40&columns=40")).shape == (40, 40)
    dark = await shown("windowCenter=2000&windowWidth=2000")
    assert dark.mean() < whole.mean() / 2
    assert (await shown("annotation=patient&columns=400")).shape == (200, 400)


async def test_frames(server: HttpServer) -> None:
    middle = await ask(server, "contentType=image/png", of=CINE)
    assert set(opened(middle.content).flat) == {60}
    second = await ask(server, "contentType=image/png&frameNumber=2", of=CINE)
    assert set(opened(second.content).flat) == {20}
    assert (await ask(server, "frameNumber=7", of=CINE)).status_code == 404
    film = await ask(server, "contentType=video/mp4", of=CINE)
    assert film.status_code == 200 and film.content[4:8] == b"ftyp"
    animation = await ask(server, "contentType=image/gif", of=CINE)
    assert getattr(Pillow.open(io.BytesIO(animation.content)), "n_frames", 1) == 6


async def test_reports_are_pages(tmp_path: Path, pydicom_test_files: list[Path]) -> None:
    file = next(path for path in pydicom_test_files if path.name == "reportsi.dcm")
    report = pydicom.dcmread(file)
    async with http_server(tmp_path) as server:
        await server.store(file.read_bytes())
        base = (
            f"/wado?requestType=WADO&studyUID={report.StudyInstanceUID}"
            f"&seriesUID={report.SeriesInstanceUID}&objectUID={report.SOPInstanceUID}"
        )
        assert (await server.get(base)).headers["content-type"].startswith("text/html")
        plain = await server.get(base + "&contentType=text/plain&charset=UTF-8")
        assert plain.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "query",
    [
        "rows=0",
        "rows=-1",
        "rows=1000000000",
        "columns=x",
        "region=0,0,1",
        "region=0,0,2,1",
        "region=0.5,0,0.5,1",
        "region=a,b,c,d",
        "region=nan,0,1,1",
        "windowCenter=5",
        "windowWidth=5",
        "windowCenter=5&windowWidth=0",
        "windowCenter=5&windowWidth=1e99",
        "windowCenter=5,6&windowWidth=7",
        "frameNumber=0",
        "frameNumber=1.5",
        "frameNumber=99999999999",
        "imageQuality=0",
        "imageQuality=101",
        "annotation=all",
        "contentType=",
        "contentType=image",
    ],
)
async def test_values_that_are_none(server: HttpServer, query: str) -> None:
    response = await ask(server, query)
    assert response.status_code in {400, 406}, response.text
    assert response.json()["detail"]


PRESENTATION = Image(
    sop="1.2.3.1.8.1",
    series="1.2.3.1.8",
    modality="PR",
    sop_class="1.2.840.10008.5.1.4.1.1.11.1",
    more=(
        (
            0x00081115,
            "SQ",
            sequence(
                [
                    (0x0020000E, "UI", IMAGE.series),
                    (0x00081140, "SQ", sequence([(0x00081155, "UI", IMAGE.sop)])),
                ]
            ),
        ),
        (0x00700042, "US", us(90)),
        (0x20500020, "CS", "INVERSE"),
        (0x7FE00010, "OW", None),  # type: ignore[arg-type]
    ),
)
_STATE = f"presentationUID={PRESENTATION.sop}&presentationSeriesUID={PRESENTATION.series}"


async def test_as_a_presentation_state_shows_it(server: HttpServer) -> None:
    await server.store(PRESENTATION)
    plain = opened((await ask(server, "contentType=image/png")).content)
    response = await ask(server, f"contentType=image/png&{_STATE}")
    assert response.status_code == 200, response.text
    assert np.abs(opened(response.content).astype(int) - np.rot90(255 - plain, -1)).max() <= 1
    small = await ask(server, f"contentType=image/png&rows=20&{_STATE}")
    assert opened(small.content).shape == (20, 10)
    path = f"/studies/1.2.3.1/series/{PRESENTATION.series}/instances/{PRESENTATION.sop}/rendered"
    itself = await server.get(path, Accept="image/png")
    assert np.array_equal(opened(itself.content), opened(response.content)), "shown on its first image"
    known = {"If-None-Match": itself.headers["etag"], "Accept": "image/png"}
    assert (await server.get(path, **known)).status_code == 304
    others = await ask(server, _STATE, of=CINE)
    assert (others.status_code, others.json()["code"]) == (406, "presentation-of-others")


@pytest.mark.parametrize(
    "query,status,code",
    [
        (f"{_STATE}&region=0,0,1,1", 400, "invalid-parameter"),
        (f"{_STATE}&windowCenter=1&windowWidth=2", 400, "invalid-parameter"),
        ("presentationSeriesUID=1.3", 400, "invalid-uid"),
        ("presentationUID=1.3", 400, "invalid-uid"),
        ("presentationUID=9.9&presentationSeriesUID=9.8", 404, "no-such-instance"),
        (
            f"presentationUID={CINE.sop}&presentationSeriesUID={CINE.series}",
            501,
            "wado-uri-parameter-unsupported",
        ),
    ],
)
async def test_presentation_states_that_are_none(
    server: HttpServer, query: str, status: int, code: str
) -> None:
    await server.store(PRESENTATION)
    response = await ask(server, query)
    assert (response.status_code, response.json()["code"]) == (status, code)


# --- naming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query,status",
    [
        ("", 400),
        ("requestType=WADO", 400),
        ("requestType=OTHER&studyUID=1.2.3.1&seriesUID=1.2.3.1.1&objectUID=1.2.3.1.1.1", 400),
        ("requestType=WADO&studyUID=1.2.3.1&seriesUID=1.2.3.1.1", 400),
        ("requestType=WADO&studyUID=1.2.3.1&seriesUID=1.2.3.1.1&objectUID=../../etc", 400),
        ("requestType=WADO&studyUID=1.2.3.1&seriesUID=1.2.3.1.1&objectUID=" + "1" * 65, 400),
        ("requestType=WADO&studyUID=1.2.3.1&seriesUID=1.2.3.1.1&objectUID=9.9.9", 404),
        ("requestType=WADO&studyUID=9.9&seriesUID=1.2.3.1.1&objectUID=1.2.3.1.1.1", 404),
    ],
)
async def test_what_is_asked_for_must_be_named(server: HttpServer, query: str, status: int) -> None:
    assert (await server.get(f"/wado?{query}")).status_code == status


async def test_the_audit_trail_hears_which_object(server: HttpServer) -> None:
    await ask(server)
    await ask(server, "contentType=application/dicom")
    await server.trail.settled()
    rows = await server.archive.rows(
        "SELECT resource_kind, resource_id, outcome FROM audit_event WHERE action = 'read'"
    )
    assert [tuple(row.values()) for row in rows] == [("instance", IMAGE.sop, "success")] * 2
