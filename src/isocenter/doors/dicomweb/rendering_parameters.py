"""How a picture is asked for: the query parameters of Rendered and Thumbnail resources (PS3.18 §8.3.5)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeVar

from starlette.datastructures import QueryParams

from isocenter.doors.http.refusals import InvalidParameter
from isocenter.imaging.rendering.request import (
    Annotation,
    IccProfile,
    Rendering,
    Viewport,
    Window,
    WindowFunction,
)

SIDE_MAX = 8192
"""Of a viewport, in pixels; no display is larger."""

_DECIMAL = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_INTEGER = re.compile(r"\d{1,9}", re.ASCII)
_VALUE_CHARACTERS_MAX = 256
_MAGNITUDE_MAX = 1e12
_FUNCTIONS = {
    "linear": WindowFunction.LINEAR,
    "linear-exact": WindowFunction.LINEAR_EXACT,
    "sigmoid": WindowFunction.SIGMOID,
}

Word = TypeVar("Word", bound=StrEnum)


def rendering_of(query: QueryParams) -> Rendering:
    """All parameters but the media type. Raises InvalidParameter."""
    return Rendering(
        viewport=viewport_of(query),
        window=window_of(query),
        quality=whole_number(query, "quality", 1, 100),
        annotations=annotations_of(query),
        icc_profile=_icc_profile(query),
    )


def viewport_of(query: QueryParams, *, region: bool = True) -> Viewport | None:
    """``viewport=vw,vh`` or ``vw,vh,sx,sy,sw,sh``, of which the last four may be left empty (§8.3.5.1.3).

    ``region``: whether the last four may be there.
    """
    parts = _parts(query, "viewport")
    if parts is None:
        return None
    if len(parts) not in ({2, 6} if region else {2}):
        what = "vw,vh or vw,vh,sx,sy,sw,sh" if region else "vw,vh"
        raise InvalidParameter("viewport", f"viewport has other parts than {what}.")
    width, height = (_side(part, "viewport") for part in parts[:2])
    left, top, region_width, region_height = (
        None if part == "" else decimal(part, "viewport") for part in (parts[2:] or [""] * 4)
    )
    if (left or 0) < 0 or (top or 0) < 0:
        raise InvalidParameter("viewport", "sx and sy of viewport count from 0.")
    if region_width == 0 or region_height == 0:
        raise InvalidParameter("viewport", "sw and sh of viewport are not 0.")
    return Viewport(width, height, left or 0.0, top or 0.0, region_width, region_height)


def window_of(query: QueryParams) -> Window | None:
    """``window=center,width,function`` (§8.3.5.1.4)."""
    parts = _parts(query, "window")
    if parts is None:
        return None
    if len(parts) != 3 or parts[2].lower() not in _FUNCTIONS:
        raise InvalidParameter(
            "window", "window is center,width,function; function is linear, linear-exact or sigmoid."
        )
    center, width = (decimal(part, "window") for part in parts[:2])
    return usable_window(Window(center, width, _FUNCTIONS[parts[2].lower()]), "window")


def usable_window(window: Window, parameter: str) -> Window:
    if not window.usable:
        least = "1 or more" if window.function is WindowFunction.LINEAR else "more than 0"
        raise InvalidParameter(parameter, f"The width of a window of that function is {least}.")
    return window


def annotations_of(query: QueryParams) -> tuple[Annotation, ...]:
    """``annotation=patient,technique`` in any order (§8.3.5.1.1)."""
    parts = _parts(query, "annotation")
    if parts is None:
        return ()
    wanted = {_word(part, Annotation, "annotation") for part in parts}
    return tuple(one for one in Annotation if one in wanted)


def _icc_profile(query: QueryParams) -> IccProfile | None:
    value = _value(query, "iccprofile")
    return None if value is None else _word(value, IccProfile, "iccprofile")


def whole_number(query: QueryParams, name: str, least: int, most: int) -> int | None:
    value = _value(query, name)
    if value is None:
        return None
    if not _INTEGER.fullmatch(value) or not least <= int(value) <= most:
        raise InvalidParameter(name, f"{name} is a whole number from {least} to {most}.")
    return int(value)


def decimal(text: str, parameter: str) -> float:
    """Raises InvalidParameter for what is no number, or beyond all reason."""
    if not _DECIMAL.fullmatch(text) or abs(float(text)) > _MAGNITUDE_MAX:
        raise InvalidParameter(parameter, f"{parameter} holds something that is no decimal number.")
    return float(text)


def decimals(query: QueryParams, name: str) -> list[float] | None:
    parts = _parts(query, name)
    return None if parts is None else [decimal(part, name) for part in parts]


def _side(text: str, parameter: str) -> int:
    if not _INTEGER.fullmatch(text) or not 1 <= int(text) <= SIDE_MAX:
        raise InvalidParameter(parameter, f"Width and height are whole numbers from 1 to {SIDE_MAX}.")
    return int(text)


def _word(text: str, words: type[Word], parameter: str) -> Word:
    try:
        return words(text.strip().lower())
    except ValueError:
        known = ", ".join(words)
        raise InvalidParameter(parameter, f"{parameter} knows: {known}.") from None


def _parts(query: QueryParams, name: str) -> list[str] | None:
    value = _value(query, name)
    return None if value is None else [part.strip() for part in value.split(",")]


def _value(query: QueryParams, name: str) -> str | None:
    value = query.get(name)
    if value is not None and len(value) > _VALUE_CHARACTERS_MAX:
        raise InvalidParameter(name, f"{name} is too long.")
    return value
