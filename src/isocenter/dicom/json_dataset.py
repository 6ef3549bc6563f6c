"""Whole data sets as DICOM JSON and back (PS3.18 F.2).

Specific Character Set (0008,0005) is written as the source has it: it tells how the source was encoded, not
how the JSON is, which is UTF-8 always (F.2.2 note 3, clarified by CP 2518). Reading back goes the other
way: elements come out in one encoding, and (0008,0005) says which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE, UNICODE, TextDecoder, decoder_for
from isocenter.dicom.dataset import read_items
from isocenter.dicom.dictionary import is_ambiguous, vr_of
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_model import KNOWN_VRS, bulk_data_uri, fragment, sequence_fragment
from isocenter.dicom.json_values import TEXT_VRS, decode_inline_binary, encode_numbers, text_of
from isocenter.dicom.scan_limits import ScanError
from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET
from isocenter.kit.errors import InvalidInput

BulkPath = tuple[int, ...]
"""Where a value is: its tag; within sequences tag, item (from 0), tag, item, ..., tag."""

NESTING_MAX = 128  # twice what the scanner lets in; keeps the recursion far from Python's own limit

# F.2.6: the VRs whose value may be somewhere else.
_BULK_VRS = KNOWN_VRS - {"AE", "AS", "AT", "CS", "DA", "DT", "LO", "PN", "SH", "SQ", "TM", "UI", "UR"}
_NO_DATA_SET_GROUPS = (0x0000, 0x0002)  # command set, file meta information
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)


def dataset_json(
    elements: Sequence[Element],
    decoder: TextDecoder = DEFAULT_REPERTOIRE,
    *,
    bulk_uri: Callable[[BulkPath, BulkRange | bytes], str] | None = None,
    inline_limit_bytes: int | None = None,
) -> bytes:
    """The object of one data set as UTF-8 JSON, tags ascending, file meta and group lengths left out.

    ``decoder`` holds until an element (0008,0005) says otherwise; items inherit it (PS3.5 §7.5.3).
    ``bulk_uri`` names the address of a value that is a range, or bytes of more than
    ``inline_limit_bytes`` (None: bytes are always inline). Without it a range gives its ``vr`` alone.
    Of two elements with one tag the last counts. UN under a tag of the standard becomes the VR that the
    dictionary knows (PS3.5 §6.2.2 note 2), as far as the bytes allow.
    """
    return _Writer(bulk_uri, inline_limit_bytes).data_set(elements, decoder, ()).encode()


class _Writer:
    def __init__(
        self, bulk_uri: Callable[[BulkPath, BulkRange | bytes], str] | None, inline_limit_bytes: int | None
    ) -> None:
        self._bulk_uri = bulk_uri
        self._inline_limit_bytes = inline_limit_bytes

    def data_set(self, elements: Sequence[Element], decoder: TextDecoder, path: BulkPath) -> str:
        if len(path) > 2 * NESTING_MAX:
            raise InvalidInput("sequences are nested too deeply to be shown as JSON", code="too-deep")
        by_tag = {e.tag: e for e in elements if e.tag >> 16 not in _NO_DATA_SET_GROUPS and e.tag & 0xFFFF}
        declared = by_tag.get(SPECIFIC_CHARACTER_SET)
        if declared is not None and isinstance(declared.value, bytes):
            decoder = decoder_for(declared.value)
        return "{" + ",".join([self._attribute(by_tag[tag], decoder, path) for tag in sorted(by_tag)]) + "}"

    def _attribute(self, element: Element, decoder: TextDecoder, path: BulkPath) -> str:
        if element.vr == "UN":
            element = _recognised(element)
        tag, vr, value = element.tag, element.vr, element.value
        if isinstance(value, bytes):
            limit = self._inline_limit_bytes
            if limit is None or len(value) <= limit or self._bulk_uri is None or vr not in _BULK_VRS:
                return fragment(tag, vr, value, decoder)
            return bulk_data_uri(tag, vr, self._bulk_uri((*path, tag), value))
        if isinstance(value, BulkRange):
            if self._bulk_uri is None:
                return fragment(tag, vr, b"", decoder)
            return bulk_data_uri(tag, vr, self._bulk_uri((*path, tag), value))
        items = [self.data_set(item, decoder, (*path, tag, number)) for number, item in enumerate(value)]
        return sequence_fragment(tag, items)


def _recognised(element: Element) -> Element:
    """Systems that did not know a tag passed it on as UN; the value is then implicit VR little endian."""
    vr = "UN" if is_ambiguous(element.tag) else vr_of(element.tag)
    if vr == "UN" or not isinstance(element.value, bytes):
        return element
    if vr != "SQ":
        return Element(element.tag, vr, element.value)
    try:
        return Element(element.tag, vr, read_items(element.value, implicit_vr=True))
    except ScanError:
        return element


def element_from_json(tag: int, attribute: Mapping[str, object], encoder: TextDecoder = UNICODE) -> Element:
    """One attribute that is no bulk data, the short road for stored answers. Raises InvalidInput."""
    return _Reader(encoder, None).element(f"{tag:08X}", attribute, "", ())


def elements_from_json(
    data_set: object,
    *,
    encoder: TextDecoder = UNICODE,
    resolve_bulk: Callable[[BulkPath, str], bytes | BulkRange] | None = None,
) -> list[Element]:
    """The elements of a parsed DICOM JSON object, tags ascending, text encoded by ``encoder``.

    Where any text is not ASCII, (0008,0005) becomes the encoder's own; else it stays as it is, since ASCII
    reads the same in all sets. ``resolve_bulk`` brings the bytes behind a BulkDataURI.

    Raises InvalidInput, with the place as a JSON pointer (RFC 6901), where the object breaks PS3.18 F.2.
    """
    reader = _Reader(encoder, resolve_bulk)
    elements = reader.data_set(data_set, "", ())
    return _declare(elements, encoder) if reader.met_beyond_ascii else elements


def _declare(elements: list[Element], encoder: TextDecoder) -> list[Element]:
    declaration = Element(SPECIFIC_CHARACTER_SET, "CS", encoder.encode(encoder.term, "CS"))
    kept = _without_declarations(elements)
    return sorted([*kept, declaration] if encoder.term else kept, key=lambda element: element.tag)


def _without_declarations(elements: list[Element]) -> list[Element]:
    for element in elements:
        if isinstance(element.value, list):
            element.value = [_without_declarations(item) for item in element.value]
    return [element for element in elements if element.tag != SPECIFIC_CHARACTER_SET]


class _Reader:
    def __init__(
        self, encoder: TextDecoder, resolve_bulk: Callable[[BulkPath, str], bytes | BulkRange] | None
    ) -> None:
        self._encoder = encoder
        self._resolve_bulk = resolve_bulk
        self.met_beyond_ascii = False

    def data_set(self, data_set: object, pointer: str, path: BulkPath) -> list[Element]:
        if not isinstance(data_set, dict):
            raise _wrong("a data set is not a JSON object", pointer)
        if len(path) > 2 * NESTING_MAX:
            raise _wrong("sequences are nested too deeply", "", code="too-deep")
        elements = [self.element(key, attribute, pointer, path) for key, attribute in data_set.items()]
        elements.sort(key=lambda element: element.tag)
        for one, next_one in pairwise(elements):
            if one.tag == next_one.tag:
                raise _wrong("a tag occurs twice, in upper and in lower case", f"{pointer}/{one.tag:08X}")
        return elements

    def element(self, key: str, attribute: object, pointer: str, path: BulkPath) -> Element:
        tag = _tag(key, pointer)
        here = f"{pointer}/{key}"
        if not isinstance(attribute, Mapping):
            raise _wrong("an attribute is not a JSON object", here)
        vr = attribute.get("vr")
        if not isinstance(vr, str) or vr not in KNOWN_VRS:
            raise _wrong("the value representation is missing or unknown", f"{here}/vr")
        match [name for name in ("Value", "InlineBinary", "BulkDataURI") if attribute.get(name) is not None]:
            case []:
                return Element(tag, vr, [] if vr == "SQ" else b"")
            case ["Value"]:
                return Element(tag, vr, self._values(attribute["Value"], vr, f"{here}/Value", (*path, tag)))
            case ["InlineBinary"]:
                return Element(tag, vr, _inline(attribute["InlineBinary"], vr, f"{here}/InlineBinary"))
            case ["BulkDataURI"]:
                if vr == "SQ":
                    raise _wrong("a sequence is no bulk data (F.2.6)", f"{here}/BulkDataURI")
                uri = attribute["BulkDataURI"]
                return Element(tag, vr, self._bulk(uri, f"{here}/BulkDataURI", (*path, tag)))
            case _:
                raise _wrong("only one of Value, InlineBinary and BulkDataURI may be given", here)

    def _values(self, values: object, vr: str, pointer: str, path: BulkPath) -> bytes | list[list[Element]]:
        if not isinstance(values, list):
            raise _wrong("Value is not a JSON array", pointer)
        if vr == "SQ":
            return [
                # F.2.5: an empty item is {}; null is met in the wild.
                self.data_set({} if item is None else item, f"{pointer}/{number}", (*path, number))
                for number, item in enumerate(values)
            ]
        try:
            if vr not in TEXT_VRS:
                return encode_numbers(values, vr)
            text = text_of(values, vr)
        except ValueError as error:
            raise _wrong(str(error), pointer) from error
        self.met_beyond_ascii = self.met_beyond_ascii or not text.isascii()
        return self._encoder.encode(text, vr)

    def _bulk(self, uri: object, pointer: str, path: BulkPath) -> bytes | BulkRange:
        if not isinstance(uri, str):
            raise _wrong("BulkDataURI is not a string", pointer)
        if self._resolve_bulk is None:
            raise _wrong("bulk data cannot be fetched here", pointer, remedy="Send the value itself.")
        return self._resolve_bulk(path, uri)


def _tag(key: str, pointer: str) -> int:
    if not _TAG.fullmatch(key):
        raise _wrong("a name is not a tag of eight hexadecimal digits", pointer)
    return int(key, 16)


def _inline(value: object, vr: str, pointer: str) -> bytes:
    try:
        return decode_inline_binary(value, vr)
    except ValueError as error:
        raise _wrong(str(error), pointer) from error


def _wrong(what: str, pointer: str, *, code: str = "invalid-dicom-json", remedy: str = "") -> InvalidInput:
    return InvalidInput(
        f"{what} (at {pointer or 'the top'})", code=code, remedy=remedy or "See PS3.18 Annex F for the model."
    )
