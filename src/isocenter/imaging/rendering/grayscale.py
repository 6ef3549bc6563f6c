"""From stored values to what a display shows: modality LUT, VOI LUT, presentation (PS3.4 N.2, PS3.3 C.11).

Stored values of up to 16 bits go through one table that holds all steps; it is made once for all the images
that share it. Wider and floating values are calculated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.imaging.pixel_description import PixelDescription
from isocenter.imaging.rendering.lookup_tables import LookupTable
from isocenter.imaging.rendering.request import Window, WindowFunction

Gray = NDArray[np.uint8]

_TABLES_KEPT = 128
WHITE = 255


def windowed(values: NDArray[Any], window: Window) -> NDArray[np.float64]:
    """0 for black to 1 for white (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    center, width = window.center, window.width
    with np.errstate(over="ignore"):
        if window.function is WindowFunction.SIGMOID:
            return 1 / (1 + np.exp(-4 * (values - center) / width))
        if window.function is WindowFunction.LINEAR:
            if width == 1:
                return np.where(values > center - 0.5, 1.0, 0.0)
            center, width = center - 0.5, width - 1
        return np.clip((values - center) / width + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Intercept (PS3.3 C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        rescaled: NDArray[np.float64] = values * self.slope + self.intercept
        return rescaled


@dataclass(frozen=True, slots=True)
class Grayscale:
    """All steps. ``padding``: the stored values, both ends included, that are no part of the image
    (PS3.3 C.7.5.1.1.2): they are black whatever the other steps say."""

    modality: Rescale | LookupTable
    voi: Window | LookupTable
    inverted: bool = False
    padding: tuple[float, float] | None = None

    def shown(self, stored: NDArray[Any], pixels: PixelDescription) -> Gray:
        """``stored``: a decoded frame's samples, bits outside of Bits Stored and all where there is a
        table."""
        if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
            return self._looked_up(stored, pixels)
        return self.calculated(stored)

    def calculated(self, stored: NDArray[Any]) -> Gray:
        """Value by value. What is not a number is black."""
        values = self.modality.apply(stored.astype(np.float64, copy=False))
        shown = self._voi(values)
        if self.inverted:
            shown = 1 - shown
        gray = np.floor(np.nan_to_num(shown) * WHITE + 0.5).astype(np.uint8)
        if self.padding is not None:
            low, high = self.padding
            gray[(stored >= low) & (stored <= high)] = 0
        return gray

    def _voi(self, values: NDArray[Any]) -> NDArray[np.float64]:
        if isinstance(self.voi, LookupTable):
            return self.voi.apply(values) / ((1 << self.voi.bits) - 1)
        return windowed(values, self.voi)

    def _looked_up(self, stored: NDArray[Any], pixels: PixelDescription) -> Gray:
        bits = min(pixels.bits_stored, stored.dtype.itemsize * 8)
        table = display_table(self, bits, pixels.signed)
        shown: Gray = table[table_index(stored, pixels)]
        return shown


def table_index(stored: NDArray[Any], pixels: PixelDescription) -> NDArray[Any]:
    """Bits Stored of each sample as an unsigned number: where its value is in a table of `stored_domain`."""
    words = stored.view(f"u{stored.dtype.itemsize}")
    width = stored.dtype.itemsize * 8
    shift = pixels.high_bit + 1 - pixels.bits_stored
    if shift > 0:
        words = words >> shift
    if pixels.bits_stored < width:
        words = words & ((1 << pixels.bits_stored) - 1)
    return words


def stored_domain(bits: int, *, signed: bool) -> NDArray[np.int32]:
    """The value of each pattern of ``bits`` bits, in the patterns' order."""
    patterns = np.arange(1 << bits, dtype=np.int32)
    return np.where(patterns >= 1 << (bits - 1), patterns - (1 << bits), patterns) if signed else patterns


@lru_cache(maxsize=_TABLES_KEPT)
def display_table(grayscale: Grayscale, bits: int, signed: bool) -> Gray:
    """What each pattern of ``bits`` bits is shown as."""
    table = grayscale.calculated(stored_domain(bits, signed=signed))
    table.setflags(write=False)
    return table
