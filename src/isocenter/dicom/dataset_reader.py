"""Reading whole data sets into elements, without recursion (PS3.5 §7)."""

from __future__ import annotations

import struct
from dataclasses import replace

from isocenter.dicom.dictionary import is_ambiguous, vr_of
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.encoding import (
    ITEM,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    odd_header,
)
from isocenter.dicom.extents import item_encoding, walk_fragments
from isocenter.dicom.scan_limits import (
    MALFORMED,
    TOO_DEEP,
    TOO_LARGE_HEADER,
    TRUNCATED,
    ScanError,
    ScanLimits,
)
from isocenter.dicom.scan_model import PIXEL_TAGS
from isocenter.dicom.value_representations import swap_bytes

_PIXEL_REPRESENTATION = 0x00280103
_UNTIL_DELIMITER = -1


class _Frame:
    """An open container: a data set or item (``elements``), or a sequence (``items``)."""

    __slots__ = ("elements", "encoding", "end", "items", "unlabelled")

    def __init__(
        self,
        end: int,
        encoding: Encoding,
        elements: list[Element] | None,
        items: list[list[Element]] | None,
        *,
        unlabelled: bool = False,
    ) -> None:
        self.end = end
        self.encoding = encoding
        self.elements = elements
        self.items = items
        self.unlabelled = unlabelled


