"""Files as renderers get them, and arrays as objects: for tests of what pictures look like."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from isocenter.dicom.scanner import Wanted, scan
from isocenter.dicom.tags import DOUBLE_FLOAT_PIXEL_DATA, FLOAT_PIXEL_DATA, PIXEL_DATA
from isocenter.features.archive.reading import frame_offsets
from isocenter.imaging.rendering.described import describe
from isocenter.imaging.rendering.frame import render_frame
from isocenter.imaging.rendering.request import PNG, FrameSource, Rendering
from services.archive import EXPLICIT, Image, element

_PIXELS = Wanted((PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA))

Tag = tuple[int, str, bytes | str]


def source_of(content: bytes, frame: int = 0) -> FrameSource:
    """One frame (from 0) of a file in a little-endian transfer syntax without deflate."""
    found = scan(content, _PIXELS)
    data = found.pixel_data
    assert data is not None
    header = content[found.header_size : data.offset]
    pixels = describe(header, found.transfer_syntax_uid).pixels
    if data.encapsulated:
        starts = [int(start) + data.offset for start in frame_offsets(found, pixels.number_of_frames).split()]
        ends = [*starts[1:], data.offset + data.length]
        encoded = b"".join(
            content[offset : offset + length]
            for offset, length in data.fragments
            if starts[frame] <= offset - 8 < ends[frame]
        )
        return FrameSource(header, found.transfer_syntax_uid, encoded, frame)
    extent = pixels.frame_extent(frame)
    start = data.offset + extent.start
    encoded = content[start : start + extent.length]
    return FrameSource(header, found.transfer_syntax_uid, encoded, frame, extent.first_bit)


def rendered(source: FrameSource | bytes | Path, frame: int = 0, **asked: Any) -> NDArray[np.uint8]:
    """The picture's pixels, (rows, columns) or (rows, columns, 3), after a lossless file."""
    if isinstance(source, Path):
        source = source.read_bytes()
    if isinstance(source, bytes):
        source = source_of(source, frame)
    return opened(render_frame(source, Rendering(PNG, **asked)))


def opened(file: bytes) -> NDArray[np.uint8]:
    picture = Pillow.open(BytesIO(file))
    return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)


def us(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *(value & 0xFFFF for value in values))


def image(
    pixels: NDArray[Any], *more: Tag, photometric: str = "MONOCHROME2", bits_stored: int = 0, frame: int = 0
) -> FrameSource:
    """An array (rows, columns[, 3]) as a frame of an object with further elements, which may replace those
    that describe the pixels."""
    elements = described_by(pixels, photometric, bits_stored)
    elements |= {tag: (vr, value) for tag, vr, value in more}
    return FrameSource(_data_set(elements), EXPLICIT, pixels.tobytes(), frame)


def stored(pixels: NDArray[Any], *more: Tag, photometric: str = "MONOCHROME2", **image: Any) -> Image:
    """The same as an object that can be sent: frames in the first of four dimensions, or of three where they
    are gray. ``image``: as `services.archive.Image` takes it."""
    colour = photometric in {"RGB", "YBR_FULL"}
    frames = pixels.shape[0] if pixels.ndim > (3 if colour else 2) else 1
    first = pixels[0] if pixels.ndim > (3 if colour else 2) else pixels
    elements = described_by(first, photometric, 0)
    if frames > 1:
        elements[0x00280008] = ("IS", str(frames))
    elements |= {tag: (vr, value) for tag, vr, value in more}
    described = tuple((tag, vr, value) for tag, (vr, value) in elements.items())
    return Image(pixels=pixels.tobytes(), more=described, **image)


def described_by(
    pixels: NDArray[Any], photometric: str, bits_stored: int
) -> dict[int, tuple[str, bytes | str]]:
    bits = pixels.dtype.itemsize * 8
    stored = bits_stored or bits
    return {
        0x00280002: ("US", us(3 if pixels.ndim == 3 else 1)),
        0x00280004: ("CS", photometric),
        0x00280006: ("US", us(0)),
        0x00280010: ("US", us(pixels.shape[0])),
        0x00280011: ("US", us(pixels.shape[1])),
        0x00280100: ("US", us(bits)),
        0x00280101: ("US", us(stored)),
        0x00280102: ("US", us(stored - 1)),
        0x00280103: ("US", us(int(pixels.dtype.kind == "i"))),
    }


def sequence(*items: Iterable[Tag]) -> bytes:
    """The value of a sequence whose items hold these elements."""
    content = b""
    for item in items:
        elements = b"".join(element(tag, vr, value) for tag, vr, value in sorted(item))
        content += struct.pack("<HHI", 0xFFFE, 0xE000, len(elements)) + elements
    return content


def lut(first: int, bits: int, entries: Iterable[int], vr: str = "US") -> list[Tag]:
    """An item of Modality LUT or VOI LUT Sequence."""
    words = list(entries)
    return [(0x00283002, vr, us(len(words), first, bits)), (0x00283006, "OW", us(*words))]


def _data_set(elements: dict[int, tuple[str, bytes | str]]) -> bytes:
    header = b"".join(element(tag, vr, value) for tag, (vr, value) in sorted(elements.items()))
    return header + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0)
