"""Reading the Native DICOM Model (PS3.19 A.1): one data set of XML as DICOM JSON (PS3.18 F.2).

A document type is refused, and with it entities and whatever they could fetch or multiply. Depth is bounded;
size is the caller's to bound.
"""

from __future__ import annotations

import re
from typing import Any
from xml.parsers import expat

from isocenter.dicom.dictionary import vr_of
from isocenter.kit.errors import InvalidInput

_DEPTH_MAX = 256  # a sequence costs two levels
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_INTEGERS = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_DECIMALS = frozenset({"FD", "FL"})
_ROOT = "NativeDicomModel"
_INSIDE = {
    _ROOT: {"DicomAttribute"},
    "Item": {"DicomAttribute"},
    "DicomAttribute": {"Value", "PersonName", "Item", "InlineBinary", "BulkData"},
    "PersonName": set(_GROUPS),
    **{group: set(_COMPONENTS) for group in _GROUPS},
}


def data_set_of_xml(document: bytes) -> dict[str, Any]:
    """Attributes by tag. Raises InvalidInput, without quoting what it read."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise _refused(f"line {error.lineno}: it is not well-formed XML") from None
    return reader.root


def _refuse_document_type(*_: object) -> None:
    raise _refused("it has a document type, which is not read")


class _Reader:
    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._names: list[str] = []
        self._data_sets: list[dict[str, Any]] = []
        self._attributes: list[dict[str, Any]] = []
        self._person: dict[str, list[str]] = {}
        self._text: list[str] = []

    def start(self, name: str, given: dict[str, str]) -> None:
        name = name.rpartition("}")[2]
        above = self._names[-1] if self._names else ""
        if name not in (_INSIDE.get(above, set()) if above else {_ROOT}):
            raise _refused(f"{name[:32]} has no place in {above or 'a document'}")
        if len(self._names) > _DEPTH_MAX:
            raise _refused("sequences are nested too deeply")
        self._names.append(name)
        self._text.clear()
        match name:
            case "NativeDicomModel":
                self._data_sets.append(self.root)
            case "DicomAttribute":
                self._begin_attribute(given)
            case "Item":
                item: dict[str, Any] = {}
                self._values().append(item)
                self._data_sets.append(item)
            case "PersonName":
                self._person = {}
            case "BulkData":
                self._attributes[-1]["BulkDataURI"] = given.get("uri", "")
            case _:
                pass

    def end(self, _: str) -> None:
        name = self._names.pop()
        text = "".join(self._text)
        self._text.clear()
        match name:
            case "NativeDicomModel" | "Item":
                self._data_sets.pop()
            case "DicomAttribute":
                self._attributes.pop()
            case "Value":
                self._values().append(_value(text, self._attributes[-1]["vr"]))
            case "InlineBinary":
                self._attributes[-1]["InlineBinary"] = "".join(text.split())
            case "PersonName":
                groups = {one: "^".join(parts).rstrip("^") for one, parts in self._person.items()}
                self._values().append({one: name for one, name in groups.items() if name})
            case _ if name in _COMPONENTS:
                parts = self._person.setdefault(self._names[-1], [""] * len(_COMPONENTS))
                parts[_COMPONENTS.index(name)] = text
            case _:
                pass

    def characters(self, text: str) -> None:
        self._text.append(text)

    def _begin_attribute(self, given: dict[str, str]) -> None:
        tag = given.get("tag", "").upper()
        if not _TAG.fullmatch(tag):
            raise _refused("an attribute has no tag of eight hexadecimal digits")
        if tag in self._data_sets[-1]:
            raise _refused(f"the tag {tag} occurs twice")
        attribute: dict[str, Any] = {"vr": given.get("vr") or vr_of(int(tag, 16))}
        self._data_sets[-1][tag] = attribute
        self._attributes.append(attribute)

    def _values(self) -> list[Any]:
        values: list[Any] = self._attributes[-1].setdefault("Value", [])
        return values


def _value(text: str, vr: str) -> Any:
    """As JSON has it: numbers of binary VRs are numbers; DS and IS may stay text (F.2.3)."""
    if not text:
        return None
    try:
        if vr in _INTEGERS:
            return int(text)
        return float(text) if vr in _DECIMALS else text
    except ValueError:
        raise _refused(f"a value of {vr[:2]} is no number") from None


def _refused(what: str) -> InvalidInput:
    return InvalidInput(
        f"The XML is no data set: {what}.",
        code="invalid-dicom-xml",
        remedy="See PS3.19 A.1, the Native DICOM Model.",
    )
