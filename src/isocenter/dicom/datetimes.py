"""Dates and times as DICOM writes them (PS3.5 §6.2: DA, TM, DT) and as files really hold them.

Canonical forms are of fixed width and sort as text: ``YYYYMMDD``, ``HHMMSS.ffffff`` and
``YYYYMMDDHHMMSS.ffffff``. The second 60 of a leap second is kept in text; Python's types, which
cannot hold it, get 59.999999.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from isocenter.kit.errors import InvalidInput

# YYYYMMDD; with periods in objects from before 1993 (PS3.5 Table 6.2-1 note); with hyphens by mistake.
_DATE = re.compile(r"(\d{4})([.-]?)(\d\d)\2(\d\d)")
# Each part may be left out from the right; colons come from objects before 1993.
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6})\d*)?)?)?")
_DATETIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6})\d*)?)?)?)?)?)?([+-]\d{4})?"
)
_OFFSET_AT_END = re.compile(r"\d-(\d{4})$")
_OFFSET_MINUTES_MAX = 14 * 60
_PADDING = " \0"
_ODD_ZONES = (-570, -210, -150, 210, 270, 330, 345, 390, 525, 570, 630, 765, 825)


def _zone(minutes: int) -> str:
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


ZONES: dict[str, int] = {_zone(minutes): minutes for minutes in (*range(-12 * 60, 15 * 60, 60), *_ODD_ZONES)}
"""Minutes ahead of UTC, by ``+HHMM``: every offset that some place's clocks have."""


@dataclass(frozen=True, slots=True)
class Range:
    """Inclusive canonical bounds; None is an open end."""

    lower: str | None
    upper: str | None

    def holds(self, canonical: str | None) -> bool:
        """True where a canonical value lies within; a value that could not be read lies nowhere."""
        if canonical is None:
            return False
        return (self.lower is None or self.lower <= canonical) and (
            self.upper is None or canonical <= self.upper
        )


def canonical_date(text: str) -> str | None:
    """``YYYYMMDD``, or None where this is no date."""
    match = _DATE.fullmatch(text.strip(_PADDING))
    if match is None or not match[0].isascii():
        return None
    try:
        date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None
    return match[1] + match[3] + match[4]


def canonical_time(text: str) -> str | None:
    """``HHMMSS.ffffff`` with missing parts as zeros, or None where this is no time of day."""
    bounds = _time_bounds(text.strip(_PADDING))
    return bounds[0] if bounds else None


def canonical_datetime(text: str) -> str | None:
    """``YYYYMMDDHHMMSS.ffffff`` with missing parts at their first value, or None.

    A value with an offset is given in UTC, one without as written: its zone is not known.
    """
    bounds = _datetime_bounds(text.strip(_PADDING))
    return bounds[0] if bounds else None


def canonical_zone(text: str) -> str | None:
    """``+HHMM`` of Timezone Offset From UTC (PS3.3 C.12.1.1.8), or None where no clock on Earth has it."""
    text = text.strip(_PADDING)
    if text == "-0000":
        return "+0000"
    return text if text in ZONES else None


def shifted(canonical: str, minutes: int) -> str | None:
    """A canonical date and time that much later; None beyond the years 1 to 9999."""
    try:
        return _shifted(canonical, minutes)
    except OverflowError:
        return None


def parse_date(text: str) -> date:
    """Raises InvalidInput where `canonical_date` gives None."""
    canonical = canonical_date(text)
    if canonical is None:
        raise _invalid("DA")
    return date(int(canonical[:4]), int(canonical[4:6]), int(canonical[6:]))


def parse_time(text: str) -> time:
    """Raises InvalidInput where `canonical_time` gives None."""
    canonical = canonical_time(text)
    if canonical is None:
        raise _invalid("TM")
    return _time_of(canonical)


def parse_datetime(text: str) -> datetime:
    """In UTC where the text has an offset, else naive. Raises InvalidInput where it is no date and time."""
    canonical = canonical_datetime(text)
    if canonical is None:
        raise _invalid("DT")
    day = date(int(canonical[:4]), int(canonical[4:6]), int(canonical[6:8]))
    zone = UTC if _has_offset(text.strip(_PADDING)) else None
    return datetime.combine(day, _time_of(canonical[8:]), zone)


def parse_range(text: str, vr: str) -> Range:
    """The range that a matching key asks for (PS3.4 C.2.2.2.5); ``vr`` is DA, TM or DT.

    A value without hyphen is a range too: from the beginning to the end of what its precision leaves
    open, ``10`` from 10:00 to the last microsecond of 10:59. Raises InvalidInput.
    """
    lower_text, upper_text = _split_range(text.strip(_PADDING), vr)
    if not lower_text and not upper_text:
        raise InvalidInput("a range needs a value on at least one side of the hyphen", code="invalid-range")
    lower = _bounds(lower_text, vr)[0] if lower_text else None
    upper = _bounds(upper_text, vr)[1] if upper_text else None
    if lower is not None and upper is not None and lower > upper:
        raise InvalidInput(
            "the range ends before it begins",
            code="invalid-range",
            remedy="Put the earlier value first; a time range cannot cross midnight, ask twice instead.",
        )
    return Range(lower, upper)


