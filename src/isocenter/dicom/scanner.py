"""The header scanner: finds wanted attributes in DICOM bytes and decodes nothing else.

Values come as they are stored, in little-endian order; text, dates and numbers are other modules' work.
Never recursive; bounded by :class:`ScanLimits` in depth, size and steps, so that hostile bytes end in a
:class:`ScanError`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from mmap import mmap

from isocenter.dicom.encoding import Buffer, Encoding
from isocenter.dicom.header_walk import HeaderWalk
from isocenter.dicom.inflate import Inflater
from isocenter.dicom.opening import Opening, open_data_set, settle
from isocenter.dicom.scan_limits import DEFAULT_LIMITS, TRUNCATED, ScanError, ScanLimits
from isocenter.dicom.scan_model import OFFSET_TABLE_TAGS, PixelData, RawElement, Wanted
from isocenter.dicom.tags import EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS
from isocenter.dicom.value_representations import swap_bytes

__all__ = ["DEFAULT_LIMITS", "PixelData", "RawElement", "Scan", "ScanError", "ScanLimits", "Wanted", "scan"]

_FIRST_INFLATED_BYTES = 1 << 16
_HEAD_BYTES = 1 << 15


@dataclass(slots=True)
class Scan:
    """What a scan found.

    ``header_size``: bytes before the data set. ``file_meta``: group 2, raw values. ``transfer_syntax_uid``
    as declared (guessed where nothing declares it), while ``implicit_vr`` and ``big_endian`` say how the
    data set is really encoded; ``disguised`` when the two differ.
    """

    transfer_syntax_uid: str
    header_size: int
    file_meta: dict[int, bytes]
    elements: dict[int, RawElement]
    pixel_data: PixelData | None
    implicit_vr: bool
    big_endian: bool
    deflated: bool
    disguised: bool


def scan(
    data: Buffer,
    wanted: Wanted,
    *,
    transfer_syntax_uid: str | None = None,
    limits: ScanLimits = DEFAULT_LIMITS,
) -> Scan:
    """Find ``wanted`` in a DICOM file (PS3.10; preamble and file meta information may be missing), or in
    the bare data set that ``transfer_syntax_uid`` describes (PS3.7 §9.3.1).

    Values are copied, so ``data`` may change afterwards. The extent of wanted Pixel Data is checked against
    ``data``. Raises :class:`ScanError`.
    """
    opening = open_data_set(data, transfer_syntax_uid, limits)
    if opening.deflated:
        found, pixel_data, encoding = _scan_deflated(data, opening, wanted, limits)
    else:
        encoding = opening.encoding
        found, pixel_data = _scan_plain(data, opening, wanted, limits)
    if encoding.big_endian:
        found = {
            tag: raw if raw.vr == "SQ" else RawElement(raw.vr, swap_bytes(raw.value, raw.vr))
            for tag, raw in found.items()
        }
    if wanted.pixel_tags:
        pixel_data = _with_extended_offsets(found, pixel_data, wanted)
    return Scan(
        opening.transfer_syntax_uid,
        opening.header_size,
        opening.file_meta,
        found,
        pixel_data,
        encoding.implicit_vr,
        encoding.big_endian,
        opening.deflated,
        opening.disguised,
    )


def _scan_plain(
    data: Buffer, opening: Opening, wanted: Wanted, limits: ScanLimits
) -> tuple[dict[int, RawElement], PixelData | None]:
    """Slices of ``bytes`` cost a third less than those of a view, so the beginning, which mostly holds the
    whole header, is copied first."""
    if not isinstance(data, bytes | mmap) and len(data) > _HEAD_BYTES:
        head = bytes(data[:_HEAD_BYTES])
        try:
            walk = HeaderWalk(head, opening.encoding, wanted, limits, more_may_follow=True)
            found, pixel_data = walk.run(opening.header_size)
        except ScanError:
            pass  # it may be longer; what is wrong with it, the whole tells
        else:
            if pixel_data is not None and pixel_data.offset + pixel_data.length <= len(data):
                return found, pixel_data
    return HeaderWalk(data, opening.encoding, wanted, limits).run(opening.header_size)


def _scan_deflated(
    data: Buffer, opening: Opening, wanted: Wanted, limits: ScanLimits
) -> tuple[dict[int, RawElement], PixelData | None, Encoding]:
    """Inflate as much as the wanted values need, then count the bytes of Pixel Data without keeping them."""
    inflater = Inflater(data, opening.header_size, limits)
    size = _FIRST_INFLATED_BYTES
    while True:
        inflater.grow(size)
        try:
            found, pixel_data, encoding = _walk_inflated(inflater, opening, wanted, limits)
        except ScanError as error:
            if error.code != TRUNCATED or inflater.finished:
                raise
            size = max(2 * size, error.needed_bytes)
        else:
            break
    if pixel_data is not None:
        end = pixel_data.offset + pixel_data.length
        if end > len(inflater.content) and not inflater.skip_to(end):
            raise ScanError(TRUNCATED, "Pixel Data ends early", offset=len(data), tag=pixel_data.tag)
    return found, pixel_data, encoding


def _walk_inflated(
    inflater: Inflater, opening: Opening, wanted: Wanted, limits: ScanLimits
) -> tuple[dict[int, RawElement], PixelData | None, Encoding]:
    """Without a copy of what may be a bomb; every view of it is gone before it grows again."""
    header = memoryview(inflater.content)
    encoding = settle(header, 0, opening.encoding)
    walk = HeaderWalk(header, encoding, wanted, limits, more_may_follow=not inflater.complete)
    return *walk.run(0), encoding


def _with_extended_offsets(
    found: dict[int, RawElement], pixel_data: PixelData | None, wanted: Wanted
) -> PixelData | None:
    """Hand the Extended Offset Table (PS3.3 C.7.6.3.1.8), asked for or not, to the Pixel Data."""
    tables = {tag: found[tag].value for tag in OFFSET_TABLE_TAGS if tag in found}
    for tag in tables:
        if tag not in wanted.tags:
            del found[tag]
    if pixel_data is None or not tables:
        return pixel_data
    return replace(
        pixel_data,
        extended_offset_table=_words(tables.get(EXTENDED_OFFSET_TABLE)),
        extended_offset_table_lengths=_words(tables.get(EXTENDED_OFFSET_TABLE_LENGTHS)),
    )


def _words(value: bytes | None) -> array[int] | None:
    return None if value is None else array("Q", value[: len(value) // 8 * 8])
