"""A rendered picture as a file: JPEG, PNG, GIF, JPEG 2000; frames as AV1 for a film."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import Image

from isocenter.imaging.rendering.request import GIF, JPEG, JPEG_2000, PNG

QUALITY_DEFAULT = 90
_FULL_CHROMA_FROM_QUALITY = 90
_PNG_LEVEL = 4
"""Half the time of the default for a twentieth more bytes."""


def encoded(image: Image.Image, media_type: str, *, quality: int | None, icc: bytes | None) -> bytes:
    """``image`` of mode L or RGB. ``quality``: 1 to 100, for the lossy types (PS3.18 §8.3.5.1.2)."""
    out = BytesIO()
    _ENCODERS[media_type](image, out, quality or QUALITY_DEFAULT, icc)
    return out.getvalue()


def _jpeg(image: Image.Image, out: BytesIO, quality: int, icc: bytes | None) -> None:
    subsampling = 0 if quality >= _FULL_CHROMA_FROM_QUALITY else 2
    image.save(out, "JPEG", quality=quality, subsampling=subsampling, icc_profile=icc)


def _png(image: Image.Image, out: BytesIO, _: int, icc: bytes | None) -> None:
    image.save(out, "PNG", compress_level=_PNG_LEVEL, icc_profile=icc)


def _gif(image: Image.Image, out: BytesIO, _: int, __: bytes | None) -> None:
    """256 colours: all grays as they are; of colours the best, without noise that would not compress."""
    if image.mode == "RGB":
        image = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    image.save(out, "GIF")


def _jpeg_2000(image: Image.Image, out: BytesIO, quality: int, _: bytes | None) -> None:
    if quality == 100:
        image.save(out, "JPEG2000", irreversible=False, mct=1 if image.mode == "RGB" else 0)
    else:
        # Peak signal to noise in dB, which is how OpenJPEG counts: 30 is poor, 60 is hardly to be told.
        image.save(out, "JPEG2000", irreversible=True, quality_mode="dB", quality_layers=[30 + 0.3 * quality])


_ENCODERS: dict[str, Callable[[Image.Image, BytesIO, int, bytes | None], None]] = {
    JPEG: _jpeg,
    PNG: _png,
    GIF: _gif,
    JPEG_2000: _jpeg_2000,
}
MEDIA_TYPES = frozenset(_ENCODERS)