def _split_range(text: str, vr: str) -> tuple[str, str]:
    """In DT a hyphen with four digits up to 1400 at the end is an offset, as long as a value precedes it."""
    if vr == "DT":
        offset = _OFFSET_AT_END.search(text)
        tail = text[offset.start() + 1 :] if offset and _is_offset(offset[1]) else ""
        body = text[: len(text) - len(tail)]
        # What stays in the body: nothing, a range, or a first value with its own offset.
        match = re.fullmatch(r"([\d.]*(?:[+-]\d{4})??)-([\d.+]*)", body)
        if match is None:
            return text, text
        return match[1], match[2] + tail
    if "-" not in text:
        return text, text
    lower, _, upper = text.partition("-")
    return lower.strip(_PADDING), upper.strip(_PADDING)


def _bounds(text: str, vr: str) -> tuple[str, str]:
    match vr:
        case "DA":
            canonical = None if "-" in text else canonical_date(text)
            bounds = (canonical, canonical) if canonical else None
        case "TM":
            bounds = _time_bounds(text)
        case _:
            bounds = _datetime_bounds(text)
    if bounds is None:
        raise _invalid(vr)
    return bounds


def _time_bounds(text: str) -> tuple[str, str] | None:
    """The first and the last moment that the text can mean."""
    match = _TIME.fullmatch(text)
    if match is None or not text.isascii():
        return None
    hour, minute, second, fraction = match.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    first = f"{hour}{minute or '00'}{second or '00'}.{(fraction or '').ljust(6, '0')}"
    last = f"{hour}{minute or '59'}{second or '59'}.{(fraction or '').ljust(6, '9')}"
    return first, last


def _datetime_bounds(text: str) -> tuple[str, str] | None:
    match = _DATETIME.fullmatch(text)
    if match is None or not text.isascii():
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    times = _time_bounds(
        (hour or "00") + (minute or "") + (second or "") + (f".{fraction}" if fraction else "")
    )
    first_day = canonical_date(f"{year}{month or '01'}{day or '01'}")
    if times is None or first_day is None:
        return None
    last_day = first_day if day else f"{year}{month or '12'}{_days_in(int(year), int(month or 12))}"
    first, last = first_day + times[0], last_day + (times[1] if hour else "235959.999999")
    if offset is None:
        return first, last
    if not _is_offset(offset[1:]):
        return None
    minutes = (int(offset[1:3]) * 60 + int(offset[3:])) * (-1 if offset[0] == "-" else 1)
    try:
        return _shifted(first, -minutes), _shifted(last, -minutes)
    except OverflowError:
        return None


def _days_in(year: int, month: int) -> int:
    """The last day of the month; the year 9999 has no next January to count back from."""
    return 31 if month == 12 else (date(year, month + 1, 1) - timedelta(days=1)).day


def _shifted(canonical: str, minutes: int) -> str:
    # Seconds are left out of the sum: the offset has none, and 60 must survive.
    moment = datetime.strptime(canonical[:12] + "+0000", "%Y%m%d%H%M%z") + timedelta(minutes=minutes)
    return f"{moment.year:04}{moment:%m%d%H%M}{canonical[12:]}"


def _is_offset(digits: str) -> bool:
    return int(digits[2:]) < 60 and int(digits[:2]) * 60 + int(digits[2:]) <= _OFFSET_MINUTES_MAX


def _has_offset(text: str) -> bool:
    return text[-5:-4] in ("+", "-")


def _time_of(canonical: str) -> time:
    hour, minute, second = int(canonical[:2]), int(canonical[2:4]), int(canonical[4:6])
    if second == 60:
        return time(hour, minute, 59, 999999)
    return time(hour, minute, second, int(canonical[7:]))


_SHAPES = {
    "DA": ("a date", "YYYYMMDD, for example 20240131, or a range such as 20240101-20240131"),
    "TM": ("a time", "HHMMSS.ffffff or its beginning, for example 1430, or a range such as 0800-1200"),
    "DT": ("a date and time", "YYYYMMDDHHMMSS.ffffff+ZZXX or its beginning, for example 202401311430"),
}


def _invalid(vr: str) -> InvalidInput:
    kind, example = _SHAPES[vr]
    return InvalidInput(f"the value is not {kind}", code="invalid-date-time", remedy=f"Write {example}.")
