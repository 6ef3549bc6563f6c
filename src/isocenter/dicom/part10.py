"""The DICOM file format (PS3.10 §7): preamble, prefix and file meta information."""

from __future__ import annotations

import struct

PREAMBLE = bytes(128)
PREFIX = b"DICM"
DATA_SET_OFFSET_MIN = len(PREAMBLE) + len(PREFIX)

# 2.25 followed by a UUID that was made once for Isocenter (PS3.5 §B.2, PS3.7 §D.3.3.2).
IMPLEMENTATION_CLASS_UID = "2.25.94594558589637100711920108834582526376"
IMPLEMENTATION_VERSION_NAME = "ISOCENTER_010"

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_FILE_META_VERSION = _LONG.pack(0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"


def is_part10(data: bytes | bytearray | memoryview) -> bool:
    """Whether ``data`` starts with a preamble and the prefix ``DICM``."""
    return bytes(data[128:132]) == PREFIX


def encode_file_meta(
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
    source_ae_title: str | None = None,
) -> bytes:
    """Everything of a DICOM file before its data set: preamble, ``DICM`` and group 2 with its length.

    Values are written as given, padded to even length; ``ValueError`` for one that is not ASCII.
    """
    elements = [
        _FILE_META_VERSION,
        _element(0x0002, b"UI", sop_class_uid, b"\0"),
        _element(0x0003, b"UI", sop_instance_uid, b"\0"),
        _element(0x0010, b"UI", transfer_syntax_uid, b"\0"),
        _element(0x0012, b"UI", implementation_class_uid, b"\0"),
    ]
    if implementation_version_name:
        elements.append(_element(0x0013, b"SH", implementation_version_name, b" "))
    if source_ae_title:
        elements.append(_element(0x0016, b"AE", source_ae_title, b" "))
    group = b"".join(elements)
    group_length = _SHORT.pack(0x0002, 0x0000, b"UL", 4) + struct.pack("<I", len(group))
    return b"".join((PREAMBLE, PREFIX, group_length, group))


def _element(number: int, vr: bytes, text: str, pad: bytes) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += pad
    return _SHORT.pack(0x0002, number, vr, len(value)) + value
