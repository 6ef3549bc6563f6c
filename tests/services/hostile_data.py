"""Data sets that mean harm: nesting that has no end, and little that becomes much."""

from __future__ import annotations

import struct
import zlib

from services.archive import Image, element

DEFLATED = "1.2.840.10008.1.2.1.99"
BOMB_BYTES = 1 << 30
_PIECE_BYTES = 1 << 20


def nested_sequences(depth: int, tag: int = 0x00081140) -> bytes:
    """Explicit VR, undefined lengths, never closed."""
    opening = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)
    return (opening + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


def deflate_bomb(image: Image, tag: int | None) -> bytes:
    """A deflated data set of about a megabyte that holds a gigabyte of zeros.

    They are the value of ``tag``, or, without one, elements of group 9 with nothing in them.
    """
    before, after = _around(image, tag or 0x00091010)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = b"" if tag is None else struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"OB", 0, BOMB_BYTES)
    start = compressor.compress(before + head) + compressor.flush(zlib.Z_FULL_FLUSH)
    filling = bytes(_PIECE_BYTES) if tag else struct.pack("<HH2sH", 9, 0x1010, b"LO", 0) * (_PIECE_BYTES // 8)
    # After a full flush nothing refers to what came before: one compressed piece can be said again and again.
    piece = compressor.compress(filling) + compressor.flush(zlib.Z_FULL_FLUSH)
    return start + piece * (BOMB_BYTES // _PIECE_BYTES) + compressor.compress(after) + compressor.flush()


def _around(image: Image, tag: int) -> tuple[bytes, bytes]:
    """The image's elements before and after ``tag``, without its pixels."""
    marked = image.but(pixels=b"", more=((tag, "OB", b""),)).data_set
    at = marked.index(element(tag, "OB", b""))
    rest = marked[at + len(element(tag, "OB", b"")) :]
    return marked[:at], rest
