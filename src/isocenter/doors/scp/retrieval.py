"""C-MOVE and C-GET request identifiers (PS3.4 C.4.2.1.4, C.4.3.1.3): which objects are meant.

The unique key of the level asked for has to be there; those of the levels above may be left out (relational
retrieval) and narrow where they are not. Anything else in an identifier is no business of a retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isocenter.dicom.charsets import decoder_for
from isocenter.dicom.element import Element
from isocenter.dicom.levels import Level
from isocenter.dicom.tags import (
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from isocenter.dicom.uids import UID_CHARS_MAX
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.protocol import statuses
from isocenter.doors.scp.identifiers import Model, character_sets_of, level_of, read_identifier
from isocenter.features.archive.selection import Selection

_OWN_KEY = {
    Level.PATIENT: PATIENT_ID,
    Level.STUDY: STUDY_INSTANCE_UID,
    Level.SERIES: SERIES_INSTANCE_UID,
    Level.INSTANCE: SOP_INSTANCE_UID,
}
_LEVELS = tuple(_OWN_KEY)
_UID_CHARACTERS = frozenset("0123456789.")  # where leniently taken in, components may begin with 0
_FIELD_OF = {STUDY_INSTANCE_UID: "studies", SERIES_INSTANCE_UID: "series", SOP_INSTANCE_UID: "instances"}
_NAMES = {
    PATIENT_ID: "Patient ID",
    STUDY_INSTANCE_UID: "Study Instance UID",
    SERIES_INSTANCE_UID: "Series Instance UID",
    SOP_INSTANCE_UID: "SOP Instance UID",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    level: Level
    selection: Selection

    def keys(self) -> dict[str, str]:
        """What was asked for, as the trail tells it."""
        asked = {"level": self.level.value, "PatientID": self.selection.patient_id}
        for tag, name in _FIELD_OF.items():
            asked[_NAMES[tag].replace(" ", "")] = "\\".join(getattr(self.selection, name))
        return {name: text for name, text in asked.items() if text}


def parse_retrieval(identifier: bytes, transfer_syntax_uid: str, model: Model) -> Wanted:
    """Raises DimseFailure (A900H) for what names no objects, ScanError for what is no data set."""
    elements = read_identifier(identifier, transfer_syntax_uid)
    _, level = level_of(elements, model)
    own = _OWN_KEY[level]
    fields: dict[str, Any] = {}
    for above in _LEVELS[: _LEVELS.index(level) + 1]:
        tag = _OWN_KEY[above]
        value = _text(elements.get(tag), elements)
        if not value and tag == own:
            raise _does_not_match(tag, f"no {_NAMES[tag]}")
        if value and tag == PATIENT_ID:
            fields |= _patient(value, elements)
        elif value:
            fields[_FIELD_OF[tag]] = _uids(tag, value)
    return Wanted(level, Selection(**fields))


def _patient(patient_id: str, elements: dict[int, Element]) -> dict[str, str | None]:
    """One patient, by the very ID (C.4.2.1.4.1): retrieval knows no patterns."""
    if "\\" in patient_id:
        raise _does_not_match(PATIENT_ID, "Patient ID is not a single value")
    issuer = _text(elements.get(ISSUER_OF_PATIENT_ID), elements)
    return {"patient_id": patient_id, "issuer": issuer or None}


def _uids(tag: int, value: str) -> tuple[str, ...]:
    uids = tuple(dict.fromkeys(uid.strip(" \0") for uid in value.split("\\")))
    if not all(0 < len(uid) <= UID_CHARS_MAX and set(uid) <= _UID_CHARACTERS for uid in uids):
        raise _does_not_match(tag, f"{_NAMES[tag]} holds no UIDs")
    return uids


def _text(element: Element | None, elements: dict[int, Element]) -> str:
    if element is None or not isinstance(element.value, bytes):
        return ""
    vr = "LO" if element.tag in {PATIENT_ID, ISSUER_OF_PATIENT_ID} else "UI"
    return decoder_for(character_sets_of(elements)).decode(element.value, vr).strip(" \0")


def _does_not_match(tag: int, comment: str) -> DimseFailure:
    return DimseFailure(statuses.IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, comment, (tag,))
