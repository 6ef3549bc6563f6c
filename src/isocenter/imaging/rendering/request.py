"""What is asked of a renderer, and what it is given. Loads neither numpy nor Pillow: the server makes these,
a worker process uses them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

JPEG = "image/jpeg"
PNG = "image/png"
GIF = "image/gif"
JPEG_2000 = "image/jp2"
MP4 = "video/mp4"
HTML = "text/html"
PLAIN = "text/plain"

REVISION = "1"
"""Changes when the same request over the same object gives another picture: part of every ETag."""


class Annotation(StrEnum):
    """The values of the parameter ``annotation`` (PS3.18 §8.3.5.1.1)."""

    PATIENT = "patient"
    TECHNIQUE = "technique"


class IccProfile(StrEnum):
    """The values of the parameter ``iccprofile`` (PS3.18 §8.3.5.1.5)."""

    NO = "no"
    YES = "yes"
    SRGB = "srgb"
    ADOBE_RGB = "adobergb"
    ROMM_RGB = "rommrgb"


class WindowFunction(StrEnum):
    """VOI LUT Function (0028,1056), PS3.3 C.11.2.1.3."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """In units of the modality LUT's output; ``width`` is 1 or more for LINEAR, above 0 for the others."""

    center: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR

    @property
    def usable(self) -> bool:
        return self.width >= 1 if self.function is WindowFunction.LINEAR else self.width > 0


@dataclass(frozen=True, slots=True)
class Viewport:
    """``width`` and ``height`` of what is returned at most, in pixels. The region counts in columns and rows
    of the source, or where ``relative`` in parts of its width and height; a negative ``region_width`` or
    ``region_height`` mirrors. None: up to the image's edge."""

    width: int | None = None
    height: int | None = None
    left: float = 0.0
    top: float = 0.0
    region_width: float | None = None
    region_height: float | None = None
    relative: bool = False


@dataclass(frozen=True, slots=True)
class PresentationState:
    """A Softcopy Presentation State: its whole data set, which ``name`` stands for."""

    name: str
    data_set: bytes = field(repr=False)
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """What is asked for. ``fonts``: files for texts, the preferred one first. With ``presentation``, neither
    ``window`` nor a region of the viewport."""

    media_type: str = JPEG
    viewport: Viewport | None = None
    window: Window | None = None
    quality: int | None = None
    annotations: tuple[Annotation, ...] = ()
    icc_profile: IccProfile | None = None
    fonts: tuple[str, ...] = ()
    presentation: PresentationState | None = None


@dataclass(frozen=True, slots=True)
class FrameSource:
    """``header``: the data set up to the value of Pixel Data. ``encoded``: the frame as `decode_frame` takes
    it, its first pixel at ``first_bit``. ``frame`` counts from 0."""

    header: bytes
    transfer_syntax_uid: str
    encoded: bytes
    frame: int = 0
    first_bit: int = 0
