"""Dates and times that belong together: one range of both, told in the asker's time zone (PS3.4 C.2.2.2.5).

An object says in Timezone Offset From UTC (0008,0201) which zone its dates and times are told in; the index
keeps what the study's first object said. Of an object that says nothing the zone is taken to be the asker's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from isocenter.dicom.datetimes import ZONES, Range, canonical_zone, shifted
from isocenter.features.archive.query_conditions import LAST_CHARACTER, Parameters
from isocenter.kit.errors import InvalidInput

_FIRST_MOMENT, _LAST_MOMENT = "000000.000000", "235959.999999"
_SOME_DAY = "20000102"


@dataclass(frozen=True, slots=True)
class Columns:
    date: str
    time: str


def zone_of(text: str) -> int:
    """Minutes ahead of UTC. Raises InvalidInput. A plus sign in an address reads as a blank where nobody
    wrote %2B; the digits alone are taken for what was meant."""
    zone = canonical_zone("+" + text if text.isdigit() else text)
    if zone is None:
        raise InvalidInput(
            "the value is not an offset from UTC that some place has",
            code="invalid-value",
            remedy="Write +0100 or -0330, for example; in an address the plus sign is %2B.",
        )
    return ZONES[zone]


def combined_condition(columns: Columns, date: Range, time: Range, params: Parameters) -> str:
    """One range from the first date at the first time to the last date at the last time."""
    return " AND ".join([f"{columns.date} <> ''", *_between(columns, _moments(date, time), params)])


def zoned_condition(columns: Columns, date: Range, time: Range, params: Parameters, zone: int) -> str:
    """The same, where the bounds are told in the zone that is ``zone`` minutes ahead of UTC."""
    lower, upper = _moments(date, time)
    alternatives = [_in_zone(columns, "", (lower, upper), params)]
    for name, minutes in ZONES.items():
        moved = _moved(lower, minutes - zone), _moved(upper, minutes - zone)
        alternatives.append(_in_zone(columns, name, moved, params))
    # A date without a time cannot be moved; as a date it is meant as it is written.
    alternatives.append(f"({columns.time} = '' AND {_dates(columns, date.lower, date.upper, params)})")
    near = _dates(columns, _day_beside(date.lower, -1), _day_beside(date.upper, 1), params)
    return f"{near} AND ({' OR '.join(alternatives)})"


def zoned_time_condition(columns: Columns, time: Range, params: Parameters, zone: int) -> str:
    """A range of times of the day, whatever the date."""
    lower, upper = time.lower or _FIRST_MOMENT, time.upper or _LAST_MOMENT
    alternatives = [_times_in_zone(columns, "", lower, upper, params)]
    for name, minutes in ZONES.items():
        first, last = _moved(_SOME_DAY + lower, minutes - zone), _moved(_SOME_DAY + upper, minutes - zone)
        assert first is not None
        assert last is not None
        alternatives.append(_times_in_zone(columns, name, first[8:], last[8:], params))
    return f"{columns.time} <> '' AND ({' OR '.join(alternatives)})"


def _moments(date: Range, time: Range) -> tuple[str | None, str | None]:
    lower = None if date.lower is None else date.lower + (time.lower or _FIRST_MOMENT)
    upper = None if date.upper is None else date.upper + (time.upper or LAST_CHARACTER)
    return lower, upper


def _between(columns: Columns, bounds: tuple[str | None, str | None], params: Parameters) -> list[str]:
    pair = f"({columns.date}, {columns.time})"
    return [
        f"{pair} {sign} ({params.add(bound[:8])}, {params.add(_time_of(bound, sign))})"
        for bound, sign in zip(bounds, (">=", "<="), strict=True)
        if bound is not None
    ]


def _time_of(bound: str, sign: str) -> str:
    """A date without a time is there from its first moment on."""
    return "" if sign == ">=" and bound[8:] == _FIRST_MOMENT else bound[8:]


def _in_zone(columns: Columns, zone: str, bounds: tuple[str | None, str | None], params: Parameters) -> str:
    where = [f"s.timezone = {params.add(zone)}", f"{columns.time} <> ''", *_between(columns, bounds, params)]
    return "(" + " AND ".join(where) + ")"


def _times_in_zone(columns: Columns, zone: str, lower: str, upper: str, params: Parameters) -> str:
    """Moved times may run over midnight."""
    joined = "AND" if lower <= upper else "OR"
    inside = f"({columns.time} >= {params.add(lower)} {joined} {columns.time} <= {params.add(upper)})"
    return f"(s.timezone = {params.add(zone)} AND {inside})"


def _dates(columns: Columns, lower: str | None, upper: str | None, params: Parameters) -> str:
    where = [f"{columns.date} >= {params.add(lower)}" if lower else f"{columns.date} > ''"]
    if upper:
        where.append(f"{columns.date} <= {params.add(upper)}")
    return " AND ".join(where)


def _moved(moment: str | None, minutes: int) -> str | None:
    if moment is None:
        return None
    return shifted(moment.replace(LAST_CHARACTER, _LAST_MOMENT), minutes) or moment


def _day_beside(day: str | None, days: int) -> str | None:
    if day is None:
        return None
    try:
        beside = datetime.strptime(day + "+0000", "%Y%m%d%z") + timedelta(days=days)
    except OverflowError:
        return day
    return f"{beside.year:04}{beside:%m%d}"
