"""DICOM bytes written by hand for tests: not by the package's own writer, and broken where asked."""

from __future__ import annotations

import struct

UNDEFINED = 0xFFFFFFFF
LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


def element(
    tag: int, vr: str, value: bytes, *, length: int | None = None, implicit: bool = False, big: bool = False
) -> bytes:
    mark = ">" if big else "<"
    length = len(value) if length is None else length
    head = struct.pack(f"{mark}HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(f"{mark}I", length) + value
    if vr in LONG_VRS:
        return head + vr.encode() + b"\0\0" + struct.pack(f"{mark}I", length) + value
    return head + vr.encode() + struct.pack(f"{mark}H", length) + value


def item(content: bytes, *, undefined: bool = False, big: bool = False) -> bytes:
    mark = ">" if big else "<"
    head = struct.pack(f"{mark}HHI", 0xFFFE, 0xE000, UNDEFINED if undefined else len(content))
    return head + content + (struct.pack(f"{mark}HHI", 0xFFFE, 0xE00D, 0) if undefined else b"")


def sequence(
    tag: int,
    *items: bytes,
    undefined: bool = False,
    implicit: bool = False,
    big: bool = False,
    vr: str = "SQ",
) -> bytes:
    content = b"".join(items)
    if not undefined:
        return element(tag, vr, content, implicit=implicit, big=big)
    delimiter = struct.pack(f"{'>' if big else '<'}HHI", 0xFFFE, 0xE0DD, 0)
    return element(tag, vr, content + delimiter, length=UNDEFINED, implicit=implicit, big=big)


def file_meta(
    transfer_syntax_uid: str, *, group_length: int | None = None, with_length: bool = True
) -> bytes:
    group = element(0x00020001, "OB", b"\0\1") + element(0x00020010, "UI", even(transfer_syntax_uid, "\0"))
    length = struct.pack("<I", len(group) if group_length is None else group_length)
    return (element(0x00020000, "UL", length) if with_length else b"") + group


def part10(transfer_syntax_uid: str, data_set: bytes) -> bytes:
    return bytes(128) + b"DICM" + file_meta(transfer_syntax_uid) + data_set


def even(text: str, pad: str = " ") -> bytes:
    return (text + pad * (len(text) % 2)).encode("ascii")
