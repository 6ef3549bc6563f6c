"""A data set with the patient that the index says (ADR 0021): pure; ``presented.py`` gives it out.

What an object told of its patient before goes into an item of its Original Attributes Sequence (PS3.3
C.12.1.1.9.1). All else stays as it was, but that texts change to UTF-8 where the object's own character sets
cannot express the patient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from isocenter.dicom import tags
from isocenter.dicom.character_sets import ESC
from isocenter.dicom.charsets import CHARSET_DEPENDENT, TextDecoder, decoder_for
from isocenter.dicom.element import Element
from isocenter.dicom.json_dataset import dataset_json, element_from_json
from isocenter.dicom.levels import Level
from isocenter.features.archive.attributes import AT_LEVEL
from isocenter.features.archive.merge import fragments_by_tag, is_empty

_MAY_NOT_BE_ABSENT = frozenset({0x00100010, 0x00100020, 0x00100030, 0x00100040})
"""Name, ID, birth date, sex: of type 2 in every object's Patient Module (PS3.3 C.7.1.1)."""

_INDEXED = frozenset(attribute.tag for attribute in AT_LEVEL[Level.PATIENT])
_OF_THE_STUDY = frozenset(
    {
        *(0x00101010, 0x00101020, 0x00101021, 0x00101022, 0x00101023, 0x00101024, 0x00101030, 0x00102000),
        *(0x00102110, 0x00102180, 0x001021A0, 0x001021B0, 0x001021C0, 0x001021D0, 0x00102201, 0x00102202),
        *(0x00102203, 0x00102292, 0x00102293, 0x00109431),
    }
)
"""What group 0010 says of the day of the study (age, size, weight, allergies, pregnancy, species: PS3.3
C.7.2.2 and what a dose is reckoned by), true of whoever was examined. All else of it says who somebody is."""

_ORIGINAL_ATTRIBUTES = 0x04000561
_MODIFIED_ATTRIBUTES = 0x04000550
_MODIFIED_AT = 0x04000562
_MODIFYING_SYSTEM = 0x04000563
_SOURCE_OF_PREVIOUS_VALUES = 0x04000564
_REASON = 0x04000565

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNICODE = decoder_for(b"ISO_IR 192")


@dataclass(frozen=True, slots=True)
class PatientInstead:
    """Who an object's patient is by a person's word. ``merged``: another one than whom the object names, so
    that nothing of whom it names may stay; else the same one, with corrected values."""

    merged: bool
    at_us: int
    lines: dict[int, str]

    @classmethod
    def read(cls, text: str) -> PatientInstead:
        """Of `retrieve.PATIENT_INSTEAD`."""
        head, _, fragments = text.partition("\n")
        kind, _, at_us = head.partition(" ")
        return cls(kind == "merged", int(at_us), fragments_by_tag(fragments))


def reconciled(elements: Iterable[Element], patient: PatientInstead) -> list[Element]:
    """The data set's elements with that patient, tags ascending; the same where nothing differs."""
    by_tag = {element.tag: element for element in elements}
    declared = by_tag.get(tags.SPECIFIC_CHARACTER_SET)
    decoder = decoder_for(declared.value if declared and isinstance(declared.value, bytes) else None)
    lines = _differing(by_tag, patient, decoder)
    if not lines:
        return sorted(by_tag.values(), key=_tag_of)
    encoder = decoder
    if not decoder.holds("".join(line or "" for line in lines.values())):
        encoder = _UNICODE
        by_tag = {one.tag: one for one in _in_unicode(by_tag.values(), decoder)}
        by_tag[tags.SPECIFIC_CHARACTER_SET] = Element(
            tags.SPECIFIC_CHARACTER_SET, "CS", _UNICODE.encode(_UNICODE.term, "CS")
        )
    before = [by_tag.get(tag) or Element(tag, _vr_of(tag), _nothing(tag)) for tag in sorted(lines)]
    for tag, line in lines.items():
        if line is not None:
            by_tag[tag] = element_from_json(tag, orjson.loads("{" + line + "}")[f"{tag:08X}"], encoder)
        elif tag in _MAY_NOT_BE_ABSENT:
            by_tag[tag] = Element(tag, _vr_of(tag), b"")
        else:
            del by_tag[tag]
    earlier = by_tag.get(_ORIGINAL_ATTRIBUTES)
    items = list(earlier.value) if earlier is not None and isinstance(earlier.value, list) else []
    by_tag[_ORIGINAL_ATTRIBUTES] = Element(
        _ORIGINAL_ATTRIBUTES, "SQ", [*items, _original_attributes(before, patient.at_us)]
    )
    return sorted(by_tag.values(), key=_tag_of)


