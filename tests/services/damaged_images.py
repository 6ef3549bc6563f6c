"""Compressed frames of every kind, damaged in ways that a broken disk or a bad program damages them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from isocenter.imaging.decoding import is_native
from isocenter.imaging.encoding import encodable, encode_frame
from isocenter.imaging.errors import PixelDataUnsupported
from isocenter.imaging.pixel_description import PixelDescription
from services.images import Pixels, compressed, data_set, file_of
from services.transcoding import frames_of

_KIND = Pixels(rows=32, columns=32, bits_allocated=8, bits_stored=8)


def damaged_frames() -> Iterator[tuple[str, bytes]]:
    """Transfer syntax and frame."""
    made = data_set(_KIND)
    pixels, [frame] = PixelDescription.of_dataset(made), frames_of(made)
    rng = np.random.default_rng(0)
    for syntax in encodable():
        if is_native(syntax):
            continue
        try:
            whole = encode_frame(frame, pixels, syntax).content
        except PixelDataUnsupported:
            continue
        yield syntax, b""
        yield syntax, whole[: len(whole) // 2]
        yield syntax, whole[::-1]
        for _ in range(2):
            hit = bytearray(whole)
            for place in rng.integers(0, len(hit), 6):
                hit[place] ^= int(rng.integers(1, 256))
            yield syntax, bytes(hit)


def damaged_file(number: int, syntax: str, frame: bytes) -> bytes:
    return file_of(compressed(data_set(_KIND, number), syntax, [frame or b"\0\0"]))
