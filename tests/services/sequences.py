"""Sequences of items as bytes (explicit VR little endian), for the images of ``services.archive``."""

from __future__ import annotations

import struct

from services.archive import element


def items(*contents: bytes) -> bytes:
    """The value of a sequence with these items (PS3.5 §7.5)."""
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content for content in contents)


def code(value: str, scheme: str = "SCT", meaning: str = "", tag: int = 0) -> bytes:
    """An item of a code sequence (PS3.3 §8.8); with ``tag`` the whole sequence of that one item."""
    content = element(0x00080100, "SH", value) + element(0x00080102, "SH", scheme)
    content += element(0x00080104, "LO", meaning) if meaning else b""
    return element(tag, "SQ", items(content)) if tag else content


def request(step: str, procedure: str, *more: bytes) -> bytes:
    """An item of Request Attributes Sequence (0040,0275); ``more``: elements after (0040,1001)."""
    return (
        b"".join(one for one in more if one[:2] == b"\x32\0")
        + element(0x00400007, "LO", f"Description of {step}")
        + element(0x00400009, "SH", step)
        + element(0x00401001, "SH", procedure)
        + b"".join(one for one in more if one[:2] != b"\x32\0")
    )
