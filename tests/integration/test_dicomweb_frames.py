"""Frames over HTTP (PS3.18 §10.4.1.1.6): lists and ranges, in every form, alone or in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import pytest_asyncio
from dicomweb_client.api import DICOMwebClient

from isocenter.imaging.decoding import decode_frame
from isocenter.imaging.encoding import encode_frame
from isocenter.imaging.pixel_description import PixelDescription
from services.dicomweb import HttpServer, http_server
from services.images import Pixels, compressed, data_set, file_of
from services.multipart import contents, part_types
from services.transcoding import frames_of

LITTLE, J = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4."
BASE = "/studies/1.2.3.4.5/series/1.2.3.4.6/instances/1.2.3.4.7.1"
OCTETS = 'multipart/related; type="application/octet-stream"'


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


def octets(made: pydicom.Dataset) -> list[bytes]:
    """Each frame as application/octet-stream has it."""
    found = []
    for frame in frames_of(made):
        samples = frame.samples
        if made.BitsAllocated == 1:
            samples = np.packbits(samples.reshape(-1), bitorder="little")
        found.append(samples.tobytes())
    return found


def in_syntax(made: pydicom.Dataset, syntax: str) -> tuple[pydicom.Dataset, list[bytes]]:
    pixels = PixelDescription.of_dataset(made)
    encoded = [encode_frame(frame, pixels, syntax) for frame in frames_of(made)]
    made.PhotometricInterpretation = encoded[0].photometric_interpretation
    frames = [frame.content for frame in encoded]
    return compressed(made, syntax, frames), frames


@pytest.mark.parametrize(
    "pixels",
    [
        Pixels(frames=6),
        Pixels(rows=3, columns=7, bits_allocated=8, bits_stored=8, frames=6),
        Pixels(samples=3, photometric="RGB", bits_allocated=8, bits_stored=8, frames=6),
        Pixels(rows=3, columns=7, bits_allocated=1, bits_stored=1, frames=6),
    ],
    ids=["16 bit", "odd", "RGB", "odd bits"],
)
@pytest.mark.parametrize(
    "syntax", [LITTLE, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
async def test_uncompressed_frames(server: HttpServer, pixels: Pixels, syntax: str) -> None:
    made = data_set(pixels)
    expected = octets(made)
    assert (await server.store(file_of(made, syntax))).status_code == 200
    for wanted in ("1", "6", "2,5", "2-4,1", "1-6"):
        response = await server.get(f"{BASE}/frames/{wanted}", Accept=OCTETS)
        assert response.status_code == 200, response.text
        numbers = [n for step in wanted.split(",") for n in range(int(step[0]), int(step[-1]) + 1)]
        assert contents(response) == [expected[number - 1] for number in numbers]
        assert set(part_types(response)) == {f"application/octet-stream; transfer-syntax={LITTLE}"}
        assert int(response.headers["content-length"]) == len(response.content)
    alone = await server.get(f"{BASE}/frames/3", Accept="application/octet-stream")
    assert alone.content == expected[2] and alone.headers["content-length"] == str(len(expected[2]))
    assert alone.headers["content-type"].startswith("application/octet-stream")


@pytest.mark.parametrize("syntax", [J + "90", J + "80", J + "70", J + "201", "1.2.840.10008.1.2.5"])
async def test_compressed_frames_as_stored_and_uncompressed(server: HttpServer, syntax: str) -> None:
    made = data_set(Pixels(frames=4))
    expected = octets(made)
    made, frames = in_syntax(made, syntax)
    await server.store(file_of(made))
    kind = {"90": "image/jp2", "80": "image/jls", "70": "image/jpeg", "201": "image/jphc"}
    media_type = kind.get(syntax.rpartition(".")[2], "image/dicom-rle")
    for accept in (
        f'multipart/related; type="{media_type}"',
        f'multipart/related; type="{media_type}"; transfer-syntax={syntax}',
        f'multipart/related; type="{media_type}"; transfer-syntax=*',
    ):
        response = await server.get(f"{BASE}/frames/2,4", Accept=accept)
        assert [one.removesuffix(b"\0") for one in contents(response)] == [
            frames[number].removesuffix(b"\0") for number in (1, 3)
        ]
        assert set(part_types(response)) == {f"{media_type}; transfer-syntax={syntax}"}
    alone = await server.get(f"{BASE}/frames/1", Accept=media_type)
    assert alone.content.startswith(frames[0])
    for accept in ("*/*", OCTETS, f"{OCTETS}; transfer-syntax={LITTLE}"):
        assert contents(await server.get(f"{BASE}/frames/1,3", Accept=accept)) == [expected[0], expected[2]]
    anything = await server.get(f"{BASE}/frames/1", Accept=f"{OCTETS}; transfer-syntax=*")
    assert part_types(anything) == [f"application/octet-stream; transfer-syntax={syntax}"]
    assert contents(anything)[0].startswith(frames[0])


async def test_frames_in_another_compression(server: HttpServer) -> None:
    made = data_set(Pixels(frames=3))
    pixels, original = PixelDescription.of_dataset(made), frames_of(made)
    await server.store(file_of(made))
    for media_type, syntax in (("image/jp2", J + "90"), ("image/jls", J + "80"), ("image/jpeg", J + "70")):
        response = await server.get(f"{BASE}/frames/1-3", Accept=f'multipart/related; type="{media_type}"')
        assert part_types(response) == [f"{media_type}; transfer-syntax={syntax}"] * 3
        for content, before in zip(contents(response), original, strict=True):
            after = decode_frame(content, replace(pixels, transfer_syntax_uid=syntax))
            assert np.array_equal(after.samples, before.samples)
    assert (await server.get(f"{BASE}/frames/1", Accept="image/jphc")).content[:4] == b"\xff\x4f\xff\x51"


async def test_what_is_refused(server: HttpServer) -> None:
    await server.store(file_of(data_set(Pixels(frames=3))))
    for wanted, status, code in (
        ("4", 404, "no-such-frame"),
        ("1,9", 404, "no-such-frame"),
        ("0", 400, "invalid-frame-list"),
        ("x", 400, "invalid-frame-list"),
        ("1-99999999", 400, "invalid-frame-list"),
    ):
        response = await server.get(f"{BASE}/frames/{wanted}")
        assert (response.status_code, response.json()["code"]) == (status, code), wanted
    for accept in (
        "image/png",
        "application/dicom",
        "image/jls; transfer-syntax=1.2.840.10008.1.2.4.90",
        'multipart/related; type="video/mp4"',
        f"{OCTETS}; transfer-syntax=1.2.3",
    ):
        response = await server.get(f"{BASE}/frames/1", Accept=accept)
        assert (response.status_code, response.json()["code"]) == (406, "not-acceptable"), accept
        assert "application/octet-stream" in response.json()["remedy"]
    several = await server.get(f"{BASE}/frames/1,2", Accept="application/octet-stream")
    assert several.status_code == 406
    assert (await server.get(BASE.replace("7.1", "7.9") + "/frames/1")).status_code == 404
    plain = data_set(Pixels(), 2)
    del plain.PixelData
    await server.store(file_of(plain))
    without = await server.get(BASE.replace("7.1", "7.2") + "/frames/1")
    assert (without.status_code, without.json()["code"]) == (404, "no-pixel-data")


async def test_unchanged_frames_are_not_sent_again(server: HttpServer) -> None:
    await server.store(file_of(data_set(Pixels(frames=3))))
    tags = set()
    for wanted, accept in (("1", OCTETS), ("2", OCTETS), ("1", "image/jls"), ("1", "image/jp2")):
        first = await server.get(f"{BASE}/frames/{wanted}", Accept=accept)
        again = await server.get(
            f"{BASE}/frames/{wanted}", **{"Accept": accept, "If-None-Match": first.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
        tags.add(first.headers["etag"])
        head = await server.client.head(
            server.dicomweb + f"{BASE}/frames/{wanted}", headers={"Accept": accept}
        )
        assert (head.status_code, head.content) == (200, b"")
    assert len(tags) == 4


async def test_the_bulk_data_of_compressed_pixels_is_their_frames(server: HttpServer) -> None:
    made, frames = in_syntax(data_set(Pixels(frames=3)), J + "80")
    await server.store(file_of(made))
    (found,) = (await server.get(f"{BASE}/metadata")).json()
    uri = found["7FE00010"]["BulkDataURI"]
    response = await server.client.get(uri, headers={"Accept": 'multipart/related; type="image/jls"'})
    assert [one.removesuffix(b"\0") for one in contents(response)] == [f.removesuffix(b"\0") for f in frames]
    plain = await server.client.get(uri)
    assert contents(plain) == octets(made)


async def test_dicomweb_client_reads_frames(server: HttpServer) -> None:
    """The client that researchers use finds the same pixels."""
    made = data_set(Pixels(frames=3))
    expected = octets(made)
    made, frames = in_syntax(made, J + "90")
    await server.store(file_of(made))
    client = DICOMwebClient(server.dicomweb)
    uids = ("1.2.3.4.5", "1.2.3.4.6", "1.2.3.4.7.1")
    plain = await asyncio.to_thread(client.retrieve_instance_frames, *uids, [1, 3])
    assert plain == [expected[0], expected[2]]
    wanted = (("image/jp2", J + "90"),)
    given = await asyncio.to_thread(client.retrieve_instance_frames, *uids, [2], wanted)
    assert given[0].startswith(frames[1])
    whole = await asyncio.to_thread(client.retrieve_instance, *uids)
    assert whole.file_meta.TransferSyntaxUID == J + "90", "it asks for transfer-syntax=*"
    (found,) = await asyncio.to_thread(client.retrieve_series, *uids[:2], (("application/dicom", LITTLE),))
    assert found.PixelData == b"".join(expected)
