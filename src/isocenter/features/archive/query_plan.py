"""From a search to one SQL statement: which tables, in which order, under which conditions.

Each of patient, study, series and instance is joined only as far down as the search looks, and the most
selective of them comes first. SQLite keeps the order of a ``CROSS JOIN`` (PostgreSQL decides for itself), so
that a search by Patient ID never walks all studies because an index would have sorted them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from isocenter.dicom.dictionary import keyword_of
from isocenter.dicom.matching import DateTimeRange, MatchingKey, Universal, Wildcard
from isocenter.features.archive.attributes import ATTRIBUTES, Attribute, Folding, Level
from isocenter.features.archive.query_conditions import (
    Parameters,
    combined_condition,
    condition,
    empty_condition,
    fragment_condition,
    matching_key,
    time_bounds,
)
from isocenter.features.archive.query_results import PATIENT_COUNTS, columns_of
from isocenter.kit.errors import InvalidInput
from isocenter.platform.db import Sql, composed

MODALITIES_IN_STUDY = 0x00080061
EMPTY_VALUE = '""'

LEVELS = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
_ALIAS = {Level.PATIENT: "p", Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}
_JOINS = ("s.patient_pk = p.id", "e.study_pk = s.id", "i.series_pk = e.id")

# The lower, the fewer rows one value leaves: these lead the join. Everything else comes after them.
_SELECTIVITY = {
    0x00080018: 0,  # SOP Instance UID
    0x0020000E: 1,  # Series Instance UID
    0x0020000D: 2,  # Study Instance UID
    0x00080050: 3,  # Accession Number
    0x00100020: 4,  # Patient ID
    0x00200010: 5,  # Study ID
    0x00100010: 6,  # Patient's Name
    0x00100030: 7,  # Patient's Birth Date
    0x00080020: 8,  # Study Date
}
_NOT_SELECTIVE = 100

# Combined matching (PS3.4 C.2.2.2.5): a date and the time that goes with it.
_TIME_OF_DATE = {
    0x00080020: 0x00080030,
    0x00080021: 0x00080031,
    0x00080023: 0x00080033,
    0x00400244: 0x00400245,
}

# Display order: newest study first, then as the objects number themselves; the row's id decides ties.
_ORDER = {
    Level.PATIENT: "p.id",
    Level.STUDY: "s.study_date DESC, s.id DESC",
    Level.SERIES: "s.study_date DESC, s.id DESC, e.series_number IS NULL, e.series_number, e.id",
    Level.INSTANCE: "s.study_date DESC, s.id DESC, e.series_number IS NULL, e.series_number, e.id,"
    " i.instance_number IS NULL, i.instance_number, i.id",
}

# Asked along by clients, said of the answer rather than matched against it.
_NEVER_MATCHED = frozenset({0x00080005, 0x00080052, 0x00080054, 0x00080056, 0x00081190})


@dataclass(frozen=True, slots=True)
class Query:
    """A search at one level.

    ``matches`` maps tags of this level and of those above to the text of their matching key (PS3.4 C.2.2.2;
    empty: universal). ``returned`` are the tags wanted in the answers. ``limit`` and ``offset`` cut a single
    page; `Search.pages` ignores them. ``combined_datetime``: a date range and a time range are one range.
    """

    level: Level
    matches: Mapping[int, str]
    returned: frozenset[int]
    limit: int = 1000
    offset: int = 0
    combined_datetime: bool = True
    empty_value_matching: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    sql: Sql
    params: dict[str, Any]


@dataclass(slots=True)
class Conditions:
    """What a search asks of the index; ``unsupported`` are keys that the answers do not respect."""

    params: Parameters
    texts: list[str] = field(default_factory=list)
    first: Level | None = None
    unsupported: tuple[int, ...] = ()


def conditions_of(query: Query, organization_id: int) -> Conditions:
    """Raises InvalidInput for a value that its attribute cannot have."""
    found = Conditions(Parameters(organization_id=organization_id))
    keys = _keys(query, found)
    best = _NOT_SELECTIVE
    for tag in _combined(query, keys, found):
        del keys[tag]
        best, found.first = 8, ATTRIBUTES[tag].level
    for tag, key in keys.items():
        attribute = ATTRIBUTES[tag]
        text = _on_attribute(attribute, key, found.params)
        if text is None:
            found.unsupported += (tag,)
        elif text:
            found.texts.append(text)
            rank = _selectivity(tag, key)
            if rank < best:
                best, found.first = rank, attribute.level
    return found


def plan_page(query: Query, found: Conditions) -> Plan:
    """One page in display order; asks for one row more than the limit, which tells whether there are more."""
    return _plan(
        query,
        found,
        [],
        f"ORDER BY {_ORDER[query.level]} LIMIT :limit OFFSET :offset",
        {"limit": query.limit + 1, "offset": query.offset},
    )


def plan_after(query: Query, found: Conditions, *, after: int, rows: int) -> Plan:
    """The next rows in the order of their ids: no page costs more than the one before it."""
    top = _ALIAS[query.level]
    return _plan(
        query,
        found,
        [f"{top}.id > :after"],
        f"ORDER BY {top}.id LIMIT :limit",
        {"limit": rows, "after": after},
    )


def _plan(query: Query, found: Conditions, more: list[str], tail: str, params: dict[str, Any]) -> Plan:
    depth = LEVELS.index(query.level)
    first = LEVELS.index(found.first) if found.first else min(depth, 1)
    order = [*range(first, -1, -1), *range(first + 1, depth + 1)]
    tables = " CROSS JOIN ".join(f"{LEVELS[n].value} {_ALIAS[LEVELS[n]]}" for n in order)
    where = [f"{_ALIAS[LEVELS[n]]}.organization_id = :organization_id" for n in order]
    where += _JOINS[:depth]
    if query.level is Level.INSTANCE:
        where.append("i.current = 1")
    select = columns_of(query.level, with_patient_counts=not PATIENT_COUNTS.isdisjoint(query.returned))
    text = " ".join(
        ["SELECT", select, "FROM", tables, "WHERE", " AND ".join([*where, *found.texts, *more]), tail]
    )
    return Plan(composed(text), {**found.params.values, **params})


def _keys(query: Query, found: Conditions) -> dict[int, MatchingKey | Literal["empty"]]:
    """The keys that can be matched at this level; the others are noted as unsupported."""
    allowed = LEVELS[: LEVELS.index(query.level) + 1]
    keys: dict[int, MatchingKey | Literal["empty"]] = {}
    for tag, text in query.matches.items():
        attribute = ATTRIBUTES.get(tag)
        if tag == MODALITIES_IN_STUDY:
            found.texts += _modalities_in_study(query, text, found.params)
        elif attribute is not None and attribute.level in allowed:
            if query.empty_value_matching and text == EMPTY_VALUE:
                keys[tag] = "empty"
            elif attribute.vr != "SQ" or text:
                keys[tag] = _matching_key(attribute, text, _may_cross_midnight(query, tag))
        elif text and tag not in _NEVER_MATCHED:
            found.unsupported += (tag,)
    return keys


def _may_cross_midnight(query: Query, tag: int) -> bool:
    """A time range that combines with a range of dates may end at an earlier hour than it begins at."""
    dates = (query.matches.get(date, "") for date, time in _TIME_OF_DATE.items() if time == tag)
    return query.combined_datetime and any("-" in date for date in dates)


def _matching_key(attribute: Attribute, text: str, crosses_midnight: bool = False) -> MatchingKey:
    try:
        if crosses_midnight and "-" in text:
            return time_bounds(text)
        return matching_key(attribute, text)
    except InvalidInput as error:
        name = keyword_of(attribute.tag) or f"{attribute.tag:08X}"
        raise InvalidInput(f"{name}: {error.detail}.", code=error.code, remedy=error.remedy) from None


def _modalities_in_study(query: Query, text: str, params: Parameters) -> list[str]:
    if query.level is Level.PATIENT:
        return []
    modality = Attribute(MODALITIES_IN_STUDY, "CS", Level.STUDY)
    on_series = condition("m.modality", Folding.NONE, _matching_key(modality, text), params)
    if not on_series:
        return []
    of_study = "m.organization_id = :organization_id AND m.study_pk = s.id"
    return [f"EXISTS (SELECT 1 FROM series m WHERE {of_study} AND {on_series})"]  # noqa: S608 - a shape


def _combined(
    query: Query, keys: Mapping[int, MatchingKey | Literal["empty"]], found: Conditions
) -> list[int]:
    """Add the combined ranges; the tags that are thereby done."""
    done: list[int] = []
    for date_tag, time_tag in _TIME_OF_DATE.items():
        match keys.get(date_tag), keys.get(time_tag):
            case DateTimeRange(range=date), DateTimeRange(range=time) if query.combined_datetime:
                # Where one date is asked for, or a time bound lacks its date, the two stand apart.
                bounded = (date.lower or not time.lower) and (date.upper or not time.upper)
                if date.lower != date.upper and bounded:
                    columns = (_column(ATTRIBUTES[date_tag]), _column(ATTRIBUTES[time_tag]))
                    found.texts.append(combined_condition(*columns, date, time, found.params))
                    done += [date_tag, time_tag]
                elif time.lower and time.upper and time.lower > time.upper:
                    raise InvalidInput(
                        f"{keyword_of(time_tag)}: the range ends before it begins.", code="invalid-range"
                    )
    return done


def _on_attribute(
    attribute: Attribute, key: MatchingKey | Literal["empty"], params: Parameters
) -> str | None:
    if attribute.column is None:
        if key == "empty":
            return None
        fragments = f"{_ALIAS[attribute.level]}.fragments"
        return fragment_condition(fragments, attribute, key, params)
    if key == "empty":
        return empty_condition(_column(attribute), attribute.folding)
    return condition(_column(attribute), attribute.folding, key, params)


def _column(attribute: Attribute) -> str:
    return f"{_ALIAS[attribute.level]}.{attribute.column}"


def _selectivity(tag: int, key: MatchingKey | Literal["empty"]) -> int:
    match key:
        case Universal() | "empty":
            return _NOT_SELECTIVE
        case Wildcard(prefix=""):
            return _NOT_SELECTIVE - 1
        case _:
            return _SELECTIVITY.get(tag, _NOT_SELECTIVE - 2)
