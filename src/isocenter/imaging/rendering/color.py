"""Colours to 8-bit RGB: bits, YBR (PS3.3 C.7.6.3.1.2), palettes (C.7.6.3.1.5, C.8.16.2.1.1.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.imaging.decoding import stored_values
from isocenter.imaging.errors import PixelDataBroken
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.grayscale import Gray
from isocenter.imaging.rendering.lookup_tables import LookupTable, segmented_table, table_of

Rgb = NDArray[np.uint8]

# Columns: what Y, Cb and Cr add to R, G and B (ITU-R BT.601 full range).
_YBR_FULL_TO_RGB = np.array(
    [
        [1.0, 1.0, 1.0],
        [0.0, -0.114 * 1.772 / 0.587, 1.772],
        [1.402, -0.299 * 1.402 / 0.587, 0.0],
    ],
    np.float32,
)
_YBR = frozenset(("YBR_FULL", "YBR_FULL_422"))


def rgb_of(samples: NDArray[Any], photometric_interpretation: str, pixels: PixelDescription) -> Rgb:
    """(rows, columns, 3) of 8 bits. ``photometric_interpretation``: that of the decoded samples."""
    eight = _eight_bits(stored_values(samples, pixels), pixels)
    return _from_ybr(eight) if photometric_interpretation in _YBR else np.ascontiguousarray(eight)


def _eight_bits(values: NDArray[Any], pixels: PixelDescription) -> Rgb:
    if values.dtype == np.uint8 and pixels.bits_stored == 8:
        return values
    if values.dtype.kind == "f":
        raise PixelDataBroken("its colours are floating point numbers")
    if pixels.signed:
        values = values.astype(np.int64) + (1 << (pixels.bits_stored - 1))
    if pixels.bits_stored > 8:
        shifted: Rgb = (values >> np.array(pixels.bits_stored - 8, values.dtype)).astype(np.uint8)
        return shifted
    most = (1 << pixels.bits_stored) - 1
    return (values.astype(np.uint16) * 255 // most).astype(np.uint8)


def _from_ybr(ybr: Rgb) -> Rgb:
    values = ybr.astype(np.float32)
    values -= np.array([0, 128, 128], np.float32)
    values = values @ _YBR_FULL_TO_RGB
    values += 0.5
    np.floor(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def palette_of(attributes: Attributes, pixels: PixelDescription) -> list[LookupTable] | None:
    """Red, green and blue; None where one of them is missing or cannot be read."""
    tables = []
    for descriptor, data, segments in zip(
        tags.PALETTE_DESCRIPTORS, tags.PALETTE_DATA, tags.PALETTE_SEGMENTS, strict=True
    ):
        table = table_of(attributes, descriptor, data, signed=pixels.signed)
        table = table or segmented_table(attributes, descriptor, segments, signed=pixels.signed)
        if table is None:
            return None
        tables.append(table)
    return tables


def paint(samples: NDArray[Any], palette: list[LookupTable], pixels: PixelDescription) -> Rgb:
    """Each stored value in the palette's colour."""
    values = stored_values(samples, pixels)
    bits = max(table.bits for table in palette)
    # Entries of 16 bits that all fit into 8 were meant to be 8 (as other viewers take them).
    if bits > 8 and all(int(table.outputs().max()) < 256 for table in palette):
        bits = 8
    first = palette[0].first
    entries = max(len(table.outputs()) for table in palette)
    colours = np.empty((entries, 3), np.uint8)
    for place, table in enumerate(palette):
        outputs = table.outputs()
        filled = np.pad(outputs, (0, entries - len(outputs)), mode="edge")
        colours[:, place] = filled >> (bits - 8) if bits >= 8 else filled * 255 // ((1 << bits) - 1)
    position = np.clip(values.astype(np.int64) - first, 0, entries - 1)
    painted: Rgb = colours[position]
    return painted


def is_supplemental(attributes: Attributes) -> bool:
    """Whether the palette is for values above the grays only (PS3.3 C.8.16.2.1.1.1)."""
    presentation = attributes.words(tags.PIXEL_PRESENTATION)
    return bool(presentation) and presentation[0] in {"COLOR", "MIXED"}


def paint_above(
    samples: NDArray[Any], palette: list[LookupTable], pixels: PixelDescription, gray: Gray
) -> Rgb:
    """Grays as they are shown, but the palette's colours from its first value on."""
    values = stored_values(samples, pixels)
    painted = paint(samples, palette, pixels)
    return np.where((values >= palette[0].first)[:, :, np.newaxis], painted, gray[:, :, np.newaxis])
