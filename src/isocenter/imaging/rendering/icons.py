"""Pictures that stand for what has no picture: drawn, neutral, of any size."""

from __future__ import annotations

from enum import StrEnum

from PIL import Image, ImageDraw

from isocenter.imaging.rendering.pictures import encoded

_PAPER, _INK, _GROUND = (232, 234, 237), (95, 99, 104), (32, 33, 36)
_DRAWN_AT = 256
"""Drawn large and made smaller: lines come out smooth."""


class Kind(StrEnum):
    """What an object is, where it is no image."""

    REPORT = "report"
    DOCUMENT = "document"
    WAVEFORM = "waveform"
    AUDIO = "audio"
    VIDEO = "video"
    OTHER = "other"
    BROKEN = "broken"


def icon(kind: Kind, media_type: str, width: int, height: int) -> bytes:
    """The picture's file, ``width`` by ``height``."""
    image = Image.new("RGB", (_DRAWN_AT, _DRAWN_AT), _GROUND)
    drawing = ImageDraw.Draw(image)
    _DRAWERS[kind](drawing)
    side = min(width, height)
    canvas = Image.new("RGB", (width, height), _GROUND)
    small = image.resize((side, side), Image.Resampling.LANCZOS)
    canvas.paste(small, ((width - side) // 2, (height - side) // 2))
    return encoded(canvas, media_type, quality=None, icc=None)


def _sheet(drawing: ImageDraw.ImageDraw) -> None:
    drawing.polygon([(64, 32), (160, 32), (192, 64), (192, 224), (64, 224)], fill=_PAPER)
    drawing.polygon([(160, 32), (160, 64), (192, 64)], fill=_INK)


def _report(drawing: ImageDraw.ImageDraw) -> None:
    _sheet(drawing)
    for row, end in enumerate((176, 152, 176, 168, 176, 136)):
        drawing.line([(80, 88 + 22 * row), (end, 88 + 22 * row)], fill=_INK, width=8)


def _document(drawing: ImageDraw.ImageDraw) -> None:
    _sheet(drawing)
    drawing.rectangle([84, 92, 172, 148], fill=_INK)
    for row in range(2):
        drawing.line([(84, 172 + 24 * row), (172, 172 + 24 * row)], fill=_INK, width=8)


def _waveform(drawing: ImageDraw.ImageDraw) -> None:
    beat = [(16, 140), (72, 140), (92, 116), (112, 140), (124, 60), (142, 204), (158, 140), (192, 140)]
    drawing.line([*beat, (206, 124), (220, 140), (240, 140)], fill=_PAPER, width=10, joint="curve")


def _audio(drawing: ImageDraw.ImageDraw) -> None:
    drawing.polygon([(48, 100), (88, 100), (132, 60), (132, 196), (88, 156), (48, 156)], fill=_PAPER)
    for reach in (24, 52, 80):
        drawing.arc([132 - reach, 128 - reach, 132 + reach, 128 + reach], -45, 45, fill=_PAPER, width=10)


def _video(drawing: ImageDraw.ImageDraw) -> None:
    drawing.rounded_rectangle([32, 56, 224, 200], 20, fill=_PAPER)
    drawing.polygon([(104, 92), (104, 164), (168, 128)], fill=_INK)


def _other(drawing: ImageDraw.ImageDraw) -> None:
    _sheet(drawing)
    drawing.ellipse([96, 104, 160, 168], outline=_INK, width=10)


def _broken(drawing: ImageDraw.ImageDraw) -> None:
    drawing.rounded_rectangle([40, 56, 216, 200], 12, fill=_PAPER)
    drawing.polygon([(56, 184), (104, 112), (136, 156), (160, 128), (200, 184)], fill=_INK)
    drawing.ellipse([164, 76, 188, 100], fill=_INK)
    crack = [(140, 48), (116, 92), (140, 128), (112, 164), (132, 208)]
    drawing.line(crack, fill=_GROUND, width=16, joint="curve")


_DRAWERS = {
    Kind.REPORT: _report,
    Kind.DOCUMENT: _document,
    Kind.WAVEFORM: _waveform,
    Kind.AUDIO: _audio,
    Kind.VIDEO: _video,
    Kind.OTHER: _other,
    Kind.BROKEN: _broken,
}
