"""Instances that came as metadata and bulk data, made whole (PS3.18 §8.6.1.2.1, §10.5.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.dicom.charsets import CHARSET_DEPENDENT, SINGLE_VALUED, TextDecoder, decoder_for
from isocenter.dicom.composing import Piece, PixelParts, compose_file
from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_dataset import NESTING_MAX, BulkPath, elements_from_json
from isocenter.dicom.native_model import DICOM_XML
from isocenter.dicom.native_model_reader import read_native_xml
from isocenter.dicom.tags import PIXEL_DATA, TRANSFER_SYNTAX_UID
from isocenter.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.doors.dicomweb.message_parts import BulkPart, MessageParts
from isocenter.imaging.codestreams import read_jpeg
from isocenter.imaging.errors import PixelDataBroken
from isocenter.kit.errors import InvalidInput, TooLarge
from isocenter.kit.multipart import MalformedMultipart

Read = Callable[[int, int], bytes]
"""Bytes of the message: from where, how many. Blocks."""

_VALUES_MAX = 4_000_000
_TEXT_BYTES_MAX = 32 << 20
_JPEG_HEADER_BYTES = 64 << 10
_NUMBER_OF_FRAMES = 0x00280008
_SPECIFIC_CHARACTER_SET = "00080005"
_JPEG_PROCESSES = {0xC0: "50", 0xC1: "51", 0xC3: "70"}
_PIXEL_BULK = f"/bulkdata/{PIXEL_DATA:08X}"
_ODD_GROUPS = frozenset({0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF})  # PS3.5 §7.8: never used


@dataclass(frozen=True, slots=True)
class ComposedInstance:
    """``pieces`` of the DICOM file: bytes, or ranges of the message. ``discarded``: some attributes of the
    metadata have no place in a data set and were left out."""

    pieces: Sequence[Piece]
    discarded: bool = False


def compose_instances(kind: str, parts: MessageParts, read: Read) -> list[ComposedInstance]:
    """Every instance that the metadata of a message describes, in order.

    Raises InvalidInput where metadata breaks its model or names bulk data that did not come, TooLarge.
    """
    composed = [
        _compose(data_set, parts, read)
        for content in parts.metadata
        for data_set in _data_sets(kind, read(content.offset, content.length))
    ]
    if not composed:
        raise MalformedMultipart(
            "The multipart body has no metadata.",
            remedy=f"Send at least one part of type {kind} with at least one instance.",
        )
    return composed


def _data_sets(kind: str, content: bytes) -> Sequence[object]:
    if kind == DICOM_XML:
        return [read_native_xml(content)]
    # Each value takes memory: there are no more of them than commas and brackets.
    if sum(map(content.count, (b",", b"[", b"{"))) > _VALUES_MAX:
        raise TooLarge(
            f"The metadata has more than {_VALUES_MAX:,} values.",
            code="metadata-too-large",
            remedy="Send fewer instances in one request, and large values as bulk data.",
        )
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise InvalidInput(
            "The metadata is not JSON, or is nested too deeply.",
            code="invalid-dicom-json",
            remedy="See PS3.18 Annex F for the model.",
        ) from None
    return document if isinstance(document, list) else [document]


def _compose(data_set: object, parts: MessageParts, read: Read) -> ComposedInstance:
    if not isinstance(data_set, dict):
        elements_from_json(data_set)  # says what is wrong
        raise AssertionError
    bulk = _BulkOfInstance(parts, read)
    bulk.inline_texts(data_set, decoder_for(None), 0)
    elements = elements_from_json(data_set, resolve_bulk=bulk.resolve)
    kept = [element for element in elements if _has_place(element.tag)]
    discarded = any(not _has_place(element.tag) and element.tag >> 16 != 2 for element in elements)
    pixels = bulk.pixels
    syntax = EXPLICIT_VR_LITTLE_ENDIAN
    if pixels and pixels[0].compressed:
        syntax = _syntax_of(pixels, elements, read)
        _check_number_of_frames(pixels, kept)
    ranges = [part.content for part in pixels]
    compressed = syntax != EXPLICIT_VR_LITTLE_ENDIAN
    whole = PixelParts(ranges, compressed, offsets=not pixels[0].is_video) if pixels else None
    return ComposedInstance(compose_file(kept, syntax, whole), discarded)


class _BulkOfInstance:
    """Finds what the BulkDataURIs of one instance's metadata stand for.

    ``pixels``: the parts of its Pixel Data.
    """

    def __init__(self, parts: MessageParts, read: Read) -> None:
        self._parts = parts
        self._read = read
        self.pixels: Sequence[BulkPart] = ()

    def resolve(self, path: BulkPath, uri: str) -> BulkRange:
        """For `elements_from_json`."""
        if path == (PIXEL_DATA,):
            self.pixels = self._pixel_parts(uri)
            return BulkRange(0, 0)
        return self._only(uri).content

    def inline_texts(self, data_set: Mapping[str, Any], decoder: TextDecoder, depth: int) -> None:
        """Text that came as bulk data is in the character set that the metadata declares; as a value it gets
        into that of the data set with all others."""
        if depth > NESTING_MAX:
            return  # refused by who reads it
        declared = data_set.get(_SPECIFIC_CHARACTER_SET)
        if isinstance(declared, dict) and isinstance(terms := declared.get("Value"), list):
            raw = "\\".join(term if isinstance(term, str) else "" for term in terms)
            decoder = decoder_for(raw.encode("latin-1", "replace"))
        for attribute in data_set.values():
            if not isinstance(attribute, dict):
                continue
            vr, uri, values = (attribute.get(name) for name in ("vr", "BulkDataURI", "Value"))
            if isinstance(vr, str) and vr in CHARSET_DEPENDENT and isinstance(uri, str):
                del attribute["BulkDataURI"]
                attribute["Value"] = self._text(uri, vr, decoder)
            elif vr == "SQ" and isinstance(values, list):
                for item in values:
                    if isinstance(item, dict):
                        self.inline_texts(item, decoder, depth + 1)

    def _text(self, uri: str, vr: str, decoder: TextDecoder) -> list[str]:
        content = self._only(uri).content
        if content.length > _TEXT_BYTES_MAX:
            raise TooLarge("A text is too long.", code="value-too-long")
        raw = self._read(content.offset, content.length)
        return [decoder.decode(raw, vr)] if vr in SINGLE_VALUED else decoder.decode_multi(raw, vr)

    def _only(self, uri: str) -> BulkPart:
        found = self._parts.named(uri)
        if not found:
            raise _missing()
        if len(found) > 1 or found[0].compressed:
            raise InvalidInput(
                "A value other than Pixel Data came compressed or in several parts.",
                code="bulk-data-unusable",
                remedy="Send the value in one part, as application/octet-stream.",
            )
        return found[0]

    def _pixel_parts(self, uri: str) -> Sequence[BulkPart]:
        """One part; or as many of one name; or each frame under an address of its own, as answers to
        ``…/bulkdata`` and ``…/pixeldata`` name them."""
        found = self._parts.named(uri)
        if not found:
            instance = uri.removesuffix(_PIXEL_BULK)
            found = [*self._frames(f"{uri}/frames/")] or [*self._frames(f"{instance}/frames/")]
        if not found:
            raise _missing()
        if any((part.media_type, part.syntax) != (found[0].media_type, found[0].syntax) for part in found):
            raise InvalidInput(
                "The frames of an instance are not all of one media type and transfer syntax.",
                code="bulk-data-unusable",
                remedy="Send all frames of an instance in the same form.",
            )
        return found

    def _frames(self, address: str) -> Iterator[BulkPart]:
        number = 1
        while found := self._parts.named(f"{address}{number}"):
            yield found[0]
            number += 1


def _has_place(tag: int) -> bool:
    """Whether the attribute belongs into a data set: no command, no file meta, no length of a group."""
    group, number = tag >> 16, tag & 0xFFFF
    return group > 2 and group not in _ODD_GROUPS and group != 0xFFFE and number != 0


def _syntax_of(pixels: Sequence[BulkPart], elements: Sequence[Element], read: Read) -> str:
    """What the part says; else what the metadata says, if the media type allows it; else, for JPEG, what the
    frame itself says; else the media type's default (PS3.18 Table 8.7.3-5)."""
    first = pixels[0]
    if first.syntax:
        return first.syntax
    for element in elements:
        if element.tag == TRANSFER_SYNTAX_UID and isinstance(element.value, bytes):
            uid = element.value.decode("latin-1").rstrip("\0 ")
            if uid in first.syntaxes:
                return uid
    if first.media_type == "image/jpeg":
        try:
            frame = read_jpeg(read(first.content.offset, min(first.content.length, _JPEG_HEADER_BYTES)))
        except PixelDataBroken:
            return first.syntaxes[0]
        number = _JPEG_PROCESSES.get(frame.process)
        if number is not None:
            return f"1.2.840.10008.1.2.4.{number}"
    return first.syntaxes[0]


def _check_number_of_frames(pixels: Sequence[BulkPart], elements: Sequence[Element]) -> None:
    if pixels[0].is_video:
        expected = 1
    else:
        raw = next((one.value for one in elements if one.tag == _NUMBER_OF_FRAMES), b"")
        text = raw.decode("latin-1").strip(" \0") if isinstance(raw, bytes) else ""
        expected = int(text) if text.isdecimal() and len(text) < 10 else 1
    if len(pixels) != expected:
        raise InvalidInput(
            f"{len(pixels)} compressed frames came of an instance that has {expected}.",
            code="bulk-data-missing",
            remedy="Send each frame as a part, all under the BulkDataURI of Pixel Data, in their order.",
        )


def _missing() -> InvalidInput:
    return InvalidInput(
        "The metadata names bulk data that is not among the parts of the request.",
        code="bulk-data-missing",
        remedy="Send it as a part whose Content-Location is the BulkDataURI; no address is fetched.",
    )
