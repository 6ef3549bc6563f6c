"""WADO-RS in the transfer syntax that is asked for (PS3.18 §8.7.3.5), and what where that cannot be."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pydicom
import pytest
import pytest_asyncio

from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.features.audit.reading import Filter, find_entries
from isocenter.imaging.encoding import encode_frame
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.kit.clock import ManualClock
from isocenter.platform.security import Action
from isocenter.platform.storage.memory import MemoryStore
from services.archive import ORGANIZATION
from services.dicomweb import HttpServer, http_server
from services.images import Pixels, compressed, data_set, file_of
from services.multipart import contents, part_types
from services.transcoding import frames_of, same

LITTLE, IMPLICIT, J = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4."
SERIES = "/studies/1.2.3.4.5/series/1.2.3.4.6"
MULTIPART = 'multipart/related; type="application/dicom"'


def jpeg_2000(made: pydicom.Dataset) -> bytes:
    pixels = PixelDescription.of_dataset(made)
    frames = [encode_frame(frame, pixels, J + "90").content for frame in frames_of(made)]
    return file_of(compressed(made, J + "90", frames))


def broken(number: int) -> bytes:
    """Says JPEG 2000, and is none."""
    return file_of(compressed(data_set(Pixels(), number), J + "90", [b"no codestream at all "]))


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, audited=True) as running:
        yield running


def syntaxes(response) -> list[str]:  # type: ignore[no-untyped-def]
    return [kind.rpartition("transfer-syntax=")[2] for kind in part_types(response)]


async def test_a_series_of_mixed_objects_in_one_syntax(server: HttpServer) -> None:
    made = [data_set(Pixels(), number) for number in range(1, 5)]
    originals = [frames_of(one) for one in made]
    report = data_set(Pixels(), 5)
    del report.PixelData
    await server.store(file_of(made[0]), file_of(made[1], IMPLICIT), jpeg_2000(made[2]), file_of(report))
    await server.store(file_of(made[3], "1.2.840.10008.1.2.1.99"))
    for target in (LITTLE, J + "80", J + "202"):
        response = await server.get(SERIES, Accept=f"{MULTIPART}; transfer-syntax={target}")
        assert syntaxes(response) == [target] * 4 + [LITTLE], "what has no pixels is not compressed"
        files = contents(response)
        for original, file in zip(originals, files, strict=False):
            assert same(frames_of(file), original)
            assert pydicom.dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID == target
    default = await server.get(SERIES, Accept=MULTIPART)
    assert syntaxes(default) == [LITTLE] * 5
    stored = await server.get(SERIES, Accept=f"{MULTIPART}; transfer-syntax=*")
    assert syntaxes(stored) == [LITTLE, IMPLICIT, J + "90", "1.2.840.10008.1.2.1.99", LITTLE]


async def test_one_instance_alone(server: HttpServer) -> None:
    made = data_set(Pixels())
    await server.store(jpeg_2000(made))
    path = SERIES + "/instances/1.2.3.4.7.1"
    for accept, expected in (
        ("application/dicom", LITTLE),
        ("application/dicom; transfer-syntax=*", J + "90"),
        (f"application/dicom; transfer-syntax={J}80", J + "80"),
        (
            f"application/dicom; transfer-syntax={J}80; q=0.1, application/dicom; transfer-syntax={J}201",
            J + "201",
        ),
        (f"application/dicom; transfer-syntax={J}80, application/dicom; transfer-syntax={J}90", J + "90"),
    ):
        response = await server.get(path, Accept=accept)
        assert response.headers["content-type"] == f"application/dicom; transfer-syntax={expected}", accept
        assert response.headers["content-length"] == str(len(response.content))
        head = await server.client.head(server.dicomweb + path, headers={"Accept": accept})
        assert head.headers["etag"] == response.headers["etag"]
        again = await server.get(path, **{"Accept": accept, "If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_what_cannot_be_is_a_406_that_says_why(server: HttpServer) -> None:
    await server.store(file_of(data_set(Pixels(bits_stored=16))), broken(2))
    deep = SERIES + "/instances/1.2.3.4.7.1"
    for accept, code in (
        (f"application/dicom; transfer-syntax={J}50", "pixel-data-unsupported"),
        (f"application/dicom; transfer-syntax={J}102", "not-acceptable"),
        ("application/dicom; transfer-syntax=nonsense", "not-acceptable"),
        ("image/jpeg", "not-acceptable"),
    ):
        response = await server.get(deep, Accept=accept)
        assert (response.status_code, response.json()["code"]) == (406, code), accept
        assert "transfer-syntax=*" in response.json()["remedy"]
    response = await server.get(
        SERIES + "/instances/1.2.3.4.7.2", Accept=f"{MULTIPART}; transfer-syntax={LITTLE}"
    )
    assert (response.status_code, response.json()["code"]) == (406, "pixel-data-broken")
    assert "does not begin as a JPEG 2000 codestream" in response.json()["detail"]


async def test_one_broken_object_does_not_spoil_its_series(server: HttpServer) -> None:
    files = [jpeg_2000(data_set(Pixels(), 1)), broken(2), jpeg_2000(data_set(Pixels(), 3))]
    await server.store(*files)
    response = await server.get(SERIES, Accept=f"{MULTIPART}; transfer-syntax={LITTLE}")
    assert response.status_code == 200
    assert syntaxes(response) == [LITTLE, J + "90", LITTLE]
    assert contents(response)[1] == files[1], "as it is stored, and its part says so"
    alone = await server.get(SERIES + "/instances/1.2.3.4.7.2", Accept="application/dicom")
    assert alone.content == files[1], "who names no transfer syntax gets what there is"
    frames = await server.get(SERIES + "/instances/1.2.3.4.7.2/frames/1")
    assert (frames.status_code, frames.json()["code"]) == (406, "pixel-data-broken")
    as_is = await server.get(SERIES + "/instances/1.2.3.4.7.2/frames/1", Accept="image/jp2")
    assert as_is.content.startswith(b"no codestream")


async def test_the_trail_tells_what_was_given(server: HttpServer) -> None:
    await server.store(file_of(data_set(Pixels())))
    await server.get(SERIES, Accept=f"{MULTIPART}; transfer-syntax={J}80")
    await server.get(SERIES + "/instances/1.2.3.4.7.1/frames/1")
    await server.trail.settled()
    found = await find_entries(
        server.archive.database, ORGANIZATION, Filter(action=Action.READ), limit=9, newest_first=False
    )
    told = [orjson.loads(entry.details) for entry in found]
    assert told[0]["transfer_syntaxes"] == J + "80" and told[0]["objects"] == 1
    assert told[1]["part"] == "frames" and told[1]["frames"] == "1"


async def test_who_asks_again_gets_the_copy(tmp_path: Path) -> None:
    store = MemoryStore()
    async with http_server(tmp_path, cache=TranscodeCache(store, ManualClock(), bytes_max=1 << 20)) as server:
        await server.store(file_of(data_set(Pixels())))
        accept = f"{MULTIPART}; transfer-syntax={J}80"
        first = await server.get(SERIES, Accept=accept)
        await server.transcoded()
        [info] = [info async for info in store.list()]
        assert await store.get(info.key) == contents(first)[0]
        assert (await server.get(SERIES, Accept=accept)).content == first.content


async def test_too_many_requests_are_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.features.archive.transcoding._REQUESTS_MAX", 0)
    async with http_server(tmp_path) as server:
        await server.store(file_of(data_set(Pixels())))
        for path in (SERIES, SERIES + "/instances/1.2.3.4.7.1"):
            response = await server.get(path, Accept=f"{MULTIPART}; transfer-syntax={J}80")
            assert (response.status_code, response.json()["code"]) == (503, "busy")
            assert response.headers["retry-after"]
        assert (await server.get(SERIES, Accept=f"{MULTIPART}; transfer-syntax=*")).status_code == 200


async def test_a_request_that_ends_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isocenter.features.archive.transcoding._REQUESTS_MAX", 1)
    async with http_server(tmp_path) as server:
        await server.store(file_of(data_set(Pixels())), broken(2))
        instance = SERIES + "/instances/1.2.3.4.7."
        for accept, path, status in (
            (f"application/dicom; transfer-syntax={J}80", instance + "1", 200),
            (f"application/dicom; transfer-syntax={J}80", instance + "2", 406),
            (f"{MULTIPART}; transfer-syntax={J}80", SERIES, 200),
            ("image/jls", instance + "1/frames/1", 200),
            ("image/jls", instance + "2/frames/1", 406),
        ):
            for _ in range(3):
                assert (await server.get(path, Accept=accept)).status_code == status, path
