"""Small CT series as files, each of its own patient, for tests that share a server."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path

from services.archive import Image

_numbers = itertools.count(1)


def new_series(
    count: int,
    *,
    name: str = "DOE^JANE",
    patient_id: str | None = None,
    pixels: int = 2048,
    **changes: object,
) -> list[Image]:
    """``count`` images of one new series of a new study; ``pixels``: bytes of Pixel Data of each."""
    number = next(_numbers)
    study = f"2.25.7701.{number}"
    return [
        Image(
            sop=f"{study}.1.{position}",
            series=f"{study}.1",
            study=study,
            patient_id=patient_id or f"PAT{number}",
            name=name,
            pixels=bytes([(position + column) % 256 for column in range(pixels)]),
            more=(
                (0x00200013, "IS", str(position)),
                (0x00280002, "US", b"\1\0"),
                (0x00280004, "CS", "MONOCHROME2"),
                (0x00280010, "US", b"\x20\0"),
                (0x00280011, "US", (pixels // 64).to_bytes(2, "little")),
                (0x00280100, "US", b"\x10\0"),
                (0x00280101, "US", b"\x10\0"),
                (0x00280102, "US", b"\x0f\0"),
                (0x00280103, "US", b"\0\0"),
            ),
        ).but(**changes)
        for position in range(1, count + 1)
    ]


def write_files(folder: Path, images: list[Image]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for image in images:
        path = folder / f"{zlib.crc32(image.sop.encode()):08x}.dcm"
        path.write_bytes(image.file)
        paths.append(path)
    return paths
