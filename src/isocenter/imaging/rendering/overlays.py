"""Overlay planes (PS3.3 C.9): bits over the image, in groups 6000 to 601E, or in unused bits of the pixels
(retired)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.grayscale import WHITE


def draw_overlays(
    picture: NDArray[np.uint8], samples: NDArray[Any], attributes: Attributes, frame: int
) -> NDArray[np.uint8]:
    """The picture with its overlays in white. ``samples`` with all their bits; ``frame`` counts from 0."""
    for group in tags.OVERLAY_GROUPS:
        plane = _plane(attributes, group, samples, frame)
        if plane is None:
            continue
        row, column = _origin(attributes, group)
        rows, columns = picture.shape[:2]
        top, left = max(row, 0), max(column, 0)
        seen = plane[top - row : max(rows - row, 0), left - column : max(columns - column, 0)]
        if not seen.any():
            continue
        if not picture.flags.writeable:
            picture = picture.copy()
        picture[top : top + seen.shape[0], left : left + seen.shape[1]][seen] = WHITE
    return picture


def _plane(attributes: Attributes, group: int, samples: NDArray[Any], frame: int) -> NDArray[np.bool_] | None:
    """True where the overlay is. None where there is none for this frame, or its data do not suffice."""
    if group | tags.OVERLAY_DATA in attributes:
        return _packed(attributes, group, frame)
    allocated = attributes.integer(group | tags.OVERLAY_BITS_ALLOCATED)
    position = attributes.integer(group | tags.OVERLAY_BIT_POSITION)
    width = samples.dtype.itemsize * 8
    if (
        group | tags.OVERLAY_ROWS not in attributes
        or allocated != width
        or not 0 < position < width
        or samples.dtype.kind == "f"
        or samples.ndim != 2
    ):
        return None
    words = samples.view(f"u{samples.dtype.itemsize}")
    return ((words >> position) & 1).astype(bool)


def _packed(attributes: Attributes, group: int, frame: int) -> NDArray[np.bool_] | None:
    rows, columns = (attributes.integer(group | tag) for tag in (tags.OVERLAY_ROWS, tags.OVERLAY_COLUMNS))
    frames = max(1, attributes.integer(group | tags.NUMBER_OF_FRAMES_IN_OVERLAY, 1))
    # An overlay of several frames begins at a frame of the image; one alone lies over all of them.
    number = 0 if frames == 1 else frame - (attributes.integer(group | tags.IMAGE_FRAME_ORIGIN, 1) - 1)
    bits = rows * columns
    if bits <= 0 or not 0 <= number < frames:
        return None
    raw = attributes.raw(group | tags.OVERLAY_DATA)
    first = number * bits
    if len(raw) * 8 < first + bits:
        return None
    octets = np.frombuffer(raw, np.uint8)[first // 8 : (first + bits + 7) // 8]
    plane = np.unpackbits(octets, bitorder="little")[first % 8 : first % 8 + bits]
    return plane.reshape(rows, columns).astype(bool)


def _origin(attributes: Attributes, group: int) -> tuple[int, int]:
    """Row and column of the overlay's first point, from 0; it may lie outside of the image."""
    origin = attributes.numbers(group | tags.OVERLAY_ORIGIN)
    if len(origin) < 2:
        return 0, 0
    return int(origin[0]) - 1, int(origin[1]) - 1
