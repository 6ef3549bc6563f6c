"""Large objects through both doors of the real server: memory stays under the bound (issue's part 8).

They are made while they are sent, and hashed as they come back, so that nobody holds one whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import struct
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from isocenter.dicom.part10 import encode_file_meta
from isocenter.dimse.net.client import Proposal
from services.archive import EXPLICIT, Image
from services.attacked import RESIDENT_BYTES_MAX, AttackedServer, image, running

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word Secondary Capture
MB = 1 << 20
PIECE_BYTES = MB
SECONDS_MAX = 60
DISK_BYTES_MIN = 4 << 30
_numbers = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedServer]:
    folder = tmp_path_factory.mktemp("large")
    if shutil.disk_usage(folder).free < DISK_BYTES_MIN:
        pytest.skip("less than 4 GB are free on the disk of the temporary folder")
    with running(folder / "server", "--min-free-disk", "0") as server:
        yield server
    shutil.rmtree(folder)


class LargeObject:
    def __init__(self, size: int) -> None:
        self._number = next(_numbers)
        self.image: Image = image(self._number, study=6, sop_class=MULTI_FRAME, modality="OT", pixels=b"")
        self._pixels = size - size % PIECE_BYTES
        self.sha256 = hashlib.sha256()
        self.size = 0

    async def data_set(self) -> AsyncIterator[bytes]:
        """Each piece is told from the others and from those of other objects."""
        whole = self.image.data_set
        head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, self._pixels)
        yield self._counted(whole[: whole.rindex(b"\xe0\x7f\x10\x00OW")] + head)
        filling = bytes(PIECE_BYTES - 8)
        for number in range(self._pixels // PIECE_BYTES):
            yield self._counted(struct.pack("<II", self._number, number) + filling)

    async def stow_body(self) -> AsyncIterator[bytes]:
        yield b"--B\r\nContent-Type: application/dicom\r\n\r\n"
        yield encode_file_meta(
            sop_class_uid=MULTI_FRAME, sop_instance_uid=self.image.sop, transfer_syntax_uid=EXPLICIT
        )
        async for piece in self.data_set():
            yield piece
        yield b"\r\n--B--\r\n"

    def _counted(self, piece: bytes) -> bytes:
        self.sha256.update(piece)
        self.size += len(piece)
        return piece


async def c_store(server: AttackedServer, one: LargeObject) -> None:
    proposal = Proposal(MULTI_FRAME, (EXPLICIT,))
    async with await server.associate(proposal, response_s=SECONDS_MAX) as association:
        response = await association.store(MULTI_FRAME, one.image.sop, EXPLICIT, one.data_set())
        assert response.status == 0


async def stow(server: AttackedServer, one: LargeObject) -> None:
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}
    answer = await server.http("POST", "/dicom-web/studies", headers=headers, body=one.stow_body())
    assert answer.status == 200, answer


async def given_back(server: AttackedServer, one: LargeObject) -> str:
    """The hash of the data set as WADO-RS gives it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    path = f"/dicom-web/studies/{one.image.study}/series/{one.image.series}/instances/{one.image.sop}"
    accept = "Accept: application/dicom; transfer-syntax=*"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{accept}\r\nConnection: close\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert " 200 " in head
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    await reader.readexactly(length - one.size)  # preamble and file meta information
    sha256 = hashlib.sha256()
    while piece := await reader.read(MB):
        sha256.update(piece)
    writer.close()
    await writer.wait_closed()
    return sha256.hexdigest()


@pytest.mark.parametrize("send", [c_store, stow])
@pytest.mark.parametrize(
    "sizes", [[600 * MB], [300 * MB] * 4], ids=["one of 600 MB", "four of 300 MB at once"]
)
async def test_large_objects(server: AttackedServer, send, sizes: list[int]) -> None:
    objects = [LargeObject(size) for size in sizes]
    server.forget_resident_bytes_max()
    begun_s = time.monotonic()
    await asyncio.gather(*(send(server, one) for one in objects))
    took_s = time.monotonic() - begun_s
    for one in objects:
        assert await given_back(server, one) == one.sha256.hexdigest()
    print(f"{sum(sizes) / MB / took_s:.0f} MB/s, at most {server.resident_bytes_max() / 1e6:.0f} MB resident")
    assert server.resident_bytes_max() < RESIDENT_BYTES_MAX
    assert took_s < SECONDS_MAX
    assert list((server.data_dir / "spool").iterdir()) == []
    empty(server.data_dir / "objects")


def empty(objects: Path) -> None:
    """The disk is needed again: the objects are gone, whatever the index says of them."""
    for path in objects.glob("[0-9]*/*/*"):
        path.unlink()
