"""Lookup tables as DICOM stores them (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5, C.7.9.2): descriptor, data,
segments.

A table whose descriptor lies about its data is used as far as its data reach; one that cannot be read is
absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isocenter.imaging.rendering.attributes import Attributes

LUT_DESCRIPTOR = 0x00283002
LUT_DATA = 0x00283006

_ENTRIES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class LookupTable:
    """``entries`` are 16-bit little-endian words; input ``first`` and below give the first of them, what is
    beyond the last gives the last. ``bits`` is how many the output has. Hashable, so that what is made of it
    can be kept."""

    first: int
    bits: int
    entries: bytes

    def outputs(self) -> NDArray[np.uint16]:
        return np.frombuffer(self.entries, "<u2")

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Fractions are cut off, as for an index."""
        outputs = self.outputs()
        position = np.clip(np.nan_to_num(values - self.first), 0, len(outputs) - 1)
        taken: NDArray[np.uint16] = outputs[position.astype(np.intp)]
        return taken


def read_table(item: Attributes, *, signed: bool) -> LookupTable | None:
    """An item of Modality LUT or VOI LUT Sequence. ``signed``: whether the values that go in may be
    negative."""
    return table_of(item, LUT_DESCRIPTOR, LUT_DATA, signed=signed)


def table_of(
    attributes: Attributes, descriptor_tag: int, data_tag: int, *, signed: bool
) -> LookupTable | None:
    """The table that those two attributes make; None where there is none that could be used."""
    descriptor = read_descriptor(attributes, descriptor_tag, signed=signed)
    data = attributes.raw(data_tag)
    if descriptor is None or not data:
        return None
    entries, first, bits = descriptor
    # 8-bit entries stand one a byte in OW (PS3.3 C.7.9.2 knows both), or one a word; the length tells.
    if bits <= 8 and entries <= len(data) < 2 * entries:
        words = np.frombuffer(data, np.uint8)[:entries].astype("<u2")
    else:
        words = np.frombuffer(data, "<u2", len(data) // 2)[:entries]
    return made(words, first, bits)


def read_descriptor(attributes: Attributes, tag: int, *, signed: bool) -> tuple[int, int, int] | None:
    """Number of entries, first input, bits of an entry."""
    raw = attributes.raw(tag)
    if len(raw) < 6:
        return None
    entries, first, bits = (int(word) for word in np.frombuffer(raw, "<u2", 3))
    if first > 0x7FFF and (signed or attributes.vr(tag) == "SS"):
        first -= 0x10000
    return entries or _ENTRIES_MAX, first, bits if 1 <= bits <= 16 else 16


def made(words: NDArray[Any], first: int, bits: int) -> LookupTable | None:
    if not len(words):
        return None
    # Some writers say 8 and mean 12; what the entries need outranks that.
    needed = int(words.max()).bit_length()
    return LookupTable(first, max(bits, needed, 1), words.astype("<u2").tobytes())


def segmented_table(
    attributes: Attributes, descriptor_tag: int, data_tag: int, *, signed: bool
) -> LookupTable | None:
    """A table given as segments (PS3.3 C.7.9.2.2)."""
    descriptor = read_descriptor(attributes, descriptor_tag, signed=signed)
    data = attributes.raw(data_tag)
    if descriptor is None or not data:
        return None
    entries, first, bits = descriptor
    words = np.frombuffer(data, np.uint8 if bits <= 8 else "<u2", len(data) // (1 if bits <= 8 else 2))
    expanded = _expanded([int(word) for word in words[: 4 * _ENTRIES_MAX]], entries, wide=bits > 8)
    return made(np.array(expanded, np.uint16), first, bits)


def _expanded(words: list[int], entries: int, *, wide: bool) -> list[int]:
    """Discrete, linear and indirect segments; stops at the first that makes no sense, and when full."""
    out: list[int] = []
    starts: list[int] = []
    position = 0
    while position + 1 < len(words) and len(out) < entries:
        starts.append(position)
        position = _segment(words, position, out, entries)
        if position < 0 and (position := _indirect(words, starts, out, entries, wide=wide)) < 0:
            break
    return out[:entries]


def _segment(words: list[int], position: int, out: list[int], entries: int) -> int:
    """Append one discrete or linear segment; where the next one begins, or -1 where it is neither."""
    kind, length = words[position], words[position + 1]
    if kind == 0 and length:
        out += words[position + 2 : position + 2 + min(length, entries)]
        return position + 2 + length
    if kind == 1 and length and out and position + 2 < len(words):
        start, end = out[-1], words[position + 2]
        out += [start + round((end - start) * step / length) for step in range(1, min(length, entries) + 1)]
        return position + 3
    return -1


def _indirect(words: list[int], starts: list[int], out: list[int], entries: int, *, wide: bool) -> int:
    """``2, number of segments, offset (least significant first) of the first of them`` is gone through once
    more; -1 where it makes no sense. A repeated segment is never itself an indirect one."""
    position = starts[-1]
    offset_words = 2 if wide else 4
    offset = words[position + 2 : position + 2 + offset_words]
    if words[position] != 2 or len(offset) < offset_words:
        return -1
    again = sum(word << (16 if wide else 8) * place for place, word in enumerate(offset))
    # The offset counts bytes from the beginning of the data.
    again //= 2 if wide else 1
    if again not in starts[:-1]:
        return -1
    for _ in range(min(words[position + 1], len(starts))):
        if again + 1 >= len(words) or len(out) >= entries:
            break
        again = _segment(words, again, out, entries)
        if again < 0:
            return -1
    return position + 2 + offset_words
