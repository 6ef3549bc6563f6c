"""Requests whose body is compressed (RFC 9110 §8.4), bombs among them."""

from __future__ import annotations

import asyncio
import gzip
import resource
import shutil
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import zstandard

from isocenter.doors.http.services import HttpLimits
from services.archive import Image, broken_promises
from services.dicomweb import HttpServer, http_server, multipart

IMAGES = [Image(sop=f"1.2.3.1.1.{number}", pixels=bytes([number]) * 600) for number in range(1, 6)]
ZEROS = 512 << 20


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "two members": ("gzip", lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
    "zlib": ("deflate", zlib.compress),
    "raw": ("Deflate", raw_deflate),
    "zstd": ("zstd", zstandard.compress),
    "two frames": ("zstd", lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])),
    "none": ("identity", bytes),
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    async with http_server(tmp_path) as running:
        yield running
        assert await broken_promises(running.archive) == []
        assert list((tmp_path / "spool").iterdir()) == []
        assert running.archive.spool.budget.used_bytes == 0


async def post(server: HttpServer, content: bytes | AsyncIterator[bytes], **headers: str) -> tuple[int, str]:
    response = await server.client.post(f"{server.dicomweb}/studies", content=content, headers=headers)
    return response.status_code, response.json().get("code", "")


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("step", [1, 777, 1 << 20])
async def test_a_compressed_body(server: HttpServer, name: str, step: int) -> None:
    coding, encode = CODERS[name]
    body, headers = multipart([image.file for image in IMAGES])
    content = encode(body)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), step):
            yield content[start : start + step]

    assert await post(server, pieces(), **headers, **{"Content-Encoding": coding}) == (200, "")
    for image in IMAGES:
        path = f"/studies/{image.study}/series/{image.series}/instances/{image.sop}"
        assert (await server.get(path, Accept="application/dicom")).content == image.file


@pytest.mark.parametrize("name", [name for name in CODERS if name != "none"])
async def test_a_broken_one(server: HttpServer, name: str) -> None:
    coding, encode = CODERS[name]
    body, headers = multipart([image.file for image in IMAGES])
    headers |= {"Content-Encoding": coding}
    content = encode(body)
    for broken in (body, content[:-1], content[: len(content) // 2], b"", b"\x1f"):
        assert await post(server, broken, **headers) == (400, "malformed-content-coding")
    assert len(await server.found("/instances")) == 0


async def test_codings_that_are_not_read(server: HttpServer) -> None:
    body, headers = multipart([IMAGES[0].file])
    for coding in ("br", "compress", "gzip, gzip", "klingon"):
        response = await server.client.post(
            f"{server.dicomweb}/studies", content=body, headers={**headers, "Content-Encoding": coding}
        )
        assert response.status_code == 415
        assert response.headers["accept-encoding"] == "gzip, deflate, zstd", "RFC 9110 §15.5.16"


def zeros(coding: str) -> bytes:
    piece = bytes(1 << 20)
    if coding == "zstd":
        compressor = zstandard.ZstdCompressor(level=1).compressobj()
    else:
        compressor = zlib.compressobj(9, wbits=31 if coding == "gzip" else zlib.MAX_WBITS)
    return b"".join(compressor.compress(piece) for _ in range(ZEROS >> 20)) + compressor.flush()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_bomb(server: HttpServer, coding: str) -> None:
    content = zeros(coding)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    headers = {"Content-Type": "application/dicom", "Content-Encoding": coding}
    assert await post(server, content, **headers) == (413, "decompression-bomb")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 80 << 10, f"{grown_kib >> 10} MiB"
    assert len(await server.found("/instances")) == 0


@pytest.mark.parametrize(
    "limits", [HttpLimits(object_body_bytes_max=100_000), HttpLimits(decoded_body_bytes_max=100_000)]
)
async def test_bounds_hold_for_what_comes_out(tmp_path: Path, limits: HttpLimits) -> None:
    async with http_server(tmp_path, limits=limits) as server:
        body, headers = multipart([Image(pixels=bytes(200_000)).file])
        headers |= {"Content-Encoding": "gzip"}
        assert await post(server, gzip.compress(body), **headers) == (413, "decompression-bomb")


async def test_what_compresses_well_is_no_bomb(server: HttpServer) -> None:
    file = Image(pixels=bytes(20 << 20)).file
    headers = {"Content-Type": "application/dicom", "Content-Encoding": "gzip"}
    assert await post(server, gzip.compress(file), **headers) == (200, "")


async def test_with_curl(server: HttpServer, tmp_path: Path) -> None:
    """gzip and curl as a shell has them; PUT of one file to its address."""
    curl, packer = shutil.which("curl"), shutil.which("gzip")
    if curl is None or packer is None:
        pytest.skip("curl or gzip is missing")
    image = IMAGES[0]
    file = tmp_path / "image.dcm"
    file.write_bytes(image.file)
    await asyncio.to_thread(subprocess.run, [packer, str(file)], check=True)
    address = f"{server.dicomweb}/studies/{image.study}/series/{image.series}/instances/{image.sop}"
    options = ["-sS", "-f", "-T", f"{file}.gz", "-H", "Content-Type: application/dicom"]
    options += ["-H", "Content-Encoding: gzip", "-H", "Accept: application/dicom+xml", address]
    process = await asyncio.to_thread(
        subprocess.run, [curl, *options], check=True, capture_output=True, text=True
    )
    assert image.sop in process.stdout and process.stdout.startswith("<?xml")
