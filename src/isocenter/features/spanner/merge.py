"""What several archives say, as one answer. Pure: a function of who said what, whatever the order it came in.

Rows are joined by what tells entities of their level apart (`question.UNIQUE_KEYS`), never by position, and
only where they can be of one patient (`persons`). What describes the patient comes as a whole from one
source, so that no answer has the name from one archive and the birth date from another; so do date, time and
time zone. Other values come from the first source, in the order of their standing, that has one. What
sources contradict each other in is told with each one's value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from isocenter.dicom.levels import Level
from isocenter.dicom.matching import normalise
from isocenter.dicom.tags import ISSUER_OF_PATIENT_ID, PATIENT_ID
from isocenter.features.spanner.persons import Person, person_of, same_in_one_study, same_patient
from isocenter.features.spanner.question import UNIQUE_KEYS
from isocenter.features.spanner.rows import (
    Row,
    first_value,
    is_empty,
    row_json,
    strings_attribute,
    values_of,
    vr_of_attribute,
)

Identity = tuple[str, ...]

INSTANCE_AVAILABILITY = 0x00080056
RETRIEVE_AE_TITLE = 0x00080054
RETRIEVE_URL = 0x00081190
STUDY_DATE = 0x00080020

_AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")  # PS3.3 C.4.23.1.1, the best first
_UNITED = frozenset({0x00080061, 0x00080062, RETRIEVE_AE_TITLE})  # modalities, SOP classes, who has it
_COUNTS = frozenset(range(0x00201200, 0x0020120A, 2)) | {0x00201209}
_SOURCES_OWN = frozenset({INSTANCE_AVAILABILITY, RETRIEVE_URL, *_UNITED, *_COUNTS})
"""Where a difference is no contradiction."""

_WHEN = frozenset({STUDY_DATE, 0x00080030, 0x00080201})
_REFERENCED_PATIENT = 0x00081120


@dataclass(frozen=True, slots=True)
class Standing:
    """A source as the merge knows it: ``rank`` from 0, the most trusted first; ``issuer``: who gave out the
    patient IDs of rows that do not say it."""

    source_id: int
    rank: int
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """``values``: source → the attribute as that source has it."""

    tag: int
    values: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """``row``: the merged attributes. ``origins``: tag → the source whose value that is; what is united of
    several has none. ``shared_name``: another answer has the same UIDs, of another patient."""

    identity: Identity
    row: Row
    found_in: tuple[int, ...]
    origins: Mapping[int, int]
    contradictions: tuple[Contradiction, ...] = ()
    shared_name: bool = False

    def json(self) -> str:
        return row_json(self.row)


@dataclass(slots=True)
class _Member:
    """A row of a source; ``others``: further sources with the very same one."""

    source: Standing
    row: Row
    person: Person
    others: tuple[int, ...] = ()

    @property
    def sources(self) -> tuple[int, ...]:
        return self.source.source_id, *self.others


@dataclass(slots=True)
class Gathered:
    """Rows by identity and source, each once. Union is the only thing that ever happens to it."""

    level: Level
    _rows: dict[Identity, dict[int, list[Row]]] = field(default_factory=dict)

    def add(self, source_id: int, rows: Iterable[Row]) -> int:
        """How many were left out, having nothing to be known by."""
        nameless = 0
        for row in rows:
            identity = identity_of(self.level, row)
            if identity is None:
                nameless += 1
                continue
            of_source = self._rows.setdefault(identity, {}).setdefault(source_id, [])
            if row not in of_source:
                of_source.append(row)
        return nameless

    def answers(self, sources: Iterable[Standing], *, joined: bool = True) -> list[Answer]:
        """In display order: the latest study first, then by identity. Not ``joined``: each source's rows are
        answers of their own."""
        standings = {source.source_id: source for source in sources}
        found: list[Answer] = []
        for identity, by_source in self._rows.items():
            members = [
                _Member(standings[source_id], row, person_of(row, standings[source_id].issuer))
                for source_id, rows in by_source.items()
                for row in (rows if len(rows) == 1 else sorted(rows, key=row_json))
            ]
            found.extend(
                _answers(self.level, identity, members)
                if joined
                else [_of_one(identity, member) for member in sorted(members, key=_standing)]
            )
        return sorted(found, key=_display_order)


def identity_of(level: Level, row: Row) -> Identity | None:
    """None where the row lacks a UID (or the patient an ID)."""
    if level is Level.PATIENT:
        # The issuer is judged by `persons`: sources that do not tell theirs have a default.
        patient_id = first_value(row, PATIENT_ID)
        return (patient_id,) if patient_id else None
    identity = tuple(first_value(row, tag) for tag in UNIQUE_KEYS[level])
    return identity if all(identity) else None


def _answers(level: Level, identity: Identity, members: list[_Member]) -> list[Answer]:
    members.sort(key=_standing)
    members = _different(members)
    if len(members) == 1:
        return [_of_one(identity, members[0])]
    alike = same_patient if level is Level.PATIENT else same_in_one_study
    patients = _by_patient(members, alike)
    # At the patient level equal IDs of two domains are no surprise.
    shared = len(patients) > 1 and level is not Level.PATIENT
    return [_of_many(identity, some, shared=shared) for some in patients]


def _different(members: list[_Member]) -> list[_Member]:
    """Archives that have a study from the same place mostly say the same of it, word for word."""
    found: list[_Member] = []
    for member in members:
        for known in found:
            if known.row == member.row and known.source.issuer == member.source.issuer:
                known.others += (member.source.source_id,)
                break
        else:
            found.append(member)
    return found


def _standing(member: _Member) -> tuple[int, int]:
    return member.source.rank, member.source.source_id


def _by_patient(members: Sequence[_Member], alike: Callable[[Person, Person], bool]) -> list[list[_Member]]:
    """Each to the first patient with whom every row can be of one: being alike is not transitive."""
    patients: list[list[_Member]] = []
    for member in members:
        for some in patients:
            if all(alike(one.person, member.person) for one in some):
                some.append(member)
                break
        else:
            patients.append([member])
    return patients


def _of_one(identity: Identity, member: _Member) -> Answer:
    source_id = member.source.source_id
    row = {tag: value for tag, value in _completed(member).items() if tag != RETRIEVE_URL}
    return Answer(identity, row, tuple(dict.fromkeys(member.sources)), dict.fromkeys(row, source_id))


def _of_many(identity: Identity, members: list[_Member], *, shared: bool) -> Answer:
    row: dict[int, str] = {}
    origins: dict[int, int] = {}
    about_patient = next((one for one in members if one.person.is_told), members[0])
    about_time = next((one for one in members if first_value(one.row, STUDY_DATE)), members[0])
    differing: dict[int, dict[int, str]] = {}
    for member in members:
        for tag, value in (_completed(member) if member is about_patient else member.row).items():
            if tag in _SOURCES_OWN:
                continue
            if (_is_about_patient(tag) and member is not about_patient) or (
                tag in _WHEN and member is not about_time
            ):
                pass
            elif tag not in row or (is_empty(row[tag]) and not is_empty(value)):
                row[tag] = value
                origins[tag] = member.source.source_id
            if not is_empty(value):
                of_tag = differing.setdefault(tag, {})
                for source_id in member.sources:
                    of_tag.setdefault(source_id, value)
    _unite(row, members)
    found_in = tuple(dict.fromkeys(source_id for member in members for source_id in member.sources))
    return Answer(identity, row, found_in, origins, _contradictions(differing), shared)


def _is_about_patient(tag: int) -> bool:
    return tag >> 16 == 0x0010 or tag == _REFERENCED_PATIENT


def _completed(member: _Member) -> Row:
    """With the issuer of the patient's ID, where the source is known to have one domain."""
    if (
        member.source.issuer
        and member.person.patient_id
        and not first_value(member.row, ISSUER_OF_PATIENT_ID)
    ):
        return {**member.row, ISSUER_OF_PATIENT_ID: strings_attribute("LO", [member.source.issuer])}
    return member.row


