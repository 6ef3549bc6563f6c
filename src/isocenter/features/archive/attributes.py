"""Which attributes the index holds at which level, and which of them have a column to match on.

The choice follows the required and commonly asked keys of PS3.4 C.6.1.1 / C.6.2.1 (Query/Retrieve) and
PS3.18 Tables 10.6.1-5 and 10.6.3-3 … -5 (QIDO-RS). A level is that of the entity the attribute describes
(PS3.3 A.1), whatever object carries it.

What a sequence holds, and every person's name, is matched on by rows of its own: ``indexed_values.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isocenter.dicom.datetimes import canonical_date, canonical_time, canonical_zone
from isocenter.dicom.levels import Level
from isocenter.dicom.person_name import search_key


class Folding(StrEnum):
    """How an attribute's text becomes the column that it is matched on."""

    NONE = "none"  # as it is, trimmed
    NAME = "name"  # dicom.person_name.search_key
    TEXT = "text"  # the same folding: case and accents do not count
    DATE = "date"  # YYYYMMDD
    TIME = "time"  # HHMMSS.ffffff
    NUMBER = "number"
    ZONE = "zone"  # +HHMM, of the zones that there are


@dataclass(frozen=True, slots=True)
class Attribute:
    tag: int
    vr: str
    level: Level
    column: str | None = None  # of the level's table; None: matched on by its line or its own rows
    folding: Folding = Folding.NONE

    @property
    def has_values(self) -> bool:
        """Whether what it holds has rows of its own to match on."""
        return self.vr in _VRS_WITH_VALUES


_VRS_WITH_VALUES = frozenset({"PN", "SQ"})


def _of(level: Level, *rows: tuple[int, str] | tuple[int, str, str] | tuple[int, str, str, Folding]) -> None:
    for row in rows:
        attribute = Attribute(row[0], row[1], level, *row[2:])
        ATTRIBUTES[attribute.tag] = attribute


ATTRIBUTES: dict[int, Attribute] = {}

_of(
    Level.PATIENT,
    (0x00100010, "PN", "name_key", Folding.NAME),
    (0x00100020, "LO", "patient_id"),
    (0x00081120, "SQ"),
    (0x00100021, "LO", "issuer"),
    (0x00100024, "SQ"),
    (0x00100030, "DA", "birth_date", Folding.DATE),
    (0x00100032, "TM"),
    (0x00100040, "CS", "sex"),
    (0x00101000, "LO"),
    (0x00101001, "PN"),
    (0x00101002, "SQ"),
    (0x00102160, "SH"),
    (0x00104000, "LT"),
)
_of(
    Level.STUDY,
    (0x00080020, "DA", "study_date", Folding.DATE),
    (0x00080030, "TM", "study_time", Folding.TIME),
    (0x00080050, "SH", "accession_number"),
    (0x00080051, "SQ"),
    (0x00080090, "PN", "referring_physician_key", Folding.NAME),
    (0x00080201, "SH", "timezone", Folding.ZONE),
    (0x00081030, "LO", "description_key", Folding.TEXT),
    (0x00081032, "SQ"),
    (0x00081048, "PN"),
    (0x00081060, "PN"),
    (0x00081080, "LO"),
    (0x00081084, "SQ"),
    (0x00081110, "SQ"),
    (0x00101010, "AS"),
    (0x00101020, "DS"),
    (0x00101030, "DS"),
    (0x00102180, "SH"),
    (0x001021B0, "LT"),
    (0x0020000D, "UI", "study_instance_uid"),
    (0x00200010, "SH", "study_id"),
    (0x00401012, "SQ"),
)
_of(
    Level.SERIES,
    (0x00080021, "DA", "series_date", Folding.DATE),
    (0x00080031, "TM", "series_time", Folding.TIME),
    (0x00080060, "CS", "modality"),
    (0x00080070, "LO"),
    (0x00080080, "LO"),
    (0x00081010, "SH", "station_name"),
    (0x0008103E, "LO", "description_key", Folding.TEXT),
    (0x00081040, "LO"),
    (0x00081050, "PN", "performing_physician_key", Folding.NAME),
    (0x00081070, "PN"),
    (0x00081090, "LO"),
    (0x00081111, "SQ"),
    (0x00081250, "SQ"),
    (0x00082218, "SQ"),
    (0x00180015, "CS", "body_part_examined"),
    (0x00181030, "LO"),
    (0x00185100, "CS"),
    (0x0020000E, "UI", "series_instance_uid"),
    (0x00200011, "IS", "series_number", Folding.NUMBER),
    (0x00200052, "UI"),
    (0x00200060, "CS"),
    (0x00400244, "DA", "pps_start_date", Folding.DATE),
    (0x00400245, "TM", "pps_start_time", Folding.TIME),
    (0x00400253, "SH"),
    (0x00400254, "LO"),
    (0x00400260, "SQ"),
    (0x00400275, "SQ"),
)
_of(
    Level.INSTANCE,
    (0x00080008, "CS"),
    (0x00080016, "UI", "sop_class_uid"),
    (0x00080018, "UI", "sop_instance_uid"),
    (0x00080022, "DA"),
    (0x00080023, "DA", "content_date", Folding.DATE),
    (0x00080032, "TM"),
    (0x00080033, "TM", "content_time", Folding.TIME),
    (0x00200012, "IS"),
    (0x00200013, "IS", "instance_number", Folding.NUMBER),
    (0x00200032, "DS"),
    (0x00280004, "CS"),
    (0x00280008, "IS", "number_of_frames", Folding.NUMBER),
    (0x00280010, "US"),
    (0x00280011, "US"),
    (0x00280100, "US"),
    (0x0040A043, "SQ"),
    (0x0040A370, "SQ"),
    (0x0040A372, "SQ"),
    (0x0040A491, "CS"),
    (0x0040A493, "CS"),
    (0x00540220, "SQ"),
    (0x00700080, "CS"),
    (0x00700081, "LO"),
)

AT_LEVEL: dict[Level, tuple[Attribute, ...]] = {
    level: tuple(sorted((a for a in ATTRIBUTES.values() if a.level is level), key=lambda a: a.tag))
    for level in Level
}

COLUMN_CHARACTERS_MAX = 256
"""Longer text is matched on its beginning; PostgreSQL's B-trees refuse entries of more than 2,704 bytes."""

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""What stands for bytes that no character set explains, and for NUL, which PostgreSQL keeps in no text."""

_INTEGER_MAX = 2**63 - 1


def column_text(text: str, folding: Folding) -> str:
    """What stands in the column for an attribute's text; empty where the text is not what its VR promises."""
    if folding is Folding.DATE:
        return canonical_date(text) or ""
    if folding is Folding.TIME:
        return canonical_time(text) or ""
    if folding is Folding.ZONE:
        return canonical_zone(text) or ""
    if folding in {Folding.NAME, Folding.TEXT}:
        text = search_key(text)
    elif "\0" in text:
        text = text.replace("\0", UNREADABLE)
    return text[:COLUMN_CHARACTERS_MAX]


def column_number(text: str) -> int | None:
    """An IS as a number; None where it is none."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if abs(number) <= _INTEGER_MAX else None
