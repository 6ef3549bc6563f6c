"""What a header scan looks for and what it finds."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from isocenter.dicom.dictionary import vr_of
from isocenter.dicom.encoding import ENCODINGS, Encoding
from isocenter.dicom.tags import (
    DOUBLE_FLOAT_PIXEL_DATA,
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    FLOAT_PIXEL_DATA,
    PIXEL_DATA,
)

PIXEL_TAGS = frozenset((FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA, PIXEL_DATA))
OFFSET_TABLE_TAGS = frozenset((EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS))


class Wanted:
    """The tags that a scan looks for; make it once, use it for any number of scans.

    The scan stops at the first tag above all of these.
    """

    def __init__(self, tags: Iterable[int]) -> None:
        self.tags = frozenset(tags)
        if not self.tags:
            raise ValueError("nothing is wanted")
        self.last = max(self.tags)
        self.pixel_tags = self.tags & PIXEL_TAGS
        self.looked_for = self.tags | OFFSET_TABLE_TAGS if self.pixel_tags else self.tags
        self._by_key = {
            big_endian: {ENCODINGS[False, big_endian].key_of(tag): tag for tag in self.looked_for}
            for big_endian in (False, True)
        }

    def by_key(self, encoding: Encoding) -> dict[int, int]:
        """The tags looked for, by what ``encoding``'s keyed headers begin with."""
        return self._by_key[encoding.big_endian]

    @cached_property
    def vrs(self) -> dict[int, str]:
        """The dictionary's VR of each tag, for data sets that do not tell."""
        return {tag: vr_of(tag) for tag in self.looked_for}


class RawElement(NamedTuple):
    """``value`` is little endian, padding included. For ``SQ`` it is the items as stored, without a
    Sequence Delimitation Item, little endian and explicit or implicit as the scan's ``implicit_vr`` says."""

    vr: str
    value: bytes


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where Pixel Data lies: ``offset`` and ``length`` in bytes of the buffer that was scanned
    (of the inflated data set, where that was deflated).

    ``encapsulated``: the range spans all items from the Basic Offset Table on, without the Sequence
    Delimitation Item; ``fragment_offsets`` and ``fragment_lengths`` are the fragments' bytes;
    ``basic_offset_table`` counts from the item tag of the first fragment (PS3.5 A.4).
    ``extended_offset_table`` and ``extended_offset_table_lengths`` are (7FE0,0001) and (7FE0,0002).
    """

    tag: int
    vr: str
    offset: int
    length: int
    encapsulated: bool = False
    fragment_offsets: array[int] = field(default_factory=lambda: array("Q"))
    fragment_lengths: array[int] = field(default_factory=lambda: array("Q"))
    basic_offset_table: array[int] = field(default_factory=lambda: array("Q"))
    extended_offset_table: array[int] | None = None
    extended_offset_table_lengths: array[int] | None = None

    @property
    def fragments(self) -> list[tuple[int, int]]:
        """Offset and length of each fragment."""
        return list(zip(self.fragment_offsets, self.fragment_lengths, strict=True))
