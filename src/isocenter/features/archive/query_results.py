"""From the rows of a search to answers made of ready lines (see ``tables.py``): nothing is parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from isocenter.dicom.levels import Level
from isocenter.platform.db import Row

SPECIFIC_CHARACTER_SET = 0x00080005
INSTANCE_AVAILABILITY = 0x00080056
PATIENT_COUNTS = frozenset({0x00201200, 0x00201202, 0x00201204})

# JSON is UTF-8 (PS3.18 F.2.2 note 3); what is in the archive is on line (PS3.4 C.4.1.1.3.2).
_CONSTANT_LINES = {
    SPECIFIC_CHARACTER_SET: '"00080005":{"vr":"CS","Value":["ISO_IR 192"]}',
    INSTANCE_AVAILABILITY: '"00080056":{"vr":"CS","Value":["ONLINE"]}',
}

# Columns of a result row: their positions are used below.
_STUDY = 2  # study_instance_uid, modalities, series_count, instance_count
_SERIES = 6  # series_instance_uid, instance_count
_INSTANCE = 8  # sop_instance_uid, transfer_syntax_uid
_OWN = {Level.SERIES: 8, Level.INSTANCE: 10}  # the level's own fragments, apart from those above
_WIDTH = {Level.PATIENT: 2, Level.STUDY: 6, Level.SERIES: 9, Level.INSTANCE: 11}

_COLUMNS = {
    Level.PATIENT: "p.id, p.fragments",
    Level.STUDY: "s.id, p.fragments || '\n' || s.fragments,"
    " s.study_instance_uid, s.modalities, s.series_count, s.instance_count",
    Level.SERIES: "e.id, p.fragments || '\n' || s.fragments,"
    " s.study_instance_uid, s.modalities, s.series_count, s.instance_count,"
    " e.series_instance_uid, e.instance_count, e.fragments",
    Level.INSTANCE: "i.id, p.fragments || '\n' || s.fragments || '\n' || e.fragments,"
    " s.study_instance_uid, s.modalities, s.series_count, s.instance_count,"
    " e.series_instance_uid, e.instance_count, i.sop_instance_uid, i.transfer_syntax_uid, i.fragments",
}
_OF_PATIENT = "FROM study x WHERE x.organization_id = :organization_id AND x.patient_pk = p.id"
_PATIENT_COUNT_COLUMNS = ", ".join(
    (
        "",
        *(
            f"(SELECT {what} {_OF_PATIENT})"
            for what in ("count(*)", "sum(x.series_count)", "sum(x.instance_count)")
        ),
    )
)


def columns_of(level: Level, *, with_patient_counts: bool) -> str:
    """What a search at ``level`` selects."""
    return _COLUMNS[level] + (_PATIENT_COUNT_COLUMNS if with_patient_counts else "")


@dataclass(slots=True)
class Match:
    """One entity that a search found. ``lines``: one attribute each, as DICOM JSON, in no order yet."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    lines: list[str]

    def json(self) -> str:
        """The DICOM JSON object: attributes in ascending order of tag (PS3.18 F.2.2)."""
        return "{" + ",".join(sorted(self.lines)) + "}"


class Shape:
    """How the rows of one kind of search become matches; made once per level and set of tags."""

    __slots__ = ("_computed", "_constant", "_last", "_level", "_own", "_wanted")

    def __init__(self, level: Level, returned: frozenset[int]) -> None:
        self._level = level
        self._own = _OWN.get(level)
        self._last: tuple[str, list[str]] = ("", [])
        self._wanted = frozenset(f"{tag:08X}" for tag in returned)
        self._constant = [line for tag, line in _CONSTANT_LINES.items() if tag in returned]
        self._computed = [line for tag, line in _computed_lines(level).items() if tag in returned]

    def match(self, row: Row) -> Match:
        wanted = self._wanted
        if self._own is None:
            lines = [line for line in row[1].split("\n") if line[1:9] in wanted]
        else:
            lines = self._of_above(row[1]) + [
                line for line in row[self._own].split("\n") if line[1:9] in wanted
            ]
        lines += self._constant
        for compute in self._computed:
            if line := compute(row):
                lines.append(line)
        match self._level:
            case Level.STUDY:
                return Match(row[_STUDY], "", "", lines)
            case Level.SERIES:
                return Match(row[_STUDY], row[_SERIES], "", lines)
            case Level.INSTANCE:
                return Match(row[_STUDY], row[_SERIES], row[_INSTANCE], lines)
            case Level.PATIENT:
                return Match("", "", "", lines)

    def _of_above(self, text: str) -> list[str]:
        """What the levels above say, which mostly is what they said of the match before."""
        known, lines = self._last
        if text != known:
            lines = [line for line in text.split("\n") if line[1:9] in self._wanted]
            self._last = text, lines
        return lines


@lru_cache(maxsize=256)
def shape_of(level: Level, returned: frozenset[int]) -> Shape:
    return Shape(level, returned)


def _computed_lines(level: Level) -> dict[int, Callable[[Row], str]]:
    counts = _WIDTH[level]
    lines: dict[int, Callable[[Row], str]] = {
        0x00201200: _number_line("00201200", counts),
        0x00201202: _number_line("00201202", counts + 1),
        0x00201204: _number_line("00201204", counts + 2),
    }
    if level is Level.PATIENT:
        return lines
    lines[0x00080061] = _modalities_line
    lines[0x00201206] = _number_line("00201206", _STUDY + 2)
    lines[0x00201208] = _number_line("00201208", _STUDY + 3)
    if level is Level.STUDY:
        return lines
    lines[0x00201209] = _number_line("00201209", _SERIES + 1)
    if level is Level.INSTANCE:
        lines[0x00083002] = _transfer_syntax_line
    return lines


def _number_line(tag: str, position: int) -> Callable[[Row], str]:
    head = f'"{tag}":{{"vr":"IS","Value":['

    def line(row: Row) -> str:
        return f"{head}{int(row[position] or 0)}]}}"

    return line


def _modalities_line(row: Row) -> str:
    modalities: str = row[_STUDY + 1]
    if not modalities:
        return '"00080061":{"vr":"CS"}'
    return f'"00080061":{{"vr":"CS","Value":[{_strings(modalities.split(chr(92)))}]}}'


def _transfer_syntax_line(row: Row) -> str:
    return f'"00083002":{{"vr":"UI","Value":[{_strings([row[_INSTANCE + 1]])}]}}'


def _strings(values: Sequence[str]) -> str:
    return ",".join(map(_string, values))


def _string(value: str) -> str:
    # UIDs and code strings come from objects and may hold anything.
    return orjson.dumps(value).decode()
