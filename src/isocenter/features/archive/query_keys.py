"""From matching keys to conditions: which key is matched on how, and which one leads the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from isocenter.dicom.datetimes import Range
from isocenter.dicom.dictionary import keyword_of, vr_of
from isocenter.dicom.levels import Level
from isocenter.dicom.matching import (
    DateTimeRange,
    MatchingKey,
    Universal,
    ValueList,
    Wildcard,
)
from isocenter.features.archive.attributes import ATTRIBUTES, Attribute, Folding
from isocenter.features.archive.indexed_values import DEPTH_MAX, FOLDED, PATIENT_NAME
from isocenter.features.archive.query_conditions import (
    Parameters,
    condition,
    empty_condition,
    fragment_condition,
    identity_condition,
    matching_key,
    time_bounds,
)
from isocenter.features.archive.query_model import (
    ALIAS,
    EMPTY_VALUE,
    LEVELS,
    TIMEZONE_OFFSET,
    Conditions,
    Path,
    Query,
)
from isocenter.features.archive.query_studies import TOLD_BY_SERIES, study_conditions
from isocenter.features.archive.query_times import (
    Columns,
    combined_condition,
    zone_of,
    zoned_condition,
    zoned_time_condition,
)
from isocenter.features.archive.query_values import (
    ItemKey,
    all_values_condition,
    by_sequence,
    empty_value_condition,
    first_word_condition,
    fuzzy_condition,
    item_conditions,
    names_rows,
    path_text,
    value_condition,
)
from isocenter.kit.errors import InvalidInput

Key = MatchingKey | Literal["empty"]

# The lower, the fewer rows one value leaves: the lowest leads the join. Everything else comes after it.
_SELECTIVITY = {
    0x00080018: 0,  # SOP Instance UID
    0x0020000E: 1,  # Series Instance UID
    0x0020000D: 2,  # Study Instance UID
    0x00080050: 3,  # Accession Number
    0x00100020: 4,  # Patient ID
    0x00200010: 5,  # Study ID
    PATIENT_NAME: 6,
    0x00100030: 7,  # Patient's Birth Date
    0x00080020: 9,  # Study Date
}
_PATIENT_ID, _ISSUER = 0x00100020, 0x00100021
_OF_ITEMS, _OF_NAMES, _COMBINED = 5, 8, 8
_NOT_SELECTIVE = 100

# Combined matching (PS3.4 C.2.2.2.5): a date and the time that goes with it.
_TIME_OF_DATE = {
    0x00080020: 0x00080030,
    0x00080021: 0x00080031,
    0x00080023: 0x00080033,
    0x00400244: 0x00400245,
}

_DATES_AND_TIMES = frozenset({*_TIME_OF_DATE, *_TIME_OF_DATE.values()})

# Asked along by clients, said of the answer rather than matched against it.
_NEVER_MATCHED = frozenset({0x00080005, 0x00080052, 0x00080054, 0x00080056, 0x00081190, TIMEZONE_OFFSET})


def conditions_of(query: Query, organization_id: int) -> Conditions:
    """Raises InvalidInput for a value that its attribute cannot have."""
    return _Reading(query, organization_id).read()


class _Reading:
    """One query on its way to conditions. Candidates are written last, when it is known which one leads."""

    def __init__(self, query: Query, organization_id: int) -> None:
        self._query = query
        self._found = Conditions(Parameters(organization_id=organization_id))
        self._allowed = LEVELS[: LEVELS.index(query.level) + 1]
        self._candidates: list[tuple[int, Level, Callable[[bool], str]]] = []

    def read(self) -> Conditions:
        keys = self._keys()
        self._dates_and_times(keys)
        self._identity(keys)
        for tag, key in keys.items():
            self._attribute(ATTRIBUTES[tag], key)
        if self._query.item_matches:
            self._items()
        best = min((rank for rank, _, _ in self._candidates), default=_NOT_SELECTIVE)
        self._found.selective = best < _COMBINED
        for rank, level, write in self._candidates:
            leads = rank == best and rank < _NOT_SELECTIVE and self._found.first is None
            text = write(leads)
            if leads:
                self._found.first = level
                self._found.first_by_row = text.startswith(names_rows(level))
            self._found.add(text, level)
        return self._found

    def _candidate(self, rank: int, level: Level, write: Callable[[bool], str]) -> None:
        self._candidates.append((rank, level, write))

    # --- which keys there are ----------------------------------------------------------------------------

    def _keys(self) -> dict[int, Key]:
        """The keys that can be matched at this level; the others are noted as unsupported."""
        query, found = self._query, self._found
        keys: dict[int, Key] = {}
        for tag, text in query.matches.items():
            attribute = ATTRIBUTES.get(tag)
            if tag in TOLD_BY_SERIES:
                self._of_series(tag, text)
            elif tag not in _NEVER_MATCHED and attribute is not None and attribute.level in self._allowed:
                if query.empty_value_matching and text == EMPTY_VALUE:
                    keys[tag] = "empty"
                elif attribute.vr != "SQ" or text:
                    keys[tag] = _matching_key(attribute, text, self._may_cross_midnight(tag))
            elif text and tag not in _NEVER_MATCHED:
                found.unsupported += (tag,)
        return keys

    def _may_cross_midnight(self, tag: int) -> bool:
        """A time range that combines with a range of dates may end at an earlier hour than it begins at."""
        dates = (self._query.matches.get(date, "") for date, time in _TIME_OF_DATE.items() if time == tag)
        return self._query.combined_datetime and any("-" in date for date in dates)

    def _of_series(self, tag: int, text: str) -> None:
        """What is told of a study by its series."""
        if Level.STUDY in self._allowed:
            try:
                texts = study_conditions(tag, text, self._query, self._found.params)
            except InvalidInput as error:
                raise _named(keyword_of(tag), error) from None
            for one in texts:
                self._found.add(one, Level.STUDY)
        elif text:
            self._found.unsupported += (tag,)

    def _identity(self, keys: dict[int, Key]) -> None:
        """Add what is asked of Patient ID and issuer, which old ones answer too; both are thereby done."""
        asked = {
            str(ATTRIBUTES[tag].column): key
            for tag in (_PATIENT_ID, _ISSUER)
            if not isinstance(key := keys.get(tag, "empty"), str | Universal)
        }
        if not asked:
            return
        by_id = keys.get(_PATIENT_ID)
        if by_id is None or by_id == "empty":
            rank = _NOT_SELECTIVE
        else:
            rank = _selectivity(by_id, _SELECTIVITY[_PATIENT_ID])
        params = self._found.params
        self._candidate(rank, Level.PATIENT, lambda leads: identity_condition(asked, params, leads=leads))
        for tag in (_PATIENT_ID, _ISSUER):
            if ATTRIBUTES[tag].column in asked:
                del keys[tag]

    # --- dates and times ---------------------------------------------------------------------------------

    def _dates_and_times(self, keys: dict[int, Key]) -> None:
        """Add the ranges of dates and times that belong together; those keys are thereby done."""
        zone = self._zone()
        if _DATES_AND_TIMES.isdisjoint(keys):
            return
        for date_tag, time_tag in _TIME_OF_DATE.items():
            match keys.get(date_tag), keys.get(time_tag):
                case DateTimeRange(range=date), DateTimeRange(range=time) if self._combines(
                    time_tag, date, time
                ):
                    self._moments(date_tag, date, time, zone)
                    del keys[date_tag], keys[time_tag]
                case (DateTimeRange(range=date), _) if zone is not None:
                    self._moments(date_tag, date, Range(None, None), zone)
                    del keys[date_tag]
            match keys.get(time_tag):
                case DateTimeRange(range=time) if zone is not None:
                    columns, level = _columns(date_tag), ATTRIBUTES[date_tag].level
                    text = zoned_time_condition(columns, time, self._found.params, zone)
                    self._found.add(text, level, Level.STUDY)
                    del keys[time_tag]

    def _combines(self, time_tag: int, date: Range, time: Range) -> bool:
        """Where one date is asked for, or a time bound lacks its date, the two stand apart."""
        if not self._query.combined_datetime:
            return False
        if date.lower != date.upper and (date.lower or not time.lower) and (date.upper or not time.upper):
            return True
        if time.lower and time.upper and time.lower > time.upper:
            raise InvalidInput(
                f"{keyword_of(time_tag)}: the range ends before it begins.", code="invalid-range"
            )
        return False

    def _moments(self, date_tag: int, date: Range, time: Range, zone: int | None) -> None:
        columns, level, params = _columns(date_tag), ATTRIBUTES[date_tag].level, self._found.params
        if zone is None:
            text = combined_condition(columns, date, time, params)
        else:
            text = zoned_condition(columns, date, time, params, zone)
            self._found.levels.add(Level.STUDY)
        self._candidate(_COMBINED, level, lambda _: text)

    def _zone(self) -> int | None:
        text = self._query.matches.get(TIMEZONE_OFFSET)
        if not text or not (text := text.strip(" \0")) or text in {"*", EMPTY_VALUE}:
            return None
        try:
            return zone_of(text)
        except InvalidInput as error:
            raise _named("TimezoneOffsetFromUTC", error) from None

    # --- everything else ---------------------------------------------------------------------------------

    def _attribute(self, attribute: Attribute, key: Key) -> None:
        tag, level, params = attribute.tag, attribute.level, self._found.params
        if attribute.vr == "SQ":  # of the others only "empty" is left: a sequence has no text
            self._empty_sequence(attribute)
        elif attribute.vr == "PN":
            self._name(attribute, key)
        elif key == "empty":
            if attribute.column is None:
                self._found.unsupported += (tag,)
            else:
                self._found.add(empty_condition(_column(attribute), attribute.folding), level)
        elif attribute.column is None:
            text = fragment_condition(f"{ALIAS[level]}.fragments", attribute, key, params)
            if text is None:
                self._found.unsupported += (tag,)
            else:
                self._found.add(text, level)
        elif not isinstance(key, Universal):
            rank = _selectivity(key, _SELECTIVITY.get(tag, _NOT_SELECTIVE - 2))
            column, folding = _column(attribute), attribute.folding
            self._candidate(rank, level, lambda _: condition(column, folding, key, params))

    def _empty_sequence(self, attribute: Attribute) -> None:
        params, line = self._found.params, f'%"{attribute.tag:08X}":{{"vr":"SQ","Value":[%'
        text = f"{ALIAS[attribute.level]}.fragments NOT LIKE {params.add(line)}"
        self._found.add(text, attribute.level)

    def _name(self, attribute: Attribute, key: Key) -> None:
        tag, level, params, query = attribute.tag, attribute.level, self._found.params, self._query
        if isinstance(key, Universal):
            return
        rank = _selectivity(key, _SELECTIVITY.get(tag, _OF_NAMES)) if key != "empty" else _NOT_SELECTIVE
        if key == "empty":
            if tag == PATIENT_NAME:
                self._found.add(empty_condition(_column(attribute), Folding.NAME), level)
            else:
                self._found.add(empty_value_condition(level, f"{tag:08X}", params), level)
        elif query.fuzzy:
            names = query.matches[tag].split("\\")
            self._candidate(rank, level, lambda leads: fuzzy_condition(attribute, names, params, leads=leads))
        elif tag == PATIENT_NAME:
            self._candidate(rank, level, lambda leads: self._patient_name(attribute, key, leads))
        else:
            of_name = Attribute(tag, "PN", level, None, Folding.NAME)
            if query.all_values and isinstance(key, ValueList):
                every = key
                self._candidate(
                    rank, level, lambda leads: all_values_condition(of_name, every, params, leads=leads)
                )
            else:
                self._candidate(rank, level, lambda leads: value_condition(of_name, key, params, leads=leads))

    def _patient_name(self, attribute: Attribute, key: MatchingKey, leads: bool) -> str:
        """By the column, whose index knows the first group alone; the others' words have rows."""
        params, name = self._found.params, self._query.matches[attribute.tag]
        text = condition(_column(attribute), Folding.NAME, key, params)
        if not leads or isinstance(key, ValueList) or (name.isascii() and "=" not in name):
            return text
        beginning = first_word_condition(attribute, name, params)
        return f"{beginning} AND {text}" if beginning else text

    def _items(self) -> None:
        params = self._found.params
        keys: dict[Path, ItemKey] = {}
        for path, text in self._query.item_matches.items():
            sequence = ATTRIBUTES.get(path[0])
            if (
                sequence is None
                or sequence.vr != "SQ"
                or sequence.level not in self._allowed
                or not 2 <= len(path) <= DEPTH_MAX + 1
            ):
                if text:
                    self._found.unsupported_items += (path,)
            elif self._query.empty_value_matching and text == EMPTY_VALUE:
                self._found.add(
                    empty_value_condition(sequence.level, path_text(path), params), sequence.level
                )
            elif text:
                attribute = _within(path[-1], sequence.level)
                keys[path] = ItemKey(path, attribute, _matching_key(attribute, text))
        for tag, of_sequence in by_sequence(keys).items():
            level = ATTRIBUTES[tag].level
            rank = min(_selectivity(one.key, _OF_ITEMS) for one in of_sequence)
            self._items_of_one(rank, level, of_sequence)

    def _items_of_one(self, rank: int, level: Level, keys: Sequence[ItemKey]) -> None:
        params = self._found.params
        self._candidate(rank, level, lambda leads: item_conditions(level, keys, params, leads=leads))


