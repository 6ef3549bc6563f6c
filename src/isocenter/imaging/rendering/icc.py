"""Colour profiles of rendered images (PS3.18 §8.3.5.1.5): the object's own, or one of three named ones."""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO

from PIL import Image, ImageCms

from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes
from isocenter.imaging.rendering.request import IccProfile

# Primaries as XYZ columns relative to D50, the profile connection space's white (Bradford-adapted where the
# space's own white is D65), and the exponent of the transfer curve.
_SPACES = {
    IccProfile.ADOBE_RGB: (
        "Adobe RGB (1998) compatible",
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
        563 / 256,
    ),
    IccProfile.ROMM_RGB: (
        "ROMM RGB (ISO 22028-2)",
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)),
        1.8,
    ),
}
_D50 = (0.9642, 1.0, 0.8249)
_HEADER_BYTES = 128


def source_profile(attributes: Attributes) -> bytes | None:
    """The object's ICC Profile (0028,2000), of the first optical path in whole slide images; None where there
    is none that can be read as one for RGB."""
    profile = attributes.raw(tags.ICC_PROFILE)
    if not profile and (path := attributes.item(tags.OPTICAL_PATH_SEQUENCE)) is not None:
        profile = path.raw(tags.ICC_PROFILE)
    # A value is even in length, a profile says its own.
    if len(profile) < _HEADER_BYTES or profile[36:40] != b"acsp" or profile[16:20] != b"RGB ":
        return None
    return profile[: int.from_bytes(profile[:4])]


def profiled(
    image: Image.Image, source: bytes | None, wanted: IccProfile | None
) -> tuple[Image.Image, bytes | None]:
    """The image in the colours that are wanted, and the profile to embed.

    Without a wish, colours stay, and the object's own profile goes with them. What has none counts as sRGB,
    as everybody's browser takes it.
    """
    if wanted is IccProfile.NO:
        return image, None
    if wanted is None:
        return image, source if image.mode == "RGB" else None
    image = image if image.mode == "RGB" else image.convert("RGB")
    if wanted is IccProfile.YES:
        return image, source or profile_of(IccProfile.SRGB)
    target = profile_of(wanted)
    if source is None and wanted is IccProfile.SRGB:
        return image, target
    try:
        converted = ImageCms.profileToProfile(
            image,
            BytesIO(source or profile_of(IccProfile.SRGB)),
            BytesIO(target),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError):
        # The object's profile cannot be used: its colours are taken for sRGB.
        return profiled(image, None, wanted) if source is not None else (image, target)
    assert converted is not None
    return converted, target


@cache
def profile_of(name: IccProfile) -> bytes:
    """The profile's bytes."""
    if name in _SPACES:
        return _matrix_profile(*_SPACES[name])
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _matrix_profile(description: str, primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """A display profile of three primaries and a power curve (ICC.1:2001-04 §6.3.1.2)."""
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + b"\0\0"
    words = description.encode("ascii") + b"\0"
    named = struct.pack(">4sII", b"desc", 0, len(words)) + words + bytes(8 + 3 + 67)
    entries = {
        b"desc": named,
        b"cprt": b"text" + bytes(4) + b"No copyright, use freely\0",
        b"wtpt": _xyz(_D50),
        b"rXYZ": _xyz(primaries[0]),
        b"gXYZ": _xyz(primaries[1]),
        b"bXYZ": _xyz(primaries[2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    offset = _HEADER_BYTES + 4 + 12 * len(entries)
    table, body = struct.pack(">I", len(entries)), b""
    for signature, content in entries.items():
        table += struct.pack(">4sII", signature, offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = offset + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp").ljust(_HEADER_BYTES - len(head) - 60, b"\0")
    illuminant = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    head = head.ljust(68, b"\0")[:68] + illuminant
    return head.ljust(_HEADER_BYTES, b"\0") + table + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(value * 65536) for value in values))
