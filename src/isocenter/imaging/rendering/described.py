"""What an object's header says, as far as rendering cares. Loads neither numpy nor Pillow, for the server."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.dicom.element import Element
from isocenter.dicom.scanner import ScanError, scan
from isocenter.dicom.tags import FLOAT_PIXEL_DATA
from isocenter.imaging.errors import PixelDataBroken
from isocenter.imaging.pixel_description import PixelDescription
from isocenter.imaging.rendering import tags
from isocenter.imaging.rendering.attributes import Attributes

_FLOAT_TAGS = (b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
_FLOAT_HEADERS = frozenset((*_FLOAT_TAGS, _FLOAT_TAGS[0] + b"OF", _FLOAT_TAGS[1] + b"OD"))


@dataclass(frozen=True, slots=True)
class Described:
    """What the header says."""

    attributes: Attributes
    pixels: PixelDescription


def describe(header: bytes, transfer_syntax_uid: str) -> Described:
    """``header``: up to the value of Pixel Data. Raises PixelDataBroken, PixelDataUnsupported."""
    try:
        found = scan(header, tags.WANTED, transfer_syntax_uid=transfer_syntax_uid)
    except ScanError as error:
        raise PixelDataBroken("its header cannot be read") from error
    attributes = Attributes.of_scan(found.elements, implicit_vr=found.implicit_vr)
    elements = attributes.elements()
    if _ends_in_floats(header):
        elements.append(Element(FLOAT_PIXEL_DATA, "OF", b""))
    return Described(attributes, PixelDescription.of_elements(elements, transfer_syntax_uid))


def _ends_in_floats(header: bytes) -> bool:
    """Whether Float or Double Float Pixel Data follows: its own header is what the object's header ends
    in."""
    return any(
        start in _FLOAT_HEADERS
        for start in (header[-12:-8] + header[-8:-6], header[-8:-4])  # explicit VR, implicit VR
    )
