"""Frames as a film: AV1 video in an MP4 file (ISO/IEC 14496-12, AV1 Codec ISO Media File Format Binding)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_TIMESCALE = 1000  # units of a second


@dataclass(frozen=True, slots=True)
class Samples:
    """Some frames in a row, each as its AV1 bytes; the first needs none before it. ``configuration`` is the
    ``av1C`` box that all frames of one size and colour share."""

    width: int
    height: int
    configuration: bytes
    frames: tuple[bytes, ...]


def muxed(parts: Sequence[Samples], frame_time_ms: float) -> bytes:
    """The MP4 file. ``parts`` in order, all of one size."""
    first = parts[0]
    sizes = [len(frame) for part in parts for frame in part.frames]
    keys, number = [], 1
    for part in parts:
        keys.append(number)
        number += len(part.frames)
    duration = max(1, round(frame_time_ms * _TIMESCALE / 1000))
    head = _box(b"ftyp", b"isom" + bytes(4) + b"isomav01iso2mp41")
    # The index stands before the media, so that playing begins with the first bytes; its size does not
    # depend on where it says that they are.
    index = _movie(first, sizes, keys, duration, 0)
    index = _movie(first, sizes, keys, duration, len(head) + len(index) + 8)
    return head + index + _box(b"mdat", *(frame for part in parts for frame in part.frames))


def _movie(first: Samples, sizes: list[int], keys: list[int], duration: int, media_at: int) -> bytes:
    total = duration * len(sizes)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie = struct.pack(">IIIIIIHH8x", 0, 0, 0, _TIMESCALE, total, 0x10000, 0x100, 0)
    track = struct.pack(">IIIIII8xHHHH", 3, 0, 0, 1, 0, total, 0, 0, 0, 0)
    track += matrix + struct.pack(">II", first.width << 16, first.height << 16)
    return _box(
        b"moov",
        _box(b"mvhd", movie, matrix, bytes(24), struct.pack(">I", 2)),
        _box(
            b"trak",
            _box(b"tkhd", track),
            _box(
                b"mdia",
                _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, _TIMESCALE, total, 0x55C4, 0)),
                _box(b"hdlr", bytes(8), b"vide", bytes(12), b"Frames\0"),
                _box(
                    b"minf",
                    _box(b"vmhd", struct.pack(">I8x", 1)),
                    _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _IN_THIS_FILE)),
                    _sample_table(first, sizes, keys, duration, media_at),
                ),
            ),
        ),
    )


def _sample_table(first: Samples, sizes: list[int], keys: list[int], duration: int, media_at: int) -> bytes:
    entry = bytes(6) + struct.pack(">H16xHHIIIH", 1, first.width, first.height, 0x480000, 0x480000, 0, 1)
    entry += bytes(32) + struct.pack(">Hh", 24, -1) + first.configuration
    count = len(sizes)
    return _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), _box(b"av01", entry)),
        _box(b"stts", struct.pack(">IIII", 0, 1, count, duration)),
        _box(b"stss", struct.pack(f">II{len(keys)}I", 0, len(keys), *keys)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, count, 1)),
        _box(b"stsz", struct.pack(f">III{count}I", 0, 0, count, *sizes)),
        _box(b"stco", struct.pack(">III", 0, 1, media_at)),
    )


def _box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", len(content) + 8, kind) + content


_IN_THIS_FILE = _box(b"url ", struct.pack(">I", 1))
