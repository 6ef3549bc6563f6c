"""Whether a row answers the question: a source that ignores a key must not add what was not asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from isocenter.dicom.datetimes import Range, canonical_date, canonical_time
from isocenter.dicom.dictionary import tag_of, vr_of
from isocenter.dicom.matching import DateTimeRange, MatchingKey, Universal, classify
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import Row, first_value, values_of

_DATE_AND_TIME = ((0x00080020, 0x00080030), (0x00080021, 0x00080031))
"""Study, and series: a range of dates and one of times are one range (PS3.4 C.2.2.2.5)."""

_TIMEZONE_OFFSET = 0x00080201
"""Says in which zone dates and times are told; nothing is matched on it."""

_KNOWN_MAX = 1000
_FIRST_TIME, _LAST_TIME = "000000.000000", "~"


@dataclass(slots=True)
class _Key:
    """Rows that answer a question have mostly the same value there: each is looked at once."""

    tag: int
    key: MatchingKey
    known: dict[str | None, bool] = field(default_factory=dict)

    def holds(self, row: Row) -> bool:
        attribute = row.get(self.tag)
        found = self.known.get(attribute)
        if found is None:
            if len(self.known) >= _KNOWN_MAX:
                self.known.clear()
            found = self.known[attribute] = any(map(self.key.matches, values_of(attribute)))
        return found


@dataclass(frozen=True, slots=True)
class _Moment:
    """A day and a time on it, between two such."""

    date_tag: int
    time_tag: int
    range: Range

    def holds(self, row: Row) -> bool:
        day = canonical_date(first_value(row, self.date_tag))
        time = canonical_time(first_value(row, self.time_tag)) or ""
        return day is not None and self.range.holds(day + time)


class Filter:
    """The keys of one question, for many rows."""

    def __init__(self, question: Question, unreturned: Iterable[str] = ()) -> None:
        """``unreturned``: keywords that a source matches on without returning them. Raises InvalidInput for
        a value that its attribute cannot have."""
        unseen = {_TIMEZONE_OFFSET, *map(tag_of, unreturned)}
        keys = {
            tag: classify(vr_of(tag), text) for tag, text in question.matches.items() if tag not in unseen
        }
        self._holds: list[Callable[[Row], bool]] = []
        for date_tag, time_tag in _DATE_AND_TIME:
            moment = _moment(date_tag, time_tag, keys)
            if moment is not None:
                del keys[date_tag], keys[time_tag]
                self._holds.append(moment.holds)
        self._holds += [_Key(tag, key).holds for tag, key in keys.items() if not isinstance(key, Universal)]

    def passes(self, row: Row) -> bool:
        """An attribute that was asked to match and is not in the row does not match."""
        return all(holds(row) for holds in self._holds)


def _moment(date_tag: int, time_tag: int, keys: dict[int, MatchingKey]) -> _Moment | None:
    days, times = keys.get(date_tag), keys.get(time_tag)
    if not isinstance(days, DateTimeRange) or not isinstance(times, DateTimeRange):
        return None
    if days.range.lower == days.range.upper:
        return None  # on one day they mean the same apart
    lower = None if days.range.lower is None else days.range.lower + (times.range.lower or _FIRST_TIME)
    upper = None if days.range.upper is None else days.range.upper + (times.range.upper or _LAST_TIME)
    return _Moment(date_tag, time_tag, Range(lower, upper))
