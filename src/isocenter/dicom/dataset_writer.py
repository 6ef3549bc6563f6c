"""Writing elements as a data set: even values, ascending tags, lengths where possible (PS3.5 §7)."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from isocenter.dicom.dictionary import vr_of
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.encoding import ITEM, SEQUENCE_DELIMITER, UNDEFINED_LENGTH, Buffer, Encoding
from isocenter.dicom.value_representations import SHORT_LENGTH_VRS, padded, swap_bytes
from isocenter.kit.errors import InvalidInput, TooLarge

_DEPTH_MAX = 64
_SHORT_LENGTH_BYTES_MAX = 0xFFFF
_by_tag = attrgetter("tag")


class DatasetWriter:
    """``source`` is the buffer that ranges point into; without it ranges cannot be written."""

    def __init__(self, encoding: Encoding, source: Buffer | None = None) -> None:
        self._encoding = encoding
        self._source = source

    def write(self, elements: Iterable[Element], depth: int = 0) -> bytes:
        """The elements by ascending tag, without group lengths (retired by PS3.5 §7.2, wrong after edits)."""
        parts: list[bytes] = []
        for element in sorted(elements, key=_by_tag):
            if element.tag & 0xFFFF == 0 and element.tag > 0xFFFF:
                continue
            value = element.value
            if isinstance(value, bytes):
                self._append(parts, element.tag, element.vr, padded(value, element.vr))
            elif isinstance(value, BulkRange):
                self._append_range(parts, element.tag, element.vr, value)
            else:
                self._append_sequence(parts, element.tag, self.write_items(value, depth + 1))
        return b"".join(parts)

    def write_items(self, items: Iterable[list[Element]], depth: int = 1) -> bytes:
        """The content of a sequence; items have explicit lengths."""
        if depth > _DEPTH_MAX:
            raise InvalidInput(
                f"Sequences are nested deeper than {_DEPTH_MAX}",
                code="too-deep",
                remedy="Nest fewer sequences; no real object needs as many.",
            )
        parts: list[bytes] = []
        for item in items:
            content = self.write(item, depth)
            parts.append(self._wide_header(ITEM, len(content)))
            parts.append(content)
        return b"".join(parts)

    def header(self, tag: int, vr: str, length: int) -> bytes:
        """Of an element whose value has ``length`` bytes, or `UNDEFINED_LENGTH`. Raises TooLarge."""
        if length > UNDEFINED_LENGTH:
            raise TooLarge("A value of 4 GiB or more fits no data element", code="value-too-long")
        if self._encoding.implicit_vr:
            return self._wide_header(tag, length)
        return self._explicit_header(tag, _vr_for(vr, length), length)

    def _append(self, parts: list[bytes], tag: int, vr: str, value: bytes) -> None:
        length = len(value)  # even, so never the one that means undefined
        parts.append(self.header(tag, vr, length))
        parts.append(swap_bytes(value, _vr_for(vr, length)) if self._encoding.big_endian else value)

    def _append_sequence(self, parts: list[bytes], tag: int, content: bytes) -> None:
        if not self._encoding.implicit_vr or vr_of(tag) == "SQ":
            self._append(parts, tag, "SQ", content)
            return
        # Without a VR, only the undefined length tells a reader that this is a sequence (PS3.5 §6.2.2).
        parts.append(self._wide_header(tag, UNDEFINED_LENGTH))
        parts.append(content)
        parts.append(self._wide_header(SEQUENCE_DELIMITER, 0))

    def _append_range(self, parts: list[bytes], tag: int, vr: str, where: BulkRange) -> None:
        if self._source is None:
            raise InvalidInput(
                f"The value of ({tag >> 16:04X},{tag & 0xFFFF:04X}) is not at hand",
                code="bulk-data-missing",
                remedy="Hand over the buffer that the data set was read from.",
            )
        value = bytes(self._source[where.offset : where.offset + where.length])
        if not where.encapsulated:
            self._append(parts, tag, vr, padded(value, vr))
            return
        parts.append(self.header(tag, vr, UNDEFINED_LENGTH))
        parts.append(value)
        parts.append(self._wide_header(SEQUENCE_DELIMITER, 0))

    def _wide_header(self, tag: int, length: int) -> bytes:
        return self._encoding.wide.pack(tag >> 16, tag & 0xFFFF, length)

    def _explicit_header(self, tag: int, vr: str, length: int) -> bytes:
        encoding = self._encoding
        word = int.from_bytes(vr.encode("ascii"), "big" if encoding.big_endian else "little")
        if vr in SHORT_LENGTH_VRS:
            return encoding.short.pack(tag >> 16, tag & 0xFFFF, word, length)
        return encoding.short.pack(tag >> 16, tag & 0xFFFF, word, 0) + encoding.long.pack(length)


def _vr_for(vr: str, length: int) -> str:
    """PS3.5 §6.2.2: UN is the way to write what a 16-bit length cannot say."""
    return "UN" if vr in SHORT_LENGTH_VRS and length > _SHORT_LENGTH_BYTES_MAX else vr
