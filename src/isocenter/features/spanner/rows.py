"""One match of one source: attributes as ready DICOM JSON text, which nobody parses without need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from isocenter.dicom.tags import SPECIFIC_CHARACTER_SET

Row = Mapping[int, str]
"""Tag → what stands after ``"GGGGEEEE":`` in DICOM JSON (PS3.18 F.2): ``{"vr":"UI","Value":["1.2"]}``."""

_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_OTHER_CONTENT = ("BulkDataURI", "InlineBinary")


def row_of_lines(lines: Sequence[str]) -> dict[int, str]:
    """Of attributes as ``dicom.json_model`` writes them: ``"00100020":{…}``."""
    return {tag: line[11:] for line in lines if (tag := int(line[1:9], 16)) != SPECIFIC_CHARACTER_SET}


def row_of_json(attributes: Mapping[str, Any]) -> dict[int, str]:
    """Of a match as a DICOMweb server gave it, in the one spelling that texts are compared in.

    Whatever is no attribute is left out, and Specific Character Set, which tells how the source's objects are
    encoded: JSON is UTF-8 (PS3.18 F.2.2).
    """
    row: dict[int, str] = {}
    for name, attribute in attributes.items():
        if len(name) != 8 or not isinstance(attribute, dict) or not isinstance(attribute.get("vr"), str):
            continue
        try:
            row[int(name, 16)] = _spelled(attribute)
        except ValueError:
            continue
    row.pop(SPECIFIC_CHARACTER_SET, None)
    return row


def _spelled(attribute: Mapping[str, Any]) -> str:
    plain: dict[str, Any] = {"vr": attribute["vr"]}
    values = attribute.get("Value")
    if isinstance(values, list) and values:
        plain["Value"] = [_name(one) for one in values] if attribute["vr"] == "PN" else values
    for content in _OTHER_CONTENT:
        if isinstance(attribute.get(content), str):
            plain[content] = attribute[content]
    return orjson.dumps(plain).decode()


def _name(value: Any) -> Any:
    """Some servers write a name as plain text."""
    if isinstance(value, str):
        return {group: part for group, part in zip(_GROUPS, value.split("=", 2), strict=False) if part}
    if isinstance(value, dict):
        return {group: value[group] for group in _GROUPS if value.get(group)}
    return value


def is_empty(attribute: str) -> bool:
    """Whether it has no value."""
    return len(attribute) <= len('{"vr":"XX"}')


@lru_cache(maxsize=8192)
def values_of(attribute: str | None) -> tuple[str, ...]:
    """Its values as text, those of a name as ``Alphabetic=Ideographic=Phonetic``; sequences have none."""
    if not attribute or is_empty(attribute):
        return ()
    values = orjson.loads(attribute).get("Value", ())
    return tuple(text for value in values if (text := _text(value)))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "=".join(str(value.get(group) or "") for group in _GROUPS).rstrip("=")
    return "" if value is None else str(value)


def vr_of_attribute(attribute: str) -> str:
    return attribute[7:9]


def first_value(row: Row, tag: int) -> str:
    values = values_of(row.get(tag))
    return values[0].strip(" \0") if values else ""


def strings_attribute(vr: str, values: Sequence[str]) -> str:
    return orjson.dumps({"vr": vr, "Value": list(values)} if values else {"vr": vr}).decode()


def row_json(row: Row) -> str:
    """The DICOM JSON object: attributes in ascending order of tag (PS3.18 F.2.2)."""
    return "{" + ",".join([f'"{tag:08X}":{row[tag]}' for tag in sorted(row)]) + "}"
