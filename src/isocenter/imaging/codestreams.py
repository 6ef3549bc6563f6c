"""What compressed frames say of themselves in their first bytes: read before a decoder sees them.

A frame that claims to be larger than its object says would take memory that nobody bargained for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from isocenter.imaging.errors import PixelDataBroken

_SEGMENTS_MAX = 1024
_BOXES_MAX = 64
_JP2_SIGNATURE = b"\0\0\0\x0cjP  "
_SIZ = struct.Struct(">HHIIIIIIIIH")


@dataclass(frozen=True, slots=True)
class Codestream:
    """``precision`` in bits; ``process`` is the last byte of JPEG's start-of-frame marker (C3: lossless), 0
    elsewhere. ``ycbcr`` is what the markers say of colours: None where they say nothing."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    process: int = 0
    ycbcr: bool | None = None
    reversible: bool = False


def read_jpeg(encoded: bytes) -> Codestream:
    """JPEG (ISO/IEC 10918-1 B.2) and JPEG-LS (14495-1 C.2) up to its frame header. Raises PixelDataBroken."""
    if encoded[:2] != b"\xff\xd8":
        raise PixelDataBroken("its frame does not begin as a JPEG stream")
    position = 2
    ycbcr: bool | None = None
    for _ in range(_SEGMENTS_MAX):
        while encoded[position : position + 1] == b"\xff" == encoded[position + 1 : position + 2]:
            position += 1  # fill bytes
        if encoded[position : position + 1] != b"\xff" or len(encoded) < position + 4:
            break
        marker = encoded[position + 1]
        length = int.from_bytes(encoded[position + 2 : position + 4], "big")
        content = encoded[position + 4 : position + 2 + length]
        if marker == 0xE0 and content[:5] == b"JFIF\0" and ycbcr is None:
            ycbcr = True
        elif marker == 0xEE and content[:5] == b"Adobe" and len(content) > 11:
            ycbcr = content[11] != 0
        elif (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}) or marker == 0xF7:
            if len(content) < 6:
                break
            precision, rows, columns, components = struct.unpack_from(">BHHB", content)
            return Codestream(rows, columns, components, precision, process=marker, ycbcr=ycbcr)
        position += 2 + length
    raise PixelDataBroken("its frame has no JPEG header")


def read_jpeg_2000(encoded: bytes) -> Codestream:
    """JPEG 2000 and HTJ2K (ISO/IEC 15444-1 A.5.1), bare or in a JP2 file. Raises PixelDataBroken."""
    start = _codestream_start(encoded)
    siz = encoded[start + 2 : start + 4]
    if encoded[start : start + 2] != b"\xff\x4f" or siz != b"\xff\x51" or len(encoded) < start + 45:
        raise PixelDataBroken("its frame does not begin as a JPEG 2000 codestream")
    _, _, width, height, left, top, _, _, _, _, components = _SIZ.unpack_from(encoded, start + 4)
    depth = encoded[start + 4 + _SIZ.size]
    return Codestream(
        height - top,
        width - left,
        components,
        (depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        reversible=_is_reversible(encoded, start + 4),
    )


def check_end(encoded: bytes) -> None:
    """Raises PixelDataBroken where the marker that ends JPEG and JPEG 2000 is missing. Coded data cannot hold
    it; without it libjpeg and OpenJPH make up what is not there, and say nothing."""
    if b"\xff\xd9" not in encoded:
        raise PixelDataBroken("its frame ends early")


def _codestream_start(encoded: bytes) -> int:
    """Past the boxes of a JP2 file (15444-1 I.4), which DICOM does not want and some writers leave."""
    position = 0
    if encoded[:8] != _JP2_SIGNATURE:
        return position
    for _ in range(_BOXES_MAX):
        if len(encoded) < position + 16:
            break
        length, kind = struct.unpack_from(">I4s", encoded, position)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", encoded, position + 8)
            header = 16
        if kind == b"jp2c":
            return position + header
        if length < header:
            break
        position += length
    raise PixelDataBroken("its frame is a JP2 file without a codestream")


def _is_reversible(encoded: bytes, position: int) -> bool:
    """Whether the main header's COD names the 5-3 transformation (15444-1 A.6.1)."""
    for _ in range(_SEGMENTS_MAX):
        length = int.from_bytes(encoded[position : position + 2], "big")
        position += length
        marker = encoded[position : position + 2]
        position += 2
        if (
            marker == b"\xff\x52"
        ):  # COD: length 2, Scod 1, SGcod 4, levels 1, block 2, style 1, transformation 1
            return encoded[position + 11 : position + 12] == b"\1"
        if marker[:1] != b"\xff" or marker == b"\xff\x90" or length < 2:
            break
    return False
