"""Element headers as PS3.5 §7.1 lays them out, in the four mixtures of byte order and VR.

Real files break the rules in a few well-known ways; :func:`odd_header` reads those.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from mmap import mmap
from typing import Literal

from isocenter.dicom.scan_limits import MALFORMED, ScanError
from isocenter.dicom.value_representations import LONG_VR_BY_WORD, SHORT_VR_BY_WORD

Buffer = bytes | bytearray | memoryview | mmap

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITER = 0xFFFEE00D
SEQUENCE_DELIMITER = 0xFFFEE0DD


@dataclass(frozen=True, slots=True)
class Encoding:
    """VR explicitness and byte order, with the tools that follow from the byte order.

    ``short``: group, element, VR word, 16-bit length. ``wide``: group, element, 32-bit length.
    ``long``: a 32-bit length alone. ``keyed_short`` and ``keyed_wide`` take group and element as one word,
    the key, which is quicker (in little endian the element is its upper half). The dicts name a VR by its
    word.
    """

    implicit_vr: bool
    big_endian: bool
    short: struct.Struct = field(init=False, compare=False, repr=False)
    wide: struct.Struct = field(init=False, compare=False, repr=False)
    long: struct.Struct = field(init=False, compare=False, repr=False)
    keyed_short: struct.Struct = field(init=False, compare=False, repr=False)
    keyed_wide: struct.Struct = field(init=False, compare=False, repr=False)
    short_vrs: dict[int, str] = field(init=False, compare=False, repr=False)
    long_vrs: dict[int, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        mark = ">" if self.big_endian else "<"
        order: Literal["big", "little"] = "big" if self.big_endian else "little"
        object.__setattr__(self, "short", struct.Struct(f"{mark}HHHH"))
        object.__setattr__(self, "wide", struct.Struct(f"{mark}HHI"))
        object.__setattr__(self, "long", struct.Struct(f"{mark}I"))
        object.__setattr__(self, "keyed_short", struct.Struct(f"{mark}IHH"))
        object.__setattr__(self, "keyed_wide", struct.Struct(f"{mark}II"))
        object.__setattr__(self, "short_vrs", SHORT_VR_BY_WORD[order])
        object.__setattr__(self, "long_vrs", LONG_VR_BY_WORD[order])

    def key_of(self, tag: int) -> int:
        """How ``keyed_short`` and ``keyed_wide`` read that tag."""
        return tag if self.big_endian else (tag & 0xFFFF) << 16 | tag >> 16

    tag_of = key_of  # swapping the halves undoes itself

    @property
    def group_mask(self) -> int:
        """The bits of a key that are the group."""
        return 0xFFFF0000 if self.big_endian else 0xFFFF


ENCODINGS = {
    (implicit_vr, big_endian): Encoding(implicit_vr, big_endian)
    for implicit_vr in (False, True)
    for big_endian in (False, True)
}
EXPLICIT_LITTLE = ENCODINGS[False, False]
IMPLICIT_LITTLE = ENCODINGS[True, False]


def odd_header(data: Buffer, pos: int, end: int, encoding: Encoding) -> tuple[str, int, int]:
    """VR (empty where it tells nothing), value offset and length of an explicit header with an unknown VR.

    Met in real files: item tags where none belong, VRs of a newer standard, ``??`` or blanks for the VR,
    and single elements written without VR. Which one it is, the element that follows decides.
    """
    group, number, length = encoding.wide.unpack_from(data, pos)
    tag: int = group << 16 | number
    if group == 0xFFFE:
        return "", pos + 8, length
    vr = bytes(data[pos + 4 : pos + 6])
    without_vr = ("", pos + 8, length)
    with_short_length = ("", pos + 8, encoding.short.unpack_from(data, pos)[3])
    candidates = [without_vr, with_short_length]
    if vr.isalpha() and vr.isupper():
        candidates = [with_short_length, without_vr]
        if with_short_length[2] == 0 and pos + 12 <= end:
            # PS3.5 §7.1.2: VRs yet to come have two reserved bytes and a 32-bit length.
            candidates.insert(0, (vr.decode("ascii"), pos + 12, encoding.long.unpack_from(data, pos + 8)[0]))
    elif vr.isascii() and vr.decode("ascii").isprintable():
        candidates.reverse()
    for candidate in candidates:
        if _is_boundary(data, candidate[1] + candidate[2], end, encoding, tag):
            return candidate
    raise ScanError(MALFORMED, "Unknown value representation", offset=pos, tag=tag)


def _is_boundary(data: Buffer, pos: int, end: int, encoding: Encoding, after_tag: int) -> bool:
    """Whether an element with a tag above ``after_tag`` (or nothing but the end) is at ``pos``."""
    if pos + 8 > end:
        return pos == end
    group, number, _ = encoding.wide.unpack_from(data, pos)
    return bool(group << 16 | number > after_tag)