def _within(tag: int, level: Level) -> Attribute:
    """An attribute of an item, folded as its rows are."""
    vr = vr_of(tag)
    folding = Folding.NAME if vr == "PN" else Folding.TEXT if tag in FOLDED else Folding.NONE
    return Attribute(tag, vr, level, None, folding)


def _matching_key(attribute: Attribute, text: str, crosses_midnight: bool = False) -> MatchingKey:
    try:
        if crosses_midnight and "-" in text:
            return time_bounds(text)
        return matching_key(attribute, text)
    except InvalidInput as error:
        raise _named(keyword_of(attribute.tag) or f"{attribute.tag:08X}", error) from None


def _named(name: str, error: InvalidInput) -> InvalidInput:
    return InvalidInput(f"{name}: {error.detail}.", code=error.code, remedy=error.remedy)


def _columns(date_tag: int) -> Columns:
    return Columns(_column(ATTRIBUTES[date_tag]), _column(ATTRIBUTES[_TIME_OF_DATE[date_tag]]))


def _column(attribute: Attribute) -> str:
    return f"{ALIAS[attribute.level]}.{attribute.column}"


def _selectivity(key: MatchingKey, rank: int) -> int:
    match key:
        case Universal():
            return _NOT_SELECTIVE
        case Wildcard(prefix=""):
            return _NOT_SELECTIVE - 1
        case _:
            return rank
