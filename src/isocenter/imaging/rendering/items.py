"""One item of a long sequence without reading the others: an enhanced object has an item for each frame."""

from __future__ import annotations

from isocenter.dicom.dataset import READ_LIMITS, read_items
from isocenter.dicom.element import Element
from isocenter.dicom.encoding import ENCODINGS
from isocenter.dicom.extents import skip_item


def nth_item(content: bytes, number: int, *, implicit_vr: bool) -> list[Element] | None:
    """The elements of item ``number`` (from 0) of a sequence as a scan gives it; None where it has fewer.

    Raises ScanError where the way to it cannot be read.
    """
    encoding = ENCODINGS[implicit_vr, False]
    start = end = 0
    for _ in range(number + 1):
        if end >= len(content):
            return None
        start = end
        end = skip_item(
            content,
            start,
            encoding,
            steps_max=READ_LIMITS.elements_max,
            depth_max=READ_LIMITS.depth_max,
        )
    found = read_items(content[start:end], implicit_vr=implicit_vr)
    return found[0] if found else None
