"""Sequence content of one encoding as the same items in another."""

from __future__ import annotations

from isocenter.dicom.dataset_reader import DatasetReader
from isocenter.dicom.dataset_writer import DatasetWriter
from isocenter.dicom.encoding import ENCODINGS, Encoding
from isocenter.dicom.scan_limits import ScanLimits


def items_as_little_endian(
    content: bytes, encoding: Encoding, limits: ScanLimits, *, unlabelled: bool
) -> bytes:
    """The items in little endian with the data set's kind of VR. ``unlabelled``: they came with VR UN.

    Raises :class:`~isocenter.dicom.scan_limits.ScanError`.
    """
    reader = DatasetReader(content, limits)
    items = reader.read_items(0, len(content), encoding, unlabelled=unlabelled)
    writer = DatasetWriter(ENCODINGS[encoding.implicit_vr, False], source=content)
    return writer.write_items(items)