class DatasetReader:
    """Reads from ``data``; offsets of ranges count from its beginning.

    ``bulk_threshold_bytes``: longer values become ranges, as Pixel Data of the data set itself always
    does; with ``copy_bulk`` nothing does. ``stop_before_pixel_data`` ends at the first Pixel Data tag.
    """

    def __init__(
        self,
        data: Buffer,
        limits: ScanLimits,
        *,
        bulk_threshold_bytes: int | None = None,
        copy_bulk: bool = False,
        stop_before_pixel_data: bool = False,
    ) -> None:
        self._data = data
        self._limits = limits
        self._bulk_bytes = UNDEFINED_LENGTH if bulk_threshold_bytes is None else bulk_threshold_bytes
        self._copy_bulk = copy_bulk
        self._stop_before_pixel_data = stop_before_pixel_data
        self._steps_left = limits.elements_max
        self._signed = False
        self._stack: list[_Frame] = []

    def read(self, start: int, end: int, encoding: Encoding) -> list[Element]:
        """The elements of the data set between ``start`` and ``end``. Raises :class:`ScanError`."""
        elements: list[Element] = []
        self._run(start, _Frame(end, encoding, elements, None))
        return elements

    def read_items(
        self, start: int, end: int, encoding: Encoding, *, unlabelled: bool = False
    ) -> list[list[Element]]:
        """The items of a sequence's content; ``unlabelled``: it has VR UN. Raises :class:`ScanError`."""
        items: list[list[Element]] = []
        self._run(start, _Frame(end, encoding, None, items, unlabelled=unlabelled))
        return items

    def _run(self, pos: int, outermost: _Frame) -> None:
        self._stack = stack = [outermost]
        end = outermost.end
        try:
            while stack:
                frame = stack[-1]
                if frame.elements is not None:
                    pos = self._read_elements(pos, end, frame, frame.elements)
                else:
                    pos = self._read_item_header(pos, end, frame)
                if pos > end:
                    raise ScanError(TRUNCATED, "The data set ends early", offset=end, needed_bytes=pos)
        except struct.error:
            raise ScanError(TRUNCATED, "The data set ends early", offset=end, needed_bytes=end + 1) from None

    def _read_elements(self, pos: int, end: int, frame: _Frame, elements: list[Element]) -> int:
        """Elements up to the container's end, or the first that is a sequence, which becomes a frame."""
        encoding = frame.encoding
        implicit = encoding.implicit_vr
        stop = end if frame.end == _UNTIL_DELIMITER else frame.end
        at_top = len(self._stack) == 1
        while pos < stop or frame.end == _UNTIL_DELIMITER:
            if at_top and self._is_padding(pos, stop):
                break
            self._count_step(pos)
            tag, vr, value, length = (
                _implicit_header(self._data, pos, encoding)
                if implicit
                else (_explicit_header(self._data, pos, end, encoding))
            )
            if tag >= ITEM and tag >> 16 == 0xFFFE:
                if frame.end != _UNTIL_DELIMITER or tag == ITEM:
                    raise ScanError(MALFORMED, "An item tag is out of place", offset=pos, tag=tag)
                return self._close(tag, pos + 8)
            if at_top and self._stop_before_pixel_data and tag in PIXEL_TAGS:
                break
            unlabelled = vr == "UN" and not implicit
            if not vr:
                vr = self._dictionary_vr(tag)
            if length == UNDEFINED_LENGTH and (vr in ("OB", "OW") or (at_top and tag in PIXEL_TAGS)):
                pos, taken = self._take_fragments(tag, vr, value, encoding)
                elements.append(taken)
                continue
            if vr == "SQ" or length == UNDEFINED_LENGTH:
                items: list[list[Element]] = []
                elements.append(Element(tag, "SQ", items))
                inner_end = _UNTIL_DELIMITER if length == UNDEFINED_LENGTH else value + length
                self._check_inside(inner_end, stop, tag)
                self._push(_Frame(inner_end, encoding, None, items, unlabelled=unlabelled), pos, tag)
                return value
            pos = value + length
            self._check_inside(pos, stop, tag)
            if unlabelled and not encoding.big_endian:
                vr = self._dictionary_vr(tag)
                if vr == "SQ":
                    elements.append(self._unlabelled_sequence(tag, value, length, encoding))
                    continue
            elements.append(Element(tag, vr, self._take(tag, vr, value, length, encoding, at_top=at_top)))
        self._stack.pop()
        return stop if at_top else pos

    def _unlabelled_sequence(self, tag: int, value: int, length: int, encoding: Encoding) -> Element:
        """A sequence of known length that came as UN (PS3.5 §6.2.2): its items, or UN if there are none."""
        content = bytes(self._data[value : value + length])
        depth_left = self._limits.depth_max - len(self._stack) // 2 - 1
        if depth_left > 0 and length <= self._limits.value_bytes_max:
            limits = replace(self._limits, depth_max=depth_left, elements_max=self._steps_left)
            reader = DatasetReader(content, limits, copy_bulk=True)
            try:
                items = reader.read_items(0, length, encoding, unlabelled=True)
            except ScanError:
                pass
            else:
                self._steps_left = reader._steps_left
                return Element(tag, "SQ", items)
        return Element(tag, "UN", content)

    def _read_item_header(self, pos: int, end: int, frame: _Frame) -> int:
        assert frame.items is not None
        if frame.end != _UNTIL_DELIMITER and pos >= frame.end:
            self._check_inside(pos, frame.end, ITEM)
            self._stack.pop()
            return pos
        self._count_step(pos)
        group, number, length = frame.encoding.wide.unpack_from(self._data, pos)
        tag = group << 16 | number
        if tag == SEQUENCE_DELIMITER and frame.end == _UNTIL_DELIMITER:
            self._stack.pop()
            return pos + 8
        if tag != ITEM:
            raise ScanError(MALFORMED, "Something else than an item is in a sequence", offset=pos, tag=tag)
        pos += 8
        elements: list[Element] = []
        frame.items.append(elements)
        item_end = _UNTIL_DELIMITER if length == UNDEFINED_LENGTH else pos + length
        self._check_inside(item_end, end if frame.end == _UNTIL_DELIMITER else frame.end, tag)
        encoding = item_encoding(self._data, pos, frame.encoding) if frame.unlabelled else frame.encoding
        self._stack.append(_Frame(item_end, encoding, elements, None))
        return pos

    def _close(self, tag: int, pos: int) -> int:
        self._stack.pop()
        if tag == SEQUENCE_DELIMITER and self._stack:
            # An item without its delimiter, closed by its sequence's (met in real files).
            sequence = self._stack.pop()
            if sequence.end != _UNTIL_DELIMITER:
                raise ScanError(MALFORMED, "A delimiter is out of place", offset=pos - 8, tag=tag)
        return pos

    def _take_fragments(self, tag: int, vr: str, value: int, encoding: Encoding) -> tuple[int, Element]:
        if self._copy_bulk:
            raise ScanError(MALFORMED, "Encapsulated data in a deflated data set", offset=value, tag=tag)
        fragments = walk_fragments(self._data, value, encoding, tag=tag, limits=self._limits)
        self._steps_left -= len(fragments.offsets)
        # PS3.5 A.4: fragments are octets, whatever an implicit data set's dictionary says of the attribute.
        return fragments.after, Element(tag, "OB", BulkRange(value, fragments.length, True))

    def _take(
        self, tag: int, vr: str, value: int, length: int, encoding: Encoding, *, at_top: bool
    ) -> bytes | BulkRange:
        if (length > self._bulk_bytes or (at_top and tag in PIXEL_TAGS)) and not self._copy_bulk:
            return BulkRange(value, length)
        content = bytes(self._data[value : value + length])
        if encoding.big_endian:
            content = swap_bytes(content, vr)
        if tag == _PIXEL_REPRESENTATION:
            self._signed = content[:1] == b"\1"
        return content

    def _dictionary_vr(self, tag: int) -> str:
        vr = vr_of(tag)
        # PS3.3 C.7.6.3.1: Pixel Representation tells whether such values are signed.
        if vr == "US" and self._signed and is_ambiguous(tag):
            return "SS"
        return vr

    def _is_padding(self, pos: int, end: int) -> bool:
        """Whether only nulls are left, as after data sets that some writers pad."""
        if end - pos >= 8 and self._data[pos : pos + 8] != bytes(8):
            return False
        if bytes(self._data[pos:end]).strip(b"\0"):
            raise ScanError(
                MALFORMED, "Nulls or less than a header stand where an element should", offset=pos
            )
        return True

    def _push(self, frame: _Frame, pos: int, tag: int) -> None:
        if len(self._stack) > 2 * self._limits.depth_max:
            what = f"Sequences are nested deeper than {self._limits.depth_max}"
            raise ScanError(TOO_DEEP, what, offset=pos, tag=tag)
        self._stack.append(frame)

    def _count_step(self, pos: int) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise ScanError(TOO_LARGE_HEADER, "The data set has too many elements", offset=pos)

    def _check_inside(self, pos: int, end: int, tag: int) -> None:
        if pos <= end:
            return
        outermost = self._stack[0].end
        if pos > outermost:
            raise ScanError(TRUNCATED, "A value ends early", offset=outermost, tag=tag, needed_bytes=pos)
        raise ScanError(MALFORMED, "A value is longer than what it is in", offset=pos, tag=tag)


def _implicit_header(data: Buffer, pos: int, encoding: Encoding) -> tuple[int, str, int, int]:
    group, number, length = encoding.wide.unpack_from(data, pos)
    return group << 16 | number, "", pos + 8, length


def _explicit_header(data: Buffer, pos: int, end: int, encoding: Encoding) -> tuple[int, str, int, int]:
    """Tag, VR (empty where it tells nothing), value offset and length."""
    group, number, word, length = encoding.short.unpack_from(data, pos)
    tag = group << 16 | number
    vr = encoding.short_vrs.get(word)
    if vr is not None:
        return tag, vr, pos + 8, length
    vr = encoding.long_vrs.get(word)
    if vr is not None:
        return tag, vr, pos + 12, encoding.long.unpack_from(data, pos + 8)[0]
    return (tag, *odd_header(data, pos, end, encoding))
