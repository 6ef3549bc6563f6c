"""Compressed frames as they lie in an object (PS3.5 A.4)."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import Protocol

from isocenter.imaging.errors import PixelDataBroken

_ITEM = 0xFFFEE000
_ITEM_HEADER = struct.Struct("<HHI")
_READ_AHEAD_BYTES = 1 << 20
# With which bytes a frame begins: JPEG and JPEG-LS, JPEG 2000, a JP2 file, JPEG XL.
_FIRST_BYTES = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\xff\x0a")


class Readable(Protocol):
    async def read(self, start: int, length: int) -> bytes: ...


def fragments_of(items: bytes) -> bytes:
    """The fragments of one frame joined: a whole number of items. Raises PixelDataBroken."""
    return b"".join(items[start : start + length] for start, length in _walk(items))


def _walk(items: bytes) -> Iterator[tuple[int, int]]:
    position = 0
    while position < len(items):
        if len(items) - position < _ITEM_HEADER.size:
            raise _broken()
        group, number, length = _ITEM_HEADER.unpack_from(items, position)
        position += _ITEM_HEADER.size
        if group << 16 | number != _ITEM or position + length > len(items):
            raise _broken()
        yield position, length
        position += length


async def frame_starts_by_content(content: Readable, start: int, length: int) -> array[int]:
    """Where frames begin that no offset table tells apart and that have several fragments: at those whose
    bytes begin as a frame does. ``start`` is that of the value of Pixel Data; the result counts from it.

    Raises PixelDataBroken where the items do not add up.
    """
    starts = array("Q")
    position, buffered_from, buffered = 0, 0, b""
    first = True
    while position + _ITEM_HEADER.size <= length:
        if position + 16 > buffered_from + len(buffered):
            buffered_from = position
            buffered = await content.read(start + position, min(_READ_AHEAD_BYTES, length - position))
        offset = position - buffered_from
        group, number, item_length = _ITEM_HEADER.unpack_from(buffered, offset)
        if group << 16 | number != _ITEM or position + 8 + item_length > length:
            raise _broken()
        if not first and buffered[offset + 8 : offset + 16].startswith(_FIRST_BYTES):
            starts.append(position)
        first = False
        position += 8 + item_length
    return starts


def _broken() -> PixelDataBroken:
    return PixelDataBroken("its fragments do not add up")
