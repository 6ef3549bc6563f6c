"""What a study's answer says of its series, looked up for one page where it was asked for (PS3.4 C.3.4).

SOP Classes in Study (0008,0062) and Anatomic Regions in Study Code Sequence (0008,0063).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import orjson

from isocenter.dicom.json_model import sequence_fragment, text_fragment
from isocenter.dicom.levels import Level
from isocenter.features.archive.merge import fragments_by_tag
from isocenter.features.archive.query_model import SOP_CLASSES_IN_STUDY
from isocenter.features.archive.query_results import Match
from isocenter.platform.db import Row, Sql, Work

ANATOMIC_REGIONS_IN_STUDY = 0x00080063
SUPPLEMENTED = frozenset({SOP_CLASSES_IN_STUDY, ANATOMIC_REGIONS_IN_STUDY})
_ANATOMIC_REGION = 0x00082218

FIND_SOP_CLASSES = Sql("""
    SELECT study_pk, sop_classes, '' AS fragments FROM series
    WHERE organization_id = :organization_id AND study_pk IN :study_pks ORDER BY study_pk, id
""")

FIND_FRAGMENTS = Sql("""
    SELECT study_pk, sop_classes, fragments FROM series
    WHERE organization_id = :organization_id AND study_pk IN :study_pks ORDER BY study_pk, id
""")


Told = dict[int, list[str]]
"""Lines by the study's row."""


class Supplements:
    """True where there is something to look up."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: frozenset[int]) -> None:
        self._wanted = wanted

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def find(self, organization_id: int, rows: Sequence[Row]) -> Work[Told | None]:
        if not (self._wanted and rows):
            return None
        statement = FIND_FRAGMENTS if ANATOMIC_REGIONS_IN_STUDY in self._wanted else FIND_SOP_CLASSES
        found = yield statement(organization_id=organization_id, study_pks=[row[0] for row in rows])
        series: dict[int, list[Row]] = {}
        for row in found:
            series.setdefault(row["study_pk"], []).append(row)
        return {study_pk: self._lines(of_study) for study_pk, of_study in series.items()}

    def add(self, matches: Sequence[Match], rows: Sequence[Row], told: Told) -> None:
        """``rows`` are those that the matches were made of, or more."""
        for match, row in zip(matches, rows, strict=False):
            match.lines += told.get(row[0], ())

    def _lines(self, series: Sequence[Row]) -> list[str]:
        lines = []
        if SOP_CLASSES_IN_STUDY in self._wanted:
            classes = sorted({uid for row in series for uid in row["sop_classes"].split(" ") if uid})
            lines.append(text_fragment(SOP_CLASSES_IN_STUDY, "UI", classes))
        if ANATOMIC_REGIONS_IN_STUDY in self._wanted:
            regions = [one for row in series for one in _items(row["fragments"])]
            lines.append(sequence_fragment(ANATOMIC_REGIONS_IN_STUDY, list(dict.fromkeys(regions))))
        return lines


def _items(fragments: str) -> list[str]:
    """The items of the series' Anatomic Region Sequence, as JSON."""
    line = fragments_by_tag(fragments).get(_ANATOMIC_REGION)
    if line is None:
        return []
    attribute = orjson.loads("{" + line + "}")[f"{_ANATOMIC_REGION:08X}"]
    return [orjson.dumps(item).decode() for item in attribute.get("Value", ())]


@lru_cache(maxsize=64)
def _supplements(wanted: frozenset[int]) -> Supplements:
    return Supplements(wanted)


def supplements_of(level: Level, returned: frozenset[int]) -> Supplements:
    return _supplements(returned & SUPPLEMENTED if level is Level.STUDY else frozenset())
