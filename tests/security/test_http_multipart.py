"""Hostile STOW bodies: bounded memory, a clear refusal, nothing in the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.doors.http.services import HttpLimits
from isocenter.kit.errors import IsocenterError, TooLarge
from isocenter.kit.multipart import MalformedMultipart, MultipartReader, PartBegins, PartData, PartEnds
from services.archive import Image
from services.dicomweb import BOUNDARY, HttpServer, http_server, multipart

IMAGE = Image()
TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
DELIMITER = f"--{BOUNDARY}\r\n".encode()
CLOSING = f"--{BOUNDARY}--\r\n".encode()
PART = DELIMITER + b"Content-Type: application/dicom\r\n\r\n" + IMAGE.file + b"\r\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path, limits=HttpLimits(parts_max=100)) as running:
        yield running
        assert await running.found("/instances") == []
        assert list((tmp_path / "spool").iterdir()) == []
        assert running.archive.spool.budget.used_bytes == 0


async def post(server: HttpServer, body: bytes, content_type: str = TYPE) -> httpx2.Response:
    return await server.client.post(
        f"{server.dicomweb}/studies", content=body, headers={"Content-Type": content_type}
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary anywhere",
        CLOSING,
        PART,
        PART + DELIMITER,
        PART + CLOSING[:-4],
        PART + PART[:-10],
        PART.replace(b"\r\n", b"\n"),
        DELIMITER + b"Content-Type application/dicom\r\n\r\nx\r\n" + CLOSING,
        DELIMITER + b": application/dicom\r\n\r\nx\r\n" + CLOSING,
        DELIMITER + b"X: " + b"y" * 100_000 + b"\r\n\r\nx\r\n" + CLOSING,
        DELIMITER + b"y" * 100_000 + b": x\r\n\r\nx\r\n" + CLOSING,
        DELIMITER + b"X: y\r\n" * 1000 + b"\r\nx\r\n" + CLOSING,
        DELIMITER + b"X: y\rSet-Cookie: a=b\r\n\r\nx\r\n" + CLOSING,
        DELIMITER + b"Content-Type: \x00\r\n\r\nx\r\n" + CLOSING,
        DELIMITER + b"Content-Type: application/dicom; a=" + b'"' * 3000 + b"\r\n\r\nx\r\n" + CLOSING,
    ],
    ids=lambda body: repr(bytes(body[:40])),
)
async def test_broken_bodies(server: HttpServer, body: bytes) -> None:
    response = await post(server, body)
    assert response.status_code in {400, 415}
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["remedy"]


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom"; boundary=',
        'multipart/related; type="application/dicom"; boundary=""',
        'multipart/related; type="application/dicom"; boundary=' + "b" * 201,
        'multipart/related; type="application/dicom"; boundary="a\tb"',
        'multipart/related; type="application/dicom"; boundary="a\\"b',
        "multipart/related" + "; a=b" * 1000,
    ],
)
async def test_broken_boundaries(server: HttpServer, content_type: str) -> None:
    response = await post(server, PART + CLOSING, content_type)
    assert response.status_code in {400, 415}


async def test_a_hundred_thousand_tiny_parts(server: HttpServer) -> None:
    tiny = DELIMITER + b"\r\nx\r\n"
    response = await post(server, tiny * 100_000 + CLOSING)
    assert response.status_code == 413
    assert response.json()["code"] == "too-many-parts"


async def test_a_boundary_inside_an_object_ends_it(server: HttpServer) -> None:
    """RFC 2046 §5.1.1: it must not occur; what follows it is no header, and the request is refused."""
    body = DELIMITER + b"\r\n" + IMAGE.file[:200] + b"\r\n" + DELIMITER + IMAGE.file[200:] + b"\r\n" + CLOSING
    assert (await post(server, body)).status_code == 400


async def test_nothing_of_the_request_is_mirrored_into_headers(server: HttpServer) -> None:
    hostile = DELIMITER + b"Content-Type: application/dicom\r\nX-Evil: 1\r\n\r\nx\r\n" + CLOSING
    response = await post(server, hostile)
    assert response.status_code == 409
    assert "x-evil" not in response.headers
    response = await server.client.get(
        f"{server.dicomweb}/studies?limit=1&Rows=1", headers={"Host": 'evil" onload="x\\"<>'}
    )
    assert "<" not in response.headers.get("warning", "")
    assert "<" not in response.text


async def test_a_body_that_stops_is_given_up(tmp_path: Path) -> None:
    async with http_server(tmp_path, limits=HttpLimits(body_silence_s=0.05)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\n"
        writer.write(head.encode() + b"Content-Length: 9999\r\n\r\n" + PART[:300])
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        writer.close()
        await writer.wait_closed()
        assert server.archive.spool.budget.used_bytes == 0


def read_all(boundary: str, pieces: list[bytes]) -> list[bytes]:
    """The parts' contents. Raises what the reader raises."""
    reader = MultipartReader(boundary, parts_max=50)
    found: list[bytearray] = []
    ended = 0
    for piece in pieces:
        for event in reader.feed(piece):
            match event:
                case PartBegins():
                    found.append(bytearray())
                case PartData(data):
                    found[-1] += data
                case PartEnds():
                    ended += 1
    reader.finish()
    assert ended == len(found)
    return [bytes(one) for one in found]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(1, 50))
@settings(deadline=None)
def test_however_it_is_cut_it_reads_the_same(objects: list[bytes], size: int) -> None:
    body, _ = multipart(objects)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    delimiter = f"--{BOUNDARY}".encode()
    if any(delimiter in one for one in objects):
        return
    assert read_all(BOUNDARY, pieces) == read_all(BOUNDARY, [body]) == objects


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([DELIMITER, CLOSING, b"\r\n", b"a: b\r\n"])))
)
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(pieces: list[bytes]) -> None:
    try:
        read_all(BOUNDARY, pieces)
    except IsocenterError as error:
        assert isinstance(error, (MalformedMultipart, TooLarge))
