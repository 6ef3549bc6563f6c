"""A DICOM file out of metadata and bulk data that came apart (PS3.18 §8.6.1.2): in pieces, so that what is
large stays where it is until it is its turn.

Always Explicit VR Little Endian, or an encapsulated transfer syntax, which is encoded so too (PS3.5 A.4).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from isocenter.dicom.dataset_writer import DatasetWriter
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.encoding import EXPLICIT_LITTLE, ITEM, SEQUENCE_DELIMITER, UNDEFINED_LENGTH
from isocenter.dicom.part10 import encode_file_meta
from isocenter.dicom.tags import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    PIXEL_DATA,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
)
from isocenter.dicom.uids import uid_problem
from isocenter.kit.errors import InvalidInput, TooLarge

Piece = bytes | BulkRange
"""Bytes of the file, or a range of the buffer that the bulk data lies in."""

_DEPTH_MAX = 64
_FRAGMENT_BYTES_MAX = UNDEFINED_LENGTH - 1
_ITEM_HEADER_BYTES = 8


@dataclass(frozen=True, slots=True)
class PixelParts:
    """Pixel Data that came in several ranges: frames, if ``encapsulated``, else what follows one another.
    ``offsets`` says whether a table of them is wanted (video has none, PS3.5 A.4)."""

    ranges: Sequence[BulkRange]
    encapsulated: bool
    offsets: bool = True


def compose_file(
    elements: Sequence[Element], transfer_syntax_uid: str, pixels: PixelParts | None = None
) -> list[Piece]:
    """The DICOM file (PS3.10 §7) of a data set; ``pixels`` instead of the value of its Pixel Data.

    Group lengths are left out. Raises InvalidInput for sequences nested too deeply, TooLarge for a value that
    no data element can hold.
    """
    by_tag = {element.tag: element for element in elements}
    meta = encode_file_meta(
        sop_class_uid=_uid(by_tag.get(SOP_CLASS_UID)),
        sop_instance_uid=_uid(by_tag.get(SOP_INSTANCE_UID)),
        transfer_syntax_uid=transfer_syntax_uid,
    )
    composer = _Composer()
    if pixels is None:
        return _joined([meta, *composer.data_set(elements, 0)])
    if pixels.encapsulated:
        extended = EXTENDED_OFFSET_TABLE in by_tag
        tables = {EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS}
        elements = [element for element in elements if element.tag not in tables]
        table, content = _encapsulated(pixels, extended=extended)
        elements = [*elements, *table]
    else:
        content = _native(by_tag[PIXEL_DATA].vr, pixels.ranges)
    before = [element for element in elements if element.tag < PIXEL_DATA]
    after = [element for element in elements if element.tag > PIXEL_DATA]
    return _joined([meta, *composer.data_set(before, 0), *content, *composer.data_set(after, 0)])


class _Composer:
    def __init__(self) -> None:
        self._writer = DatasetWriter(EXPLICIT_LITTLE)

    def data_set(self, elements: Sequence[Element], depth: int) -> list[Piece]:
        """Runs of elements without bulk data are written at once."""
        if depth > _DEPTH_MAX:
            raise InvalidInput(
                f"Sequences are nested deeper than {_DEPTH_MAX}",
                code="too-deep",
                remedy="Nest fewer sequences; no real object needs as many.",
            )
        pieces: list[Piece] = []
        small: list[Element] = []
        for element in sorted(elements, key=lambda one: one.tag):
            if not _holds_bulk(element):
                small.append(element)
                continue
            pieces.append(self._writer.write(small, depth))
            small = []
            pieces += self._large(element, depth)
        pieces.append(self._writer.write(small, depth))
        return pieces

    def _large(self, element: Element, depth: int) -> list[Piece]:
        value = element.value
        if isinstance(value, BulkRange):
            padding = value.length % 2
            header = self._writer.header(element.tag, element.vr, value.length + padding)
            return [header, value, _padding(element.vr) * padding]
        assert isinstance(value, list)
        items: list[Piece] = []
        for item in value:
            content = self.data_set(item, depth + 1)
            items += [_item_header(_length(content)), *content]
        return [self._writer.header(element.tag, "SQ", _length(items)), *items]


def _native(vr: str, ranges: Sequence[BulkRange]) -> list[Piece]:
    length = sum(one.length for one in ranges)
    vr = vr if vr in {"OB", "OW"} else "OW"  # PS3.5 A.2
    header = DatasetWriter(EXPLICIT_LITTLE).header(PIXEL_DATA, vr, length + length % 2)
    return [header, *ranges, b"\0" * (length % 2)]


def _encapsulated(pixels: PixelParts, *, extended: bool) -> tuple[list[Element], list[Piece]]:
    """The elements of an Extended Offset Table, where the frames lie too far apart for a basic one or the
    object had one, and Pixel Data: an item a frame (PS3.5 A.4)."""
    offsets, lengths, position = [], [], 0
    items: list[Piece] = []
    for frame in pixels.ranges:
        length = frame.length + frame.length % 2
        if length > _FRAGMENT_BYTES_MAX:
            raise TooLarge("A frame of 4 GiB or more fits no fragment", code="value-too-long")
        offsets.append(position)
        lengths.append(length)
        position += _ITEM_HEADER_BYTES + length
        items += [_item_header(length), frame, b"\0" * (frame.length % 2)]
    extended = pixels.offsets and (extended or offsets[-1] > UNDEFINED_LENGTH)
    table: list[Element] = []
    basic = b""
    if extended:
        count = len(offsets)
        table = [
            Element(EXTENDED_OFFSET_TABLE, "OV", struct.pack(f"<{count}Q", *offsets)),
            Element(EXTENDED_OFFSET_TABLE_LENGTHS, "OV", struct.pack(f"<{count}Q", *lengths)),
        ]
    elif pixels.offsets:
        basic = struct.pack(f"<{len(offsets)}I", *offsets)
    header = DatasetWriter(EXPLICIT_LITTLE).header(PIXEL_DATA, "OB", UNDEFINED_LENGTH)
    end = EXPLICIT_LITTLE.wide.pack(SEQUENCE_DELIMITER >> 16, SEQUENCE_DELIMITER & 0xFFFF, 0)
    return table, [header, _item_header(len(basic)), basic, *items, end]


def _holds_bulk(element: Element) -> bool:
    """Whether a range is in it. `json_dataset.NESTING_MAX` bounds the recursion."""
    if isinstance(element.value, list):
        return any(_holds_bulk(one) for item in element.value for one in item)
    return isinstance(element.value, BulkRange)


def _length(pieces: Sequence[Piece]) -> int:
    return sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)


def _item_header(length: int) -> bytes:
    if length > _FRAGMENT_BYTES_MAX:
        raise TooLarge("A value of 4 GiB or more fits no data element", code="value-too-long")
    return EXPLICIT_LITTLE.wide.pack(ITEM >> 16, ITEM & 0xFFFF, length)


def _padding(vr: str) -> bytes:
    return b" " if vr in {"LT", "ST", "UC", "UR", "UT", "DS", "IS"} else b"\0"


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Small pieces as one."""
    joined: list[Piece] = []
    waiting: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            waiting.append(piece)
            continue
        if content := b"".join(waiting):
            joined.append(content)
        waiting = []
        joined.append(piece)
    if content := b"".join(waiting):
        joined.append(content)
    return joined


def _uid(element: Element | None) -> str:
    """What is no UID is left out of the header; whoever judges the object says what is wrong with it."""
    if element is None or not isinstance(element.value, bytes):
        return ""
    text = element.value.decode("latin-1").rstrip("\0 ")
    return text if uid_problem(text) is None else ""
