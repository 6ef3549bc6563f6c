"""What rendering reads of an object: numbers, words, tables, and items of sequences, without ever raising for
a value that is not what its VR promises. What is missing or unreadable is absent."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, TextDecoder, decoder_for
from isocenter.dicom.dataset import read_items
from isocenter.dicom.element import Element
from isocenter.dicom.scan_model import RawElement
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET
from isocenter.imaging.rendering.items import nth_item
from isocenter.kit.errors import InvalidInput

_STRUCT_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_NUMBERS_MAX = 4096
"""More numbers in one value are a table; nobody needs it as Python's own."""


class _Value(NamedTuple):
    vr: str
    content: bytes | list[list[Element]]


class Attributes:
    """One data set or item, by tag."""

    __slots__ = ("_implicit_vr", "_items", "_values", "decoder")

    def __init__(
        self, values: Mapping[int, _Value], *, implicit_vr: bool, decoder: TextDecoder | None = None
    ) -> None:
        self._values = values
        self._implicit_vr = implicit_vr
        self._items: dict[int, list[Attributes]] = {}
        charset = values.get(SPECIFIC_CHARACTER_SET)
        own = charset.content if charset is not None and isinstance(charset.content, bytes) else None
        self.decoder = decoder_for(own) if own is not None else decoder or DEFAULT_REPERTOIRE

    @classmethod
    def of_scan(cls, elements: Mapping[int, RawElement], *, implicit_vr: bool) -> Attributes:
        """Of a scan's findings; sequences are read when they are asked for."""
        return cls({tag: _Value(raw.vr, raw.value) for tag, raw in elements.items()}, implicit_vr=implicit_vr)

    @classmethod
    def of_elements(cls, elements: Iterable[Element], decoder: TextDecoder | None = None) -> Attributes:
        values = {
            element.tag: _Value(element.vr, element.value)
            for element in elements
            if isinstance(element.value, bytes | list)
        }
        return cls(values, implicit_vr=False, decoder=decoder)

    def __contains__(self, tag: int) -> bool:
        """Whether there is a value that is not empty."""
        value = self._values.get(tag)
        return value is not None and bool(value.content)

    def __iter__(self) -> Iterable[int]:
        return iter(self._values)

    def elements(self) -> list[Element]:
        """What is not a sequence, for readers of elements."""
        return [
            Element(tag, value.vr, value.content)
            for tag, value in self._values.items()
            if isinstance(value.content, bytes)
        ]

    def raw(self, tag: int) -> bytes:
        """The value's bytes, little endian; none where it is absent or a sequence that was read."""
        value = self._values.get(tag)
        return value.content if value is not None and isinstance(value.content, bytes) else b""

    def vr(self, tag: int) -> str:
        value = self._values.get(tag)
        return value.vr if value is not None else ""

    def word(self, tag: int) -> str:
        """A code string or UID."""
        return self.raw(tag).decode("ascii", "replace").strip(" \0")

    def words(self, tag: int) -> list[str]:
        text = self.word(tag)
        return [part.strip() for part in text.split("\\")] if text else []

    def text(self, tag: int) -> str:
        """Any text, in whatever character set the object declares."""
        value = self.raw(tag)
        return self.decoder.decode(value, self.vr(tag)) if value else ""

    def texts(self, tag: int) -> list[str]:
        value = self.raw(tag)
        return self.decoder.decode_multi(value, self.vr(tag)) if value else []

    def numbers(self, tag: int) -> list[float]:
        """The finite numbers of a value; none where one of them cannot be read."""
        raw, vr = self.raw(tag), self.vr(tag)
        code = _STRUCT_CODES.get(vr)
        if code is None:
            return _decimals(raw) if vr in {"DS", "IS", "UN", "LO", "SH"} else []
        count = min(len(raw) // struct.calcsize(code), _NUMBERS_MAX)
        numbers = struct.unpack_from(f"<{count}{code}", raw)
        return [float(number) for number in numbers] if all(map(math.isfinite, numbers)) else []

    def number(self, tag: int) -> float | None:
        """The first number."""
        found = self.numbers(tag)
        return found[0] if found else None

    def integer(self, tag: int, default: int = 0) -> int:
        """The first number where it is whole and an int of 64 bits."""
        number = self.number(tag)
        return int(number) if number is not None and abs(number) < 2**53 and number.is_integer() else default

    def items(self, tag: int) -> list[Attributes]:
        """The items of a sequence; none where it is absent or cannot be read."""
        known = self._items.get(tag)
        if known is None:
            known = self._items[tag] = self._read_items(tag)
        return known

    def item(self, tag: int, number: int = 0) -> Attributes | None:
        """One item of a sequence (from 0), without reading the others."""
        value = self._values.get(tag)
        if value is None:
            return None
        if tag in self._items or isinstance(value.content, list):
            items = self.items(tag)
            return items[number] if number < len(items) else None
        try:
            found = nth_item(value.content, number, implicit_vr=self._implicit_vr)
        except InvalidInput:
            return None
        return None if found is None else Attributes.of_elements(found, self.decoder)

    def _read_items(self, tag: int) -> list[Attributes]:
        value = self._values.get(tag)
        if value is None:
            return []
        if isinstance(value.content, list):
            return [Attributes.of_elements(item, self.decoder) for item in value.content]
        try:
            items = read_items(value.content, implicit_vr=self._implicit_vr)
        except InvalidInput:
            return []
        return [Attributes.of_elements(item, self.decoder) for item in items]


def _decimals(raw: bytes) -> list[float]:
    text = raw[: 17 * _NUMBERS_MAX].decode("ascii", "replace").strip(" \0")
    try:
        numbers = [float(part) for part in text.split("\\")] if text else []
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
