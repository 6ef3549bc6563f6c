"""Which transformations apply to a frame: what the request says, what the object says for the frame, for all
frames, at the top; and where nothing says anything, what shows most of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.imaging.decoding import stored_values
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.grayscale import (
    Grayscale,
    Rescale,
    stored_domain,
    table_index,
)
from isocenter.imaging.rendering.groups import FrameGroups
from isocenter.imaging.rendering.lookup_tables import LookupTable, read_table
from isocenter.imaging.rendering.request import Window, WindowFunction

# The share of pixels that may be cut off at either end where no window is given: metal, noise, markers.
_CUT_OFF = 0.005
_SOFT_TISSUE = Window(40, 400)
_UPWARDS_FROM_ZERO = frozenset(("PT", "NM"))
"""Modalities that count: their black is 0, whatever else the image holds."""
_SHOWN_AS_STORED = frozenset(("US", "IVUS", "SC", "OT", "ES", "GM", "XC", "OP", "IVOCT", "DOC", "SEG"))
"""Made for displays: 8-bit images of these are shown as they are."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One frame's description, with what it says of its values."""

    pixels: PixelDescription
    attributes: Attributes
    groups: FrameGroups


def grayscale_of(situation: Situation, samples: NDArray[Any], window: Window | None = None) -> Grayscale:
    """``samples``: the decoded frame, looked at only where no window is given. ``window``: the request's."""
    modality = modality_of(situation)
    padding = padding_of(situation)
    holder = situation.groups.item(tags.FRAME_VOI_LUT_SEQUENCE) or situation.attributes
    voi = window or given_voi(holder, situation, modality) or _fitting(situation, samples, modality, padding)
    inverted = situation.pixels.photometric_interpretation == "MONOCHROME1"
    return Grayscale(modality, voi, inverted, padding)


def modality_of(situation: Situation) -> Rescale | LookupTable:
    """PS3.3 C.11.1; for enhanced objects C.7.6.16.2.9."""
    attributes = situation.attributes
    transformation = situation.groups.item(tags.PIXEL_VALUE_TRANSFORMATION_SEQUENCE)
    if transformation is None:
        item = attributes.item(tags.MODALITY_LUT_SEQUENCE)
        table = read_table(item, signed=situation.pixels.signed) if item is not None else None
        if table is not None:
            return table
    return rescale_of(transformation or attributes)


def rescale_of(holder: Attributes) -> Rescale:
    slope, intercept = holder.number(tags.RESCALE_SLOPE), holder.number(tags.RESCALE_INTERCEPT)
    # A slope of 0 would make every image one gray.
    return Rescale(slope or 1.0, intercept or 0.0)


def padding_of(situation: Situation) -> tuple[float, float] | None:
    """PS3.3 C.7.5.1.1.2; both attributes are in the sign of the pixels."""
    value, limit = (
        _in_sign_of_pixels(situation, tag)
        for tag in (tags.PIXEL_PADDING_VALUE, tags.PIXEL_PADDING_RANGE_LIMIT)
    )
    if value is None:
        return None
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def _in_sign_of_pixels(situation: Situation, tag: int) -> float | None:
    raw, vr = situation.attributes.raw(tag), situation.attributes.vr(tag)
    if vr in {"US", "SS"} and len(raw) >= 2:
        return float(int.from_bytes(raw[:2], "little", signed=situation.pixels.signed))
    return situation.attributes.number(tag)


def given_voi(
    holder: Attributes, situation: Situation, modality: Rescale | LookupTable
) -> Window | LookupTable | None:
    """The VOI LUT or window in ``holder``, where there is one that can be used."""
    item = holder.item(tags.VOI_LUT_SEQUENCE)
    if item is not None:
        negative = isinstance(modality, Rescale) and (situation.pixels.signed or modality.intercept < 0)
        table = read_table(item, signed=negative)
        if table is not None:
            return table
    centers, widths = holder.numbers(tags.WINDOW_CENTER), holder.numbers(tags.WINDOW_WIDTH)
    if not centers or not widths:
        return None
    # Of several, the first: it is the one that the maker puts first (C.11.2.1.2).
    function = holder.word(tags.VOI_LUT_FUNCTION)
    chosen = WindowFunction(function) if function in WindowFunction.__members__ else WindowFunction.LINEAR
    if chosen is WindowFunction.LINEAR and situation.pixels.floating:
        # The halves and ones of LINEAR are for whole numbers; floating values are often all below 1.
        chosen = WindowFunction.LINEAR_EXACT
    window = Window(centers[0], widths[0], chosen)
    return window if window.usable else None


def _fitting(
    situation: Situation,
    samples: NDArray[Any],
    modality: Rescale | LookupTable,
    padding: tuple[float, float] | None,
) -> Window:
    """No window is given: what is usual for the modality, else from the image's own values."""
    pixels, attributes = situation.pixels, situation.attributes
    kind = attributes.word(tags.MODALITY)
    if pixels.bits_allocated == 1:
        return _between(0, 1)
    if kind == "SEG" and (most := attributes.integer(tags.MAXIMUM_FRACTIONAL_VALUE)) > 0:
        return _between(0, most)
    if pixels.bits_stored <= 8 and not pixels.signed and kind in _SHOWN_AS_STORED and modality == Rescale():
        return _between(0, (1 << pixels.bits_stored) - 1)
    if kind == "CT" and isinstance(modality, Rescale) and modality.intercept < 0:
        return _SOFT_TISSUE
    if samples.dtype.kind in "iu" and samples.dtype.itemsize <= 2:
        low, high = _counted(samples, pixels, modality, padding)
    else:
        low, high = _measured(stored_values(samples, pixels), modality, padding)
    return _between(min(low, 0.0) if kind in _UPWARDS_FROM_ZERO else low, high)


def _between(low: float, high: float) -> Window:
    return Window((low + high) / 2, max(high - low, 1e-9), WindowFunction.LINEAR_EXACT)


def _counted(
    samples: NDArray[Any],
    pixels: PixelDescription,
    modality: Rescale | LookupTable,
    padding: tuple[float, float] | None,
) -> tuple[float, float]:
    """Between which values all but a few pixels are, from how often each value occurs."""
    domain = stored_domain(pixels.bits_stored, signed=pixels.signed)
    counts = np.bincount(table_index(samples, pixels).reshape(-1), minlength=len(domain))
    if padding is not None:
        counts[(domain >= padding[0]) & (domain <= padding[1])] = 0
    outputs = modality.apply(domain)
    ascending = np.argsort(outputs, kind="stable")
    reached = np.cumsum(counts[ascending])
    total = int(reached[-1])
    if not total:
        return 0.0, 1.0
    first, last = np.searchsorted(reached, (total * _CUT_OFF, total * (1 - _CUT_OFF)), side="left")
    ordered = outputs[ascending]
    return float(ordered[first]), float(ordered[min(last, len(ordered) - 1)])


def _measured(
    values: NDArray[Any], modality: Rescale | LookupTable, padding: tuple[float, float] | None
) -> tuple[float, float]:
    flat = values.reshape(-1)
    kept = np.isfinite(flat) if flat.dtype.kind == "f" else np.ones(flat.shape, bool)
    if padding is not None:
        kept &= (flat < padding[0]) | (flat > padding[1])
    outputs = modality.apply(flat[kept].astype(np.float64))
    if not outputs.size:
        return 0.0, 1.0
    low, high = np.quantile(outputs, (_CUT_OFF, 1 - _CUT_OFF))
    if high <= low:
        low, high = outputs.min(), outputs.max()
    return float(low), float(high)