def _unite(row: dict[int, str], members: Sequence[_Member]) -> None:
    """What is said of the entity as a source has it. Of counts the largest: an archive may lack some of it,
    none has more than there is."""
    for tag in {tag for member in members for tag in member.row} & _SOURCES_OWN - {RETRIEVE_URL}:
        given = [member.row[tag] for member in members if tag in member.row]
        if len(set(given)) == 1:
            row[tag] = given[0]
        elif tag in _UNITED:
            values = sorted({value for one in given for value in values_of(one)})
            row[tag] = strings_attribute(vr_of_attribute(given[0]), values)
        elif tag in _COUNTS:
            row[tag] = max(given, key=lambda one: (_number(one), one))
        else:
            row[tag] = min(given, key=lambda one: (_availability(one), one))


def _number(attribute: str) -> int:
    values = values_of(attribute)
    return int(values[0]) if values and values[0].isdecimal() else -1


def _availability(attribute: str) -> int:
    values = values_of(attribute)
    return (
        _AVAILABILITIES.index(values[0]) if values and values[0] in _AVAILABILITIES else len(_AVAILABILITIES)
    )


def _contradictions(differing: Mapping[int, Mapping[int, str]]) -> tuple[Contradiction, ...]:
    return tuple(
        Contradiction(tag, values)
        for tag, values in sorted(differing.items())
        if len(set(values.values())) > 1 and len({_compared(value) for value in values.values()}) > 1
    )


def _compared(attribute: str) -> tuple[str, ...] | str:
    """Spelling apart: upper and lower case of names, ``007`` and ``7``."""
    vr = vr_of_attribute(attribute)
    return attribute if vr == "SQ" else tuple(normalise(vr, value) for value in values_of(attribute))


def _display_order(answer: Answer) -> tuple[str, Identity]:
    """Descending dates as ascending text: each digit's complement to nine. Those without one come last. Of
    several patients under one UID the most trusted source's stays first: sorting is stable."""
    when = first_value(answer.row, STUDY_DATE)[:8]
    descending = when.translate(_COMPLEMENTS) if when.isdecimal() else "~"
    return descending, answer.identity


_COMPLEMENTS = str.maketrans("0123456789", "9876543210")
