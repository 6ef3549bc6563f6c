"""WADO-RS Thumbnail resources: kept once a series has settled, made anew when it changes, an icon where there
is no picture; and what the store and the sweep make of them."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from isocenter.features.archive.images import Images, open_images
from isocenter.features.archive.representative import find_representative
from isocenter.features.archive.spare_time import SpareTime
from isocenter.features.archive.thumbnails import Thumbnails
from isocenter.kit.clock import ManualClock
from isocenter.platform.storage.encrypted import EncryptedStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.workers.pool import WorkerPool
from services.archive import ORGANIZATION, Image, TestArchive, delete_for_good, opened
from services.data_keys import HeldDataKeys
from services.dicomweb import http_server
from services.rendered_files import opened as picture_of
from services.rendered_files import stored
from services.schema import fresh_url

SETTLED_S = 60.0


def flat(gray: int, number: int = 1, series: str = "1.2.3.1.1", **more: str) -> Image:
    return stored(
        np.full((8, 12), gray, np.uint8),
        (0x00200013, "IS", str(number)),
        sop=f"{series}.{number}",
        series=series,
        modality="US",
        **more,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path, clock=ManualClock(datetime.now(UTC))) as made:
        yield made


@pytest.fixture
async def images(archive: TestArchive) -> AsyncIterator[Images]:
    made = open_images(archive.store, workers=WorkerPool(1))
    yield made
    await made.close()


@pytest.fixture
def thumbnails(archive: TestArchive, images: Images) -> Thumbnails:
    return Thumbnails(archive.database, archive.store, images, archive.clock, settled_s=SETTLED_S)


def pass_time(archive: TestArchive, seconds: float) -> None:
    assert isinstance(archive.clock, ManualClock)
    archive.clock.advance(seconds)


async def derived(archive: TestArchive) -> set[str]:
    return {key for key in await archive.keys() if "/derived/" in key}


async def gray_of(thumbnails: Thumbnails, archive: TestArchive, series: str = "1.2.3.1.1") -> int:
    instance = await find_representative(archive.database, archive.store, ORGANIZATION, "1.2.3.1", series)
    return round(float(picture_of(await thumbnails.of_series(ORGANIZATION, instance)).mean()))


# --- made in the background, kept, made anew -----------------------------------------------------------


async def test_a_thumbnail_is_made_when_the_series_has_settled(
    archive: TestArchive, thumbnails: Thumbnails
) -> None:
    await archive.send(flat(40), flat(90, series="1.2.3.1.2"))
    assert (await thumbnails.make_settled(SpareTime())).made == 0
    pass_time(archive, SETTLED_S + 1)
    assert (await thumbnails.make_settled(SpareTime())).made == 2
    assert len(await derived(archive)) == 2
    assert (await thumbnails.make_settled(SpareTime())).made == 0, "the cursor has moved on"
    assert await gray_of(thumbnails, archive) == pytest.approx(40, abs=2)


async def test_it_is_made_anew_when_another_instance_stands_for_the_series(
    archive: TestArchive, thumbnails: Thumbnails
) -> None:
    await archive.send(flat(40, 1))
    first = await gray_of(thumbnails, archive)
    await archive.send(flat(100, 2), flat(200, 3))
    assert (first, await gray_of(thumbnails, archive)) == (
        pytest.approx(40, abs=2),
        pytest.approx(100, abs=2),
    )
    assert await archive.one("SELECT count(*) AS n FROM series_derived") == 1
    pass_time(archive, SETTLED_S + 1)
    await thumbnails.make_settled(SpareTime())
    assert await archive.one("SELECT count(*) AS n FROM series_derived") == 1


async def test_what_is_kept_is_what_is_given(archive: TestArchive, thumbnails: Thumbnails) -> None:
    await archive.send(flat(40))
    await gray_of(thumbnails, archive)
    for key in await archive.keys():
        if "/derived/" not in key:
            await archive.store.delete(key)
    assert await gray_of(thumbnails, archive) == pytest.approx(40, abs=2)


async def test_a_lost_thumbnail_is_made_again(archive: TestArchive, thumbnails: Thumbnails) -> None:
    await archive.send(flat(40))
    await gray_of(thumbnails, archive)
    (key,) = await derived(archive)
    await archive.store.delete(key)
    assert await gray_of(thumbnails, archive) == pytest.approx(40, abs=2)
    assert await derived(archive) == {key}


async def test_what_cannot_be_rendered_stops_nothing(archive: TestArchive, thumbnails: Thumbnails) -> None:
    broken = flat(10, series="1.2.3.1.2").but(pixels=b"\1\2")
    await archive.send(broken, flat(40, series="1.2.3.1.3"))
    pass_time(archive, SETTLED_S + 1)
    report = await thumbnails.make_settled(SpareTime())
    assert (report.made, report.failed) == (1, 1)
    assert (await thumbnails.make_settled(SpareTime())).failed == 0


# --- the store, the sweep, the check -------------------------------------------------------------------


async def test_the_sweep_takes_what_is_out_of_use_and_no_more(
    archive: TestArchive, thumbnails: Thumbnails
) -> None:
    await archive.send(flat(40, 1))
    await gray_of(thumbnails, archive)
    (old,) = await derived(archive)
    await archive.send(flat(100, 2), flat(200, 3))
    await gray_of(thumbnails, archive)
    assert len(await derived(archive)) == 2
    pass_time(archive, 86_400)
    report = await archive.sweep(timedelta(seconds=-1)).run()
    assert report.removed == 1
    assert len(await derived(archive)) == 1 and old not in await derived(archive)
    await delete_for_good(archive.database, archive.clock, ORGANIZATION, "1.2.3.1")
    assert await archive.one("SELECT count(*) AS n FROM series_derived") == 0
    await archive.sweep(timedelta(seconds=-1)).run()
    assert not await archive.keys()


async def test_the_check_neither_counts_nor_adopts_them(archive: TestArchive, thumbnails: Thumbnails) -> None:
    await archive.send(flat(40, 1))
    await gray_of(thumbnails, archive)
    await archive.send(flat(100, 2), flat(200, 3))
    await gray_of(thumbnails, archive)
    pass_time(archive, 86_400)
    report = await archive.check.run(ORGANIZATION, adopt_orphans=True)
    assert report.healthy and report.adopted == 0


async def test_nothing_of_a_picture_lies_in_the_clear(tmp_path: Path) -> None:
    plain = LocalStore(tmp_path / "objects")
    async with http_server(tmp_path, store=EncryptedStore(plain, HeldDataKeys())) as server:
        await server.store(flat(40))
        response = await server.get("/studies/1.2.3.1/series/1.2.3.1.1/thumbnail")
        again = await server.get("/studies/1.2.3.1/series/1.2.3.1.1/thumbnail")
        assert response.status_code == 200 and response.content == again.content
        files = [path.read_bytes() for path in (tmp_path / "objects").rglob("*") if path.is_file()]
        assert len([file for file in files if file]) == 2
        assert not any(b"JFIF" in file or b"DICM" in file for file in files)


# --- over HTTP -----------------------------------------------------------------------------------------


async def test_at_every_level(tmp_path: Path) -> None:
    cine = stored(
        np.stack([np.full((8, 12), 20 * number, np.uint8) for number in range(5)]),
        sop="1.2.3.1.9.1",
        series="1.2.3.1.9",
        modality="US",
    )
    async with http_server(tmp_path) as server:
        await server.store(flat(100), cine)
        base = "/studies/1.2.3.1"
        instance = f"{base}/series/1.2.3.1.9/instances/1.2.3.1.9.1"
        for path, gray in (
            (base, 100),
            (f"{base}/series/1.2.3.1.1", 100),
            (f"{base}/series/1.2.3.1.9", 40),
            (instance, 40),
            (f"{instance}/frames/5", 80),
            (f"{instance}/frames/2,3", 20),
        ):
            response = await server.get(path + "/thumbnail")
            assert response.status_code == 200, response.text
            made = Pillow.open(io.BytesIO(response.content))
            assert (made.format, made.size) == ("JPEG", (256, 171)), path
            assert np.asarray(made).mean() == pytest.approx(gray, abs=2), path
            known = await server.get(path + "/thumbnail", **{"If-None-Match": response.headers["etag"]})
            assert known.status_code == 304
        small = await server.get(base + "/thumbnail?viewport=32,32", Accept="image/png")
        made = Pillow.open(io.BytesIO(small.content))
        assert (made.format, made.size) == ("PNG", (32, 21))
        missing = await server.get(f"{instance}/frames/6/thumbnail")
        assert (missing.status_code, missing.json()["code"]) == (404, "no-such-frame")


@pytest.mark.parametrize(
    "query", ["viewport=100", "viewport=5000,5000", "viewport=1,1,0,0,1,1", "viewport=1000000000,1"]
)
async def test_viewports_that_are_none(tmp_path: Path, query: str) -> None:
    async with http_server(tmp_path) as server:
        await server.store(flat(100))
        response = await server.get(f"/studies/1.2.3.1/thumbnail?{query}")
        assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter")


async def test_icons_stand_for_what_has_no_picture(tmp_path: Path) -> None:
    classes = {
        "SR": "1.2.840.10008.5.1.4.1.1.88.11",
        "DOC": "1.2.840.10008.5.1.4.1.1.104.1",
        "ECG": "1.2.840.10008.5.1.4.1.1.9.1.1",
        "AU": "1.2.840.10008.5.1.4.1.1.9.4.1",
        "RTPLAN": "1.2.840.10008.5.1.4.1.1.481.5",
    }
    seen = set()
    async with http_server(tmp_path) as server:
        for number, (modality, sop_class) in enumerate(classes.items(), 1):
            series = f"1.2.3.1.{number}"
            image = Image(
                sop=f"{series}.1",
                series=series,
                modality=modality,
                sop_class=sop_class,
                more=((0x7FE00010, "OW", None),),  # type: ignore[arg-type]
            )
            assert (await server.store(image)).status_code == 200
            response = await server.get(f"/studies/1.2.3.1/series/{series}/thumbnail?viewport=64,64")
            assert response.status_code == 200
            assert Pillow.open(io.BytesIO(response.content)).size == (64, 64)
            seen.add(response.content)
        await server.store(flat(7, series="1.2.3.1.9").but(pixels=b"\1\2"))
        broken = await server.get("/studies/1.2.3.1/series/1.2.3.1.9/thumbnail?viewport=64,64")
        assert broken.status_code == 200
        seen.add(broken.content)
    assert len(seen) == 6
    refused = Image().file  # nothing but a picture is a thumbnail
    async with http_server(tmp_path / "other") as server:
        await server.store(refused)
        response = await server.get("/studies/1.2.3.1/thumbnail", Accept="text/html")
        assert response.status_code == 406
