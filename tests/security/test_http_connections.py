"""Connections that never finish asking are given up; those that ask too much are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.doors.http.protocol import BoundedHttpProtocol
from services.dicomweb import HttpServer, http_server

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


class Impatient(BoundedHttpProtocol):
    head_s = 0.05


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running


async def say(port: int, *pieces: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ((), b""),
        ((b"GET /hea",), b"HTTP/1.1 408 "),
        ((REQUEST,), b"HTTP/1.1 408 "),
        ((REQUEST + b"\r\nGET /x HTTP/1.1\r\nHost",), b"HTTP/1.1 200 "),
    ],
)
async def test_who_never_finishes_asking_is_given_up(
    tmp_path: Path, pieces: tuple[bytes, ...], answer: bytes
) -> None:
    async with http_server(tmp_path, protocol=Impatient) as server:
        got = await say(server.port, *pieces)
        assert got.startswith(answer)
        if b"GET /x" in b"".join(pieces):
            assert b"HTTP/1.1 408 " in got, "the second request of a kept connection too"


@pytest.mark.parametrize(
    "endless",
    [
        b"X: y\r\n",
        b"X: " + b"y" * 1000 + b"\r\n",
        b"y" * 1000,
    ],
)
async def test_headers_without_end(server: HttpServer, endless: bytes) -> None:
    pieces = [endless * (8192 // len(endless))] * 40
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST)
    for piece in pieces:
        writer.write(piece)
    answer = await reader.read(200)
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert (await server.client.get(server.url + "/health/live")).status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\x03" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n : e\r\n\r\n",
    ],
)
async def test_broken_requests(server: HttpServer, request_bytes: bytes) -> None:
    answer = await say(server.port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Traceback" not in answer


async def test_half_open_connections_do_not_keep_others_waiting(server: HttpServer) -> None:
    halves = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(300)]
    for _, writer in halves:
        writer.write(b"GET /dicom-web/studies HTTP/1.1\r\n")
    async with asyncio.timeout(10):
        assert (await server.get("/studies")).status_code == 200
    for _, writer in halves:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in halves), return_exceptions=True)
