"""A patient's name, birth date and sex, each one value: as a person typed it, or an object's line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.dicom.datetimes import canonical_date
from isocenter.dicom.json_model import text_fragment
from isocenter.dicom.person_name import GROUPS
from isocenter.features.archive.attributes import ATTRIBUTES, column_text
from isocenter.features.archive.indexed_values import PATIENT_NAME, Value, name_values
from isocenter.kit.errors import InvalidInput

BIRTH_DATE, SEX = 0x00100030, 0x00100040
_GROUP_CHARACTERS_MAX = 64  # PN (PS3.5 §6.2)
_COMPONENTS_MAX = 5
_SEXES = ("M", "F", "O")  # PS3.3 C.7.1.1


@dataclass(frozen=True, slots=True)
class Demographic:
    """``fragment`` is the line, ``key`` what its column holds, ``values`` the rows to match on."""

    tag: int
    fragment: str
    key: str
    values: tuple[Value, ...] = ()

    @property
    def column(self) -> str:
        return str(ATTRIBUTES[self.tag].column)


def typed(tag: int, text: str) -> Demographic:
    """What a person typed, by the rules of its VR. Raises InvalidInput."""
    if not _CHECKS[tag](text):
        raise InvalidInput(
            f"The {_NAMES[tag]} is not one (PS3.5 §6.2).", code="invalid-demographics", remedy=_REMEDIES[tag]
        )
    return _demographic(tag, text_fragment(tag, ATTRIBUTES[tag].vr, [text]), [text])


def of_line(line: str) -> Demographic:
    """What an object told, from its line of DICOM JSON."""
    [(tag, attribute)] = orjson.loads("{" + line + "}").items()
    return _demographic(int(tag, 16), line, [_text(value) for value in attribute.get("Value", ())])


def _demographic(tag: int, fragment: str, texts: list[str]) -> Demographic:
    values = tuple(name_values(tag, texts)) if tag == PATIENT_NAME else ()
    return Demographic(tag, fragment, column_text("\\".join(texts), ATTRIBUTES[tag].folding), values)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "=".join(value.get(group, "") for group in GROUPS).rstrip("=")
    return "" if value is None else str(value)


def _is_name(text: str) -> bool:
    groups = text.split("=")
    return (
        bool(text.strip("=^ "))
        and text.isprintable()
        and "\\" not in text
        and text == text.strip()
        and len(groups) <= len(GROUPS)
        and all(len(one) <= _GROUP_CHARACTERS_MAX and one.count("^") < _COMPONENTS_MAX for one in groups)
    )


def _is_date(text: str) -> bool:
    return canonical_date(text) == text


def _is_sex(text: str) -> bool:
    return text in _SEXES


_CHECKS = {PATIENT_NAME: _is_name, BIRTH_DATE: _is_date, SEX: _is_sex}
_NAMES = {PATIENT_NAME: "name", BIRTH_DATE: "birth date", SEX: "sex"}
_REMEDIES = {
    PATIENT_NAME: "Write Family^Given^Middle^Prefix^Suffix, at most 64 characters.",
    BIRTH_DATE: "Write YYYYMMDD.",
    SEX: "Write M, F or O.",
}
