"""Memory while large objects pass through: one of 2 GB and ten of 1 GB at once, by C-STORE and by STOW-RS.

The objects are multi-frame, made while they are sent; resident memory is read ten times a second.
No peer: the figure is a bound (500 MB).
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench.rounds import write_results
from bench.servers import IsocenterServer, resident_bytes
from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.part10 import encode_file_meta
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.dimse.net.client import Proposal, connect

MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word Secondary Capture
GB = 1 << 30
_ROWS = _COLUMNS = 1024
_PIECE = bytes(1 << 20)


def run(rounds: int) -> None:
    del rounds  # a bound, not a rate: once is enough
    cases = []
    with tempfile.TemporaryDirectory(prefix="isocenter-large-") as name:
        server = IsocenterServer(Path(name) / "isocenter")
        try:
            for number, (door, send) in enumerate((("C-STORE", cstore), ("STOW-RS", stow))):
                for sizes in ([2 * GB], [GB] * 10):
                    case = uvloop.run(measure(server, door, send, sizes, number * 100 + len(sizes) * 10))
                    cases.append(case)
                    print(
                        f"  {door}, {len(sizes)} x {sizes[0] // GB} GB: {case['seconds']:.1f} s, "
                        f"{case['mb_per_s']:.0f} MB/s, resident at most {case['resident_mb_max']:.0f} MB",
                        flush=True,
                    )
        finally:
            server.stop()
    write_results("large", cases)


async def measure(
    server: IsocenterServer, door: str, send: object, sizes: list[int], first: int
) -> dict[str, object]:
    done = asyncio.Event()
    highest = 0

    async def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident_bytes(server.pid))
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    begun = time.perf_counter()
    await asyncio.gather(*(send(server, first + n, size) for n, size in enumerate(sizes)))  # type: ignore[operator]
    took = time.perf_counter() - begun
    done.set()
    await watching
    return {
        "case": f"{door}, {len(sizes)} x {sizes[0] // GB} GB",
        "seconds": took,
        "mb_per_s": sum(sizes) / took / 1e6,
        "resident_mb_max": highest / 1e6,
    }


async def cstore(server: IsocenterServer, number: int, size: int) -> None:
    association = await connect(
        "127.0.0.1",
        server.dicom_port,
        calling_ae_title="BENCH",
        called_ae_title=server.ae_title,
        contexts=[Proposal(MULTI_FRAME, (EXPLICIT_VR_LITTLE_ENDIAN,))],
        response_s=600,
    )
    answer = await association.store(
        MULTI_FRAME, sop_instance_uid(number), EXPLICIT_VR_LITTLE_ENDIAN, data_set(number, size)
    )
    if answer.status:
        raise SystemExit(f"C-STORE answered {answer.status:04X}")
    await association.release()


async def stow(server: IsocenterServer, number: int, size: int) -> None:
    address = urlsplit(server.dicom_web_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST {address.path}/studies HTTP/1.1\r\nHost: {address.netloc}\r\nTransfer-Encoding: chunked\r\n"
        'Content-Type: multipart/related; type="application/dicom"; boundary=B\r\n\r\n'.encode()
    )

    async def chunk(content: bytes) -> None:
        writer.writelines((b"%x\r\n" % len(content), content, b"\r\n"))
        await writer.drain()

    await chunk(b"--B\r\nContent-Type: application/dicom\r\n\r\n")
    await chunk(
        encode_file_meta(
            sop_class_uid=MULTI_FRAME,
            sop_instance_uid=sop_instance_uid(number),
            transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
        )
    )
    async for piece in data_set(number, size):
        await chunk(piece)
    await chunk(b"\r\n--B--\r\n")
    writer.write(b"0\r\n\r\n")
    answer = await reader.readuntil(b"\r\n")
    if b" 200 " not in answer:
        raise SystemExit(f"STOW-RS answered {answer!r}: {(await reader.read(2000))!r}")
    writer.close()


async def data_set(number: int, size: int) -> AsyncIterator[bytes]:
    """About ``size`` bytes: the header of a multi-frame object, then its pixels in pieces of 1 MB."""
    frames = size // (_ROWS * _COLUMNS * 2)
    yield write_dataset(
        [
            Element(0x00080016, "UI", padded(MULTI_FRAME)),
            Element(0x00080018, "UI", padded(sop_instance_uid(number))),
            Element(0x00080060, "CS", b"OT"),
            Element(0x00100010, "PN", b"LARGE^OBJECT"),
            Element(0x00100020, "LO", padded(f"L{number}", b" ")),
            Element(0x0020000D, "UI", padded(f"2.25.771{number:04d}")),
            Element(0x0020000E, "UI", padded(f"2.25.772{number:04d}")),
            Element(0x00280008, "IS", padded(str(frames), b" ")),
            Element(0x00280010, "US", struct.pack("<H", _ROWS)),
            Element(0x00280011, "US", struct.pack("<H", _COLUMNS)),
        ],
        EXPLICIT_VR_LITTLE_ENDIAN,
    )
    pixels = frames * _ROWS * _COLUMNS * 2
    yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, pixels)
    stamp = struct.pack("<I", number) * (len(_PIECE) // 4)  # different bytes for different objects
    for _ in range(pixels // len(stamp)):
        yield stamp


def sop_instance_uid(number: int) -> str:
    return f"2.25.773{number:04d}"


def padded(text: str, pad: bytes = b"\0") -> bytes:
    return text.encode() + pad * (len(text) % 2)
