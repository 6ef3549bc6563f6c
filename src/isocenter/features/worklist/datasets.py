"""Data sets as DICOM JSON (PS3.18 F.2): reading attributes, writing some, checking what strangers send.

Everything that worklists keep is DICOM JSON text: what DIMSE brings is turned into it, what XML brings too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from isocenter.dicom.dictionary import vr_of
from isocenter.dicom.json_dataset import elements_from_json
from isocenter.dicom.json_values import TEXT_VRS, text_of
from isocenter.kit.errors import InvalidInput

DataSet = dict[str, Any]
"""Attributes by tag: eight upper-case hexadecimal digits."""

DOCUMENT_BYTES_MAX = 512 << 10


def parsed(document: str | bytes) -> DataSet:
    """One of ours, which need not be checked again."""
    data_set: DataSet = orjson.loads(document)
    return data_set


def serialized(data_set: Mapping[str, Any]) -> str:
    """Raises InvalidInput when it is too large to be kept."""
    document = orjson.dumps(dict(sorted(data_set.items())))
    if len(document) > DOCUMENT_BYTES_MAX:
        raise InvalidInput(
            f"The data set is larger than {DOCUMENT_BYTES_MAX} bytes.",
            code="invalid-dicom-json",
            remedy="Worklists take descriptions, not images.",
        )
    return document.decode()


def checked(given: object) -> DataSet:
    """A stranger's DICOM JSON with upper-case tags, without group lengths, file meta information and command
    elements. Raises InvalidInput, naming the place as a JSON pointer."""
    elements_from_json(given)  # as strict as for anything else that is stored
    assert isinstance(given, dict)
    found = {}
    for name, attribute in given.items():
        tag = int(name, 16)
        if tag >> 16 > 0x0007 and tag & 0xFFFF:
            found[f"{tag:08X}"] = _checked_attribute(attribute)
    return found


def _checked_attribute(attribute: Mapping[str, Any]) -> DataSet:
    if attribute["vr"] == "SQ" and attribute.get("Value"):
        return {"vr": "SQ", "Value": [checked(item or {}) for item in attribute["Value"]]}
    return dict(attribute)


def text(data_set: Mapping[str, Any], tag: int) -> str:
    """The values as one text, backslashes between; empty where there is none. Not for sequences."""
    attribute = data_set.get(f"{tag:08X}")
    if not attribute or not attribute.get("Value"):
        return ""
    vr, values = attribute["vr"], attribute["Value"]
    return text_of(values, vr) if vr in TEXT_VRS else "\\".join(map(str, values))


def items(data_set: Mapping[str, Any], tag: int) -> list[DataSet]:
    """The items of a sequence; none where it is missing or empty."""
    attribute = data_set.get(f"{tag:08X}")
    if not attribute or attribute["vr"] != "SQ":
        return []
    return [item or {} for item in attribute.get("Value") or ()]


def has_value(data_set: Mapping[str, Any], tag: int) -> bool:
    attribute = data_set.get(f"{tag:08X}")
    if not attribute:
        return False
    values = attribute.get("Value") or attribute.get("InlineBinary") or attribute.get("BulkDataURI")
    return bool(values) and values not in ([None], [""], [{}])


def put(data_set: DataSet, tag: int, *values: Any) -> None:
    """Set an attribute of the standard; without values it becomes an empty one."""
    vr = vr_of(tag)
    written = [{"Alphabetic": value} if vr == "PN" and isinstance(value, str) else value for value in values]
    data_set[f"{tag:08X}"] = {"vr": vr, "Value": written} if written else {"vr": vr}


def chosen(data_set: Mapping[str, Any], tags: Iterable[int]) -> DataSet:
    """Those of the attributes that are there."""
    names = (f"{tag:08X}" for tag in tags)
    return {name: data_set[name] for name in names if name in data_set}