def _differing(
    by_tag: dict[int, Element], patient: PatientInstead, decoder: TextDecoder
) -> dict[int, str | None]:
    """What is to be told instead, as DICOM JSON lines; None: nothing at all."""
    differing: dict[int, str | None] = {}
    for attribute in AT_LEVEL[Level.PATIENT]:
        tag = attribute.tag
        line = patient.lines.get(tag, "")
        element = by_tag.get(tag)
        told = "" if element is None else dataset_json([element], decoder).decode()[1:-1]
        if line and not is_empty(line):
            if told != line:
                differing[tag] = line
        elif patient.merged and told and not is_empty(told):
            differing[tag] = None
    if patient.merged:
        differing |= {tag: None for tag in by_tag if _says_who(tag)}
    return differing


def _says_who(tag: int) -> bool:
    """Beside what the index holds."""
    return tag >> 16 == 0x0010 and tag & 0xFFFF != 0 and tag not in _OF_THE_STUDY and tag not in _INDEXED


def _original_attributes(before: list[Element], at_us: int) -> list[Element]:
    at = _EPOCH + timedelta(microseconds=at_us)
    return [
        Element(_MODIFIED_ATTRIBUTES, "SQ", [before]),
        Element(_MODIFIED_AT, "DT", _padded(at.strftime("%Y%m%d%H%M%S.%f+0000"))),
        Element(_MODIFYING_SYSTEM, "LO", _padded("Isocenter")),
        Element(_SOURCE_OF_PREVIOUS_VALUES, "LO", b""),
        Element(_REASON, "CS", _padded("COERCE")),
    ]


def _in_unicode(elements: Iterable[Element], decoder: TextDecoder) -> list[Element]:
    """The same texts in UTF-8, those of items too, which then need no declarations of their own."""
    changed = []
    for element in elements:
        value = element.value
        if isinstance(value, list):
            items = [_in_unicode(item, _decoder_of(item, decoder)) for item in value]
            value = [[one for one in item if one.tag != tags.SPECIFIC_CHARACTER_SET] for item in items]
        elif element.vr in CHARSET_DEPENDENT and isinstance(value, bytes) and _is_beyond_ascii(value):
            value = _UNICODE.encode(decoder.decode(value, element.vr), element.vr)
        changed.append(Element(element.tag, element.vr, value))
    return changed


def _is_beyond_ascii(value: bytes) -> bool:
    return not value.isascii() or ESC in value


def _decoder_of(item: Iterable[Element], outer: TextDecoder) -> TextDecoder:
    for element in item:
        if element.tag == tags.SPECIFIC_CHARACTER_SET and isinstance(element.value, bytes):
            return decoder_for(element.value)
    return outer


def _tag_of(element: Element) -> int:
    return element.tag


def _vr_of(tag: int) -> str:
    return next(one.vr for one in AT_LEVEL[Level.PATIENT] if one.tag == tag)


def _nothing(tag: int) -> bytes | list[list[Element]]:
    return [] if _vr_of(tag) == "SQ" else b""


def _padded(text: str) -> bytes:
    return text.encode("ascii") + b" " * (len(text) % 2)
