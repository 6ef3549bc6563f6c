"""Which part of an image is shown, and how large (PS3.18 §8.3.5.1.3; pixel aspect ratio PS3.3
C.7.6.3.1.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image

from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.errors import ViewportOutside
from isocenter.imaging.rendering.groups import FrameGroups
from isocenter.imaging.rendering.request import Viewport

_ASPECT_EXTREME = 20.0
"""Beyond, a pixel's ratio is a mistake rather than a detector."""
_ASPECT_NOTICED = 1.001
_SIDE_MAX = 65_000
"""What JPEG and GIF can say of a side, with room to spare."""


@dataclass(frozen=True, slots=True)
class Placement:
    """``box``: left, top, right, bottom of the region in the source; ``size``: width and height to come
    out."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    mirror_horizontally: bool = False
    mirror_vertically: bool = False


def place(columns: int, rows: int, aspect: float, viewport: Viewport | None, *, pixels_max: int) -> Placement:
    """``aspect``: how much taller than wide a pixel is. Without a viewport the image keeps its size, but
    that its pixels become square, and at most ``pixels_max`` come out.

    Raises ViewportOutside.
    """
    viewport = viewport or Viewport()
    if viewport.relative:
        viewport = _absolute(viewport, columns, rows)
    # As floats: the widest region and the smallest image are within bounds that the door checked.
    region_width = viewport.region_width if viewport.region_width is not None else columns - viewport.left
    region_height = viewport.region_height if viewport.region_height is not None else rows - viewport.top
    right = min(viewport.left + abs(region_width), float(columns))
    bottom = min(viewport.top + abs(region_height), float(rows))
    left, top = max(viewport.left, 0.0), max(viewport.top, 0.0)
    if not (left < columns and top < rows and right > left and bottom > top):
        raise ViewportOutside
    width, height = _square(right - left, bottom - top, aspect)
    scale = min(
        viewport.width / width if viewport.width else float("inf"),
        viewport.height / height if viewport.height else float("inf"),
    )
    if scale == float("inf"):
        scale = 1.0
    # One side alone bounds nothing, nor does a viewport a picture that is all length.
    scale = min(scale, (pixels_max / (width * height)) ** 0.5, _SIDE_MAX / max(width, height))
    size = (
        max(1, min(round(width * scale), viewport.width or _SIDE_MAX)),
        max(1, min(round(height * scale), viewport.height or _SIDE_MAX)),
    )
    return Placement((left, top, right, bottom), size, region_width < 0, region_height < 0)


def _absolute(viewport: Viewport, columns: int, rows: int) -> Viewport:
    """Parts of the image in columns and rows."""
    width, height = viewport.region_width, viewport.region_height
    return replace(
        viewport,
        left=viewport.left * columns,
        top=viewport.top * rows,
        region_width=None if width is None else width * columns,
        region_height=None if height is None else height * rows,
        relative=False,
    )


def _square(width: float, height: float, aspect: float) -> tuple[float, float]:
    """The sides in square pixels: the direction with larger pixels is stretched, none is shrunk."""
    if aspect > 1:
        return width, height * aspect
    return width / aspect, height


def placed(image: Image.Image, placement: Placement) -> Image.Image:
    """The region in its new size; smoothed where it shrinks, interpolated where it grows."""
    whole = (0.0, 0.0, float(image.width), float(image.height))
    if placement.box != whole or placement.size != image.size:
        image = image.resize(placement.size, Image.Resampling.BICUBIC, box=placement.box, reducing_gap=3.0)
    if placement.mirror_horizontally:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if placement.mirror_vertically:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return image


def aspect_of(attributes: Attributes, groups: FrameGroups) -> float:
    """Height of a pixel over its width; 1 where nothing sensible says otherwise."""
    vertical, horizontal = 1.0, 1.0
    measures = groups.item(tags.PIXEL_MEASURES_SEQUENCE)
    for holder, tag in (
        (attributes, tags.PIXEL_ASPECT_RATIO),
        (measures, tags.PIXEL_SPACING),
        (attributes, tags.PIXEL_SPACING),
        (attributes, tags.IMAGER_PIXEL_SPACING),
    ):
        numbers = holder.numbers(tag) if holder is not None else []
        if len(numbers) >= 2 and min(numbers[:2]) > 0:
            vertical, horizontal = numbers[:2]
            break
    aspect = vertical / horizontal
    if not 1 / _ASPECT_EXTREME <= aspect <= _ASPECT_EXTREME:
        return 1.0
    return aspect if not 1 / _ASPECT_NOTICED < aspect < _ASPECT_NOTICED else 1.0
