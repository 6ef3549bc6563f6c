"""The Native DICOM Model (PS3.19 A.1): a data set as XML, written from its DICOM JSON (PS3.18 F.2).

The output has no blanks between elements, since ``xml:space="preserve"`` makes them count. What XML 1.0 has
no place for (control characters other than tabulator and line breaks, lone surrogates) becomes U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from isocenter.dicom.dictionary import is_private, keyword_of
from isocenter.dicom.person_name import GROUPS
from isocenter.kit.errors import InvalidInput

DICOM_XML = "application/dicom+xml"
NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"

_HEAD = f'<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_TAIL = "</NativeDicomModel>"
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NESTING_MAX = 128
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Attributes = Mapping[str, Mapping[str, Any]]
"""DICOM JSON, parsed: attributes by tag (eight digits)."""


def native_xml(attributes: Attributes) -> bytes:
    """The document of one data set, attributes in ascending order of tag.

    Raises InvalidInput for sequences that are nested too deeply.
    """
    return "".join((_HEAD, *_data_set(attributes, 0), _TAIL)).encode()


def _data_set(attributes: Attributes, depth: int) -> Iterator[str]:
    if depth > _NESTING_MAX:
        raise InvalidInput("sequences are nested too deeply to be shown as XML", code="too-deep")
    for tag in sorted(attributes):
        yield from _attribute(tag, attributes[tag], _creator(tag, attributes), depth)


def _attribute(tag: str, attribute: Mapping[str, Any], creator: str, depth: int) -> Iterator[str]:
    vr = attribute["vr"]
    named = f"keyword={quoteattr(keyword)}" if (keyword := keyword_of(int(tag, 16))) else ""
    if creator:
        named = f"privateCreator={quoteattr(_text(creator))}"
    shown = tag[:4] + "00" + tag[6:] if creator else tag  # blocks are reserved anew wherever it is written
    yield f'<DicomAttribute tag="{shown}" vr="{vr}"{" " if named else ""}{named}>'
    if "BulkDataURI" in attribute:
        yield f"<BulkData uri={quoteattr(_text(attribute['BulkDataURI']))}/>"
    elif "InlineBinary" in attribute:
        yield f"<InlineBinary>{escape(attribute['InlineBinary'])}</InlineBinary>"
    else:
        for number, value in enumerate(attribute.get("Value", ()), 1):
            yield from _value(vr, number, value, depth)
    yield "</DicomAttribute>"


def _value(vr: str, number: int, value: Any, depth: int) -> Iterable[str]:
    if vr == "SQ":
        return (f'<Item number="{number}">', *_data_set(value or {}, depth + 1), "</Item>")
    if vr == "PN":
        return (f'<PersonName number="{number}">', *_name(value or {}), "</PersonName>")
    text = "" if value is None else str(value)  # one empty value among others
    return (f'<Value number="{number}">{_escaped(text)}</Value>',)


def _name(groups: Mapping[str, str]) -> Iterator[str]:
    for group in GROUPS:
        if text := groups.get(group):
            yield f"<{group}>"
            for component, part in zip(_COMPONENTS, text.split("^", len(_COMPONENTS) - 1), strict=False):
                if part:
                    yield f"<{component}>{_escaped(part)}</{component}>"
            yield f"</{group}>"


def _creator(tag: str, attributes: Attributes) -> str:
    """The private creator that reserved the block of a private attribute (PS3.5 §7.8.1)."""
    number = int(tag, 16)
    if not is_private(number) or number & 0xFFFF < 0x1000:
        return ""
    block = attributes.get(f"{number >> 16:04X}{number >> 8 & 0xFF:04X}")
    values = block.get("Value", ()) if block else ()
    return str(values[0]) if values and values[0] else ""


def _escaped(text: str) -> str:
    """A carriage return as a reference: readers make a line feed of a bare one (XML 1.0 §2.11)."""
    return escape(_text(text), {"\r": "&#13;"})


def _text(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
