"""From an object's header to what the index holds of it."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

from isocenter.dicom import tags
from isocenter.dicom.charsets import TextDecoder, decoder_for
from isocenter.dicom.dataset import read_items
from isocenter.dicom.element import Element
from isocenter.dicom.json_dataset import dataset_json
from isocenter.dicom.json_model import fragment
from isocenter.dicom.levels import Level
from isocenter.dicom.scanner import RawElement, Scan, Wanted
from isocenter.features.archive.attributes import (
    AT_LEVEL,
    ATTRIBUTES,
    Attribute,
    Folding,
    column_number,
    column_text,
)
from isocenter.features.archive.entry import LevelCache, LevelData, Levels, digest_of
from isocenter.features.archive.indexed_values import Value, name_values, sequence_values
from isocenter.kit.errors import InvalidInput

WANTED = Wanted(
    [
        *ATTRIBUTES,
        tags.SPECIFIC_CHARACTER_SET,
        tags.PIXEL_DATA,
        tags.FLOAT_PIXEL_DATA,
        tags.DOUBLE_FLOAT_PIXEL_DATA,
    ]
)
_SHARED = itemgetter(
    *(a.tag for level in (Level.PATIENT, Level.STUDY, Level.SERIES) for a in AT_LEVEL[level]),
    tags.SPECIFIC_CHARACTER_SET,
)
"""What the digest of the levels is made of."""

_NO_COLUMNS: dict[Level, dict[str, str | int | None]] = {
    level: {
        a.column: None if a.folding is Folding.NUMBER else "" for a in AT_LEVEL[level] if a.column is not None
    }
    for level in Level
}
"""The columns of a level whose attributes are all absent."""

VALUE_BYTES_MAX = 64 << 10
"""No attribute of the index is longer in earnest; a longer value stays in the object alone."""


class _Absent(dict[int, RawElement]):
    """A scan's elements, where what is absent is empty."""

    def __missing__(self, tag: int) -> RawElement:
        return _EMPTY


_EMPTY = RawElement("", b"")


@dataclass(frozen=True, slots=True)
class Header:
    """What was read of one object; still to be validated."""

    levels: Levels
    instance: LevelData
    decoder: TextDecoder


class HeaderReader:
    """Turns scans into the index's terms; remembers the levels it has decoded."""

    def __init__(self) -> None:
        self._cache = LevelCache()

    def read(self, scan: Scan) -> Header:
        elements = scan.elements
        charset = elements.get(tags.SPECIFIC_CHARACTER_SET)
        decoder = decoder_for(charset.value if charset else None)
        digest = digest_of([raw.value for raw in _SHARED(_Absent(elements))])
        levels = self._cache.get(digest)
        if levels is None:
            levels = Levels(
                _level(Level.PATIENT, scan, decoder),
                _level(Level.STUDY, scan, decoder),
                _level(Level.SERIES, scan, decoder),
                digest,
            )
            self._cache.keep(levels)
        return Header(levels, _level(Level.INSTANCE, scan, decoder), decoder)


def _level(level: Level, scan: Scan, decoder: TextDecoder) -> LevelData:
    columns = _NO_COLUMNS[level].copy()
    fragments: dict[int, str] = {}
    values: dict[int, list[Value]] = {}
    elements = scan.elements
    for attribute in AT_LEVEL[level]:
        tag = attribute.tag
        raw = elements.get(tag)
        if raw is None or len(raw.value) > VALUE_BYTES_MAX:
            continue
        vr = attribute.vr
        if vr == "SQ":
            items = _items(raw, scan)
            fragments[tag] = dataset_json([Element(tag, "SQ", items)], decoder).decode()[1:-1]
            values[tag] = sequence_values(tag, items, decoder)
        else:
            fragments[tag] = fragment(tag, vr, raw.value, decoder)
            if vr == "PN":
                values[tag] = name_values(tag, decoder.decode_multi(raw.value, vr))
        if attribute.column is not None:
            columns[attribute.column] = _column(attribute, raw, decoder)
    if level is Level.INSTANCE:
        columns["number_of_frames"] = max(1, int(columns["number_of_frames"] or 1))
    return LevelData(columns, fragments, {tag: found for tag, found in values.items() if found})


def _column(attribute: Attribute, raw: RawElement, decoder: TextDecoder) -> str | int | None:
    text = decoder.decode(raw.value, attribute.vr)
    if attribute.folding is Folding.NUMBER:
        return column_number(text)
    return column_text(text, attribute.folding)


def _items(raw: RawElement, scan: Scan) -> list[list[Element]]:
    """A sequence's items; none where they cannot be read."""
    try:
        return read_items(raw.value, implicit_vr=scan.implicit_vr)
    except InvalidInput:
        return []


def frame_offsets(scan: Scan, number_of_frames: int) -> str:
    """Where each compressed frame's first fragment begins, counted from Pixel Data's own offset.

    Numbers separated by blanks; empty where frames are not compressed (arithmetic finds them) or where
    nothing tells which fragments make which frame (PS3.5 A.4).
    """
    pixels = scan.pixel_data
    if pixels is None or not pixels.encapsulated or not pixels.fragment_offsets:
        return ""
    first_item = pixels.fragment_offsets[0] - 8
    if pixels.extended_offset_table is not None and len(pixels.extended_offset_table) == number_of_frames:
        starts = [first_item + offset for offset in pixels.extended_offset_table]
    elif len(pixels.basic_offset_table) == number_of_frames:
        starts = [first_item + offset for offset in pixels.basic_offset_table]
    elif len(pixels.fragment_offsets) == number_of_frames:
        starts = [offset - 8 for offset in pixels.fragment_offsets]
    elif number_of_frames == 1:
        starts = [first_item]
    else:
        return ""
    return " ".join(str(start - pixels.offset) for start in starts)
