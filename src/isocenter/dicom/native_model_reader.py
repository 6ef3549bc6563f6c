"""The Native DICOM Model read backwards (PS3.19 A.1): XML as DICOM JSON (PS3.18 F.2), see `native_model`.

Documents come from anybody: a document type declaration, and with it every entity, is refused; nesting and
number of nodes are bounded; nothing recurses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat

from isocenter.dicom.dictionary import is_private
from isocenter.dicom.person_name import GROUPS
from isocenter.kit.errors import InvalidInput

_NODES_MAX = 2_000_000
_DEPTH_MAX = 3 * 128  # three nodes a sequence
_VALUES_LEFT_OUT_MAX = 10_000
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)

_ROOT = "NativeDicomModel"
_CHILDREN: Mapping[str, frozenset[str]] = {
    "": frozenset({_ROOT}),
    _ROOT: frozenset({"DicomAttribute"}),
    "Item": frozenset({"DicomAttribute"}),
    "DicomAttribute": frozenset({"Value", "Item", "PersonName", "InlineBinary", "BulkData"}),
    "PersonName": frozenset(GROUPS),
    **dict.fromkeys(GROUPS, frozenset(_COMPONENTS)),
}
_INTEGERS = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_DECIMALS = frozenset({"FD", "FL"})
_WITH_TEXT = frozenset({"Value", "InlineBinary", *_COMPONENTS})


def read_native_xml(document: bytes) -> dict[str, Any]:
    """The attributes of the document's data set, as `json_dataset.elements_from_json` takes them.

    Raises InvalidInput, with the line, where the document breaks XML or the model.
    """
    return _Reader().read(document)


class _Node:
    """An element of the document that is open. ``content`` is what it stands for, as far as it was read."""

    __slots__ = ("attributes", "content", "creators", "name")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.content: dict[str, Any] = {}
        self.creators: list[tuple[str, str, dict[str, Any]]] = []
        """Private attributes whose block is known when the data set ends: tag, creator, attribute."""


class _Reader:
    def __init__(self) -> None:
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.ExternalEntityRefHandler = self._refuse_doctype
        self._stack: list[_Node] = [_Node("", {})]
        self._pieces: list[str] = []
        self._nodes = 0
        self._result: dict[str, Any] = {}

    def read(self, document: bytes) -> dict[str, Any]:
        try:
            self._parser.Parse(document, True)
        except expat.ExpatError as error:
            raise _broken("is not well-formed XML", error.lineno) from None
        except (LookupError, ValueError):  # an encoding that nobody knows
            raise _broken("is in an encoding that cannot be read", 1) from None
        return self._result

    def _refuse_doctype(self, *_: object) -> int:
        raise self._wrong_here("has a document type declaration, which the model does not know")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        self._nodes += 1
        if self._nodes > _NODES_MAX or len(self._stack) > _DEPTH_MAX:
            raise self._wrong_here("has too many elements, or too many inside one another")
        if name not in _CHILDREN.get(self._stack[-1].name, ()):
            raise self._wrong_here(f"has an element where only others may be (inside {self._stack[-1].name})")
        self._stack.append(_Node(name, attributes))
        self._pieces = []

    def _text(self, text: str) -> None:
        if self._stack[-1].name in _WITH_TEXT:
            self._pieces.append(text)
        elif text.strip():
            raise self._wrong_here("has text where only elements may be")

    def _end(self, _: str) -> None:
        node = self._stack.pop()
        parent = self._stack[-1]
        match node.name:
            case "DicomAttribute":
                self._take_attribute(parent, node)
            case "Item":
                self._take_value(parent, node, self._data_set(node))
            case "PersonName":
                self._take_value(parent, node, node.content or None)
            case "Value":
                self._take_value(parent, node, "".join(self._pieces) or None)
            case "InlineBinary":
                # Line breaks within base64 mean nothing (XML Schema Part 2 §3.2.16).
                self._take_only(parent, "InlineBinary", "".join("".join(self._pieces).split()))
            case "BulkData":
                uri = node.attributes.get("uri") or node.attributes.get("uuid")
                if not uri:
                    raise self._wrong_here("has BulkData without a uri")
                self._take_only(parent, "BulkDataURI", uri)
            case name if name == _ROOT:
                self._result = self._data_set(node)
            case name if name in GROUPS:
                components = [node.content.get(component, "") for component in _COMPONENTS]
                parent.content[name] = "^".join(components).rstrip("^")
            case name:
                parent.content[name] = "".join(self._pieces)
        self._pieces = []

    def _take_only(self, attribute: _Node, name: str, value: str) -> None:
        if attribute.content:
            raise self._wrong_here("has an attribute with more than one of values, InlineBinary, BulkData")
        attribute.content[name] = value

    def _take_value(self, attribute: _Node, node: _Node, value: object) -> None:
        values = attribute.content.setdefault("Value", [])
        if len(attribute.content) > 1:
            raise self._wrong_here("has an attribute with more than one of values, InlineBinary, BulkData")
        number = node.attributes.get("number", "")
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise self._wrong_here("has a value without a number")
        left_out = int(number) - len(values) - 1
        if not 0 <= left_out <= _VALUES_LEFT_OUT_MAX:
            raise self._wrong_here("has values that are not numbered from 1 in their order")
        self._nodes += left_out
        values.extend([None] * left_out)
        values.append(value)

    def _take_attribute(self, data_set: _Node, node: _Node) -> None:
        tag, vr = node.attributes.get("tag", ""), node.attributes.get("vr", "")
        if not _TAG.fullmatch(tag) or not vr:
            raise self._wrong_here("has an attribute without tag or vr")
        content = node.content
        if content.get("Value") == [None]:
            content = {}
        elif "Value" in content and vr in _INTEGERS | _DECIMALS:
            content = {"Value": [_number(text, vr) for text in content["Value"]]}
        attribute = {"vr": vr, **content}
        creator = node.attributes.get("privateCreator", "")
        if creator and is_private(int(tag, 16)):
            data_set.creators.append((tag.upper(), creator, attribute))
        else:
            self._put(data_set.content, tag.upper(), attribute)

    def _data_set(self, node: _Node) -> dict[str, Any]:
        """With private attributes in the blocks that their creators have there, or get (PS3.5 §7.8.1)."""
        data_set = node.content
        blocks: dict[tuple[str, str], str] = {}
        for tag, attribute in data_set.items():
            if is_private(int(tag, 16)) and tag[4:6] == "00" and tag[6:] >= "10":
                values = attribute.get("Value") or [""]
                blocks.setdefault((tag[:4], str(values[0]).strip()), tag[6:])
        for tag, creator, attribute in node.creators:
            group, name = tag[:4], creator.strip()
            block = blocks.get((group, name))
            if block is None:
                free = (f"{number:02X}" for number in range(0x10, 0x100))
                block = next((one for one in free if f"{group}00{one}" not in data_set), None)
                if block is None:
                    raise self._wrong_here("has more private creators than a group has room for")
                blocks[group, name] = block
                data_set[f"{group}00{block}"] = {"vr": "LO", "Value": [name]}
            self._put(data_set, f"{group}{block}{tag[6:]}", attribute)
        return data_set

    def _put(self, data_set: dict[str, Any], tag: str, attribute: dict[str, Any]) -> None:
        if tag in data_set:
            raise self._wrong_here("has an attribute twice in one data set")
        data_set[tag] = attribute

    def _wrong_here(self, what: str) -> InvalidInput:
        return _broken(what, self._parser.CurrentLineNumber)


def _number(text: Any, vr: str) -> Any:
    """As JSON has it (PS3.18 F.2.3). What is no number stays text: whoever reads the values refuses it."""
    try:
        number = int(text) if vr in _INTEGERS else float(text)
    except (TypeError, ValueError):
        return text
    return number if math.isfinite(number) else text


def _broken(what: str, line: int) -> InvalidInput:
    return InvalidInput(
        f"The XML document {what} (line {line}).",
        code="invalid-native-model",
        remedy="See PS3.19 A.1 for the model.",
    )
