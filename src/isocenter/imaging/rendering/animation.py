"""Frames one after another as one animated GIF (GIF89a), without holding them all: each comes as a GIF of its
own."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

_TRAILER = b"\x3b"
_IMAGE, _EXTENSION = 0x2C, 0x21
_LOOP_FOREVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
_TABLE_FLAG, _INTERLACE_FLAG = 0x80, 0x40
_SHORTEST_CS = 2
"""Browsers slow down what is quicker."""


async def animated(frames: AsyncIterator[bytes], frame_time_ms: float) -> AsyncIterator[bytes]:
    """The animation in pieces. ``frames``: GIF files of one image each, all of one size."""
    delay_cs = min(max(_SHORTEST_CS, round(frame_time_ms / 10)), 0xFFFF)
    control = struct.pack("<BBBBHBB", _EXTENSION, 0xF9, 4, 0x04, delay_cs, 0, 0)
    first = True
    async for frame in frames:
        if first:
            # The screen as the first frame has it, without a table for all: each brings its own.
            yield b"GIF89a" + frame[6:10] + bytes((frame[10] & ~_TABLE_FLAG, 0, 0)) + _LOOP_FOREVER
            first = False
        yield control + _image(frame)
    yield _TRAILER


def _image(frame: bytes) -> bytes:
    """The image block of a GIF file, with the file's colour table as the image's own."""
    flags = frame[10]
    table_bytes = 3 << ((flags & 7) + 1) if flags & _TABLE_FLAG else 0
    table = frame[13 : 13 + table_bytes]
    position = 13 + table_bytes
    while frame[position] == _EXTENSION:
        position = _after_blocks(frame, position + 2)
    left, top, width, height, own = struct.unpack_from("<HHHHB", frame, position + 1)
    data = position + 10
    if own & _TABLE_FLAG:
        own_bytes = 3 << ((own & 7) + 1)
        table, flags = frame[data : data + own_bytes], own
        data += own_bytes
    packed = (own & _INTERLACE_FLAG) | _TABLE_FLAG | (flags & 7)
    head = struct.pack("<BHHHHB", _IMAGE, left, top, width, height, packed)
    return head + table + frame[data : _after_blocks(frame, data + 1)]


def _after_blocks(frame: bytes, position: int) -> int:
    """Past the data sub-blocks and their terminator."""
    while size := frame[position]:
        position += 1 + size
    return position + 1
