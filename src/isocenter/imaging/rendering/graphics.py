"""Graphics and texts of a presentation state, drawn over the picture (PS3.3 C.10.5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from isocenter.imaging.rendering.annotation import Ink, Lettering, clean
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.geometry import Placement
from isocenter.imaging.rendering.presentation import Presentation

_POINTS_MAX = 4096
_OBJECTS_MAX = 1000
_GRAPHICS, _TEXTS = 0x00700009, 0x00700008
_GRAPHIC_UNITS, _BOX_UNITS, _ANCHOR_UNITS = 0x00700005, 0x00700003, 0x00700004

Point = tuple[float, float]
ToPicture = Callable[[Point, str], Point]


def draw_graphics(
    picture: Image.Image, presentation: Presentation, placement: Placement, fonts: Sequence[str]
) -> Image.Image:
    """``placement``: where the picture, flipped and rotated already, comes from."""
    annotations = presentation.annotations()
    if not annotations:
        return picture
    drawing = ImageDraw.Draw(picture)
    to_picture = _mapping(picture, presentation, placement)
    lettering = Lettering(fonts, max(9, min(48, min(picture.size) // 30)))
    white, black = ((255, 255, 255), (0, 0, 0)) if picture.mode == "RGB" else (255, 0)
    for annotation in annotations:
        for graphic in annotation.items(_GRAPHICS)[:_OBJECTS_MAX]:
            # A dark line under the bright one: it is seen on any ground.
            for colour, width in ((black, 3), (white, 1)):
                _draw_graphic(drawing, graphic, to_picture, colour, width)
        for text in annotation.items(_TEXTS)[:_OBJECTS_MAX]:
            _draw_text(drawing, text, to_picture, lettering, inks=(white, black))
    return picture


def _mapping(picture: Image.Image, presentation: Presentation, placement: Placement) -> ToPicture:
    left, top, right, bottom = placement.box
    width, height = placement.size

    def to_picture(point: Point, units: str) -> Point:
        if units == "DISPLAY":  # parts of the displayed area, as it is seen
            return point[0] * picture.width, point[1] * picture.height
        # Pixels from 1, whose centres are meant; then as the picture was flipped and turned.
        x = (point[0] - 0.5 - left) / (right - left) * width
        y = (point[1] - 0.5 - top) / (bottom - top) * height
        if presentation.flipped:
            x = width - x
        match presentation.rotation:
            case 90:
                return height - y, x
            case 180:
                return width - x, height - y
            case 270:
                return y, width - x
            case _:
                return x, y

    return to_picture


def _draw_graphic(
    drawing: ImageDraw.ImageDraw,
    graphic: Attributes,
    to_picture: ToPicture,
    colour: Ink,
    width: int,
) -> None:
    numbers = graphic.numbers(0x00700022)[: 2 * _POINTS_MAX]
    units = graphic.word(_GRAPHIC_UNITS)
    points = [to_picture(point, units) for point in zip(numbers[::2], numbers[1::2], strict=False)]
    if any(abs(value) > 1e6 for point in points for value in point):
        return
    match graphic.word(0x00700023), len(points):
        case "POINT", 1:
            ((x, y),) = points
            drawing.line([(x - 4, y), (x + 4, y)], fill=colour, width=width)
            drawing.line([(x, y - 4), (x, y + 4)], fill=colour, width=width)
        case (("POLYLINE" | "INTERPOLATED"), count) if count > 1:
            drawing.line(points, fill=colour, width=width, joint="curve")
        case "CIRCLE", 2:
            (x, y), (to_x, to_y) = points
            radius = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
            box = [x - radius, y - radius, x + radius, y + radius]
            drawing.ellipse(box, outline=colour, width=width)
        case "ELLIPSE", 4:
            drawing.line(_ellipse(points), fill=colour, width=width, joint="curve")
        case _:
            return


def _ellipse(ends: list[Point]) -> list[Point]:
    """Points of an ellipse by the ends of its major and of its minor axis (C.10.5.1.2)."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = ends
    x, y = (ax + bx) / 2, (ay + by) / 2
    major, minor = ((bx - ax) / 2, (by - ay) / 2), ((dx - cx) / 2, (dy - cy) / 2)
    steps = 72
    turns = [2 * math.pi * step / steps for step in range(steps + 1)]
    return [
        (
            x + major[0] * math.cos(turn) + minor[0] * math.sin(turn),
            y + major[1] * math.cos(turn) + minor[1] * math.sin(turn),
        )
        for turn in turns
    ]


def _draw_text(
    drawing: ImageDraw.ImageDraw,
    text: Attributes,
    to_picture: ToPicture,
    lettering: Lettering,
    *,
    inks: tuple[Ink, Ink],
) -> None:
    """At the upper left of its box, else at its anchor."""
    box = text.numbers(0x00700010)[:2]
    units = text.word(_BOX_UNITS)
    if len(box) < 2:
        box, units = text.numbers(0x00700014)[:2], text.word(_ANCHOR_UNITS)
    if len(box) < 2:
        return
    left, top = to_picture((box[0], box[1]), units)
    if max(abs(left), abs(top)) > 1e6:
        return
    for number, line in enumerate(text.text(0x00700006).splitlines()[:64]):
        lettering.write(drawing, (left, top + number * lettering.step), clean(line), *inks)
