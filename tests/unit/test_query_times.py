"""Dates and times in zones: what the SQL finds is what Python's own arithmetic of time says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.datetimes import ZONES, Range, canonical_zone
from isocenter.features.archive.query_conditions import Parameters
from isocenter.features.archive.query_times import Columns, zone_of, zoned_condition, zoned_time_condition
from isocenter.kit.errors import InvalidInput

COLUMNS = Columns("s.d", "s.t")
MOMENTS = st.datetimes(datetime(2023, 12, 28), datetime(2024, 1, 4)).map(
    lambda one: one.replace(microsecond=0)
)
NAMES = st.sampled_from(sorted(ZONES))
DATABASE = sqlite3.connect(":memory:")
DATABASE.execute("CREATE TABLE s (d, t, timezone)")


@pytest.fixture(scope="module", autouse=True)
def closed_at_the_end() -> Iterator[None]:
    yield
    DATABASE.close()


def holds(text: str, params: Parameters, date: str, time: str, zone: str) -> bool:
    DATABASE.execute("DELETE FROM s")
    DATABASE.execute("INSERT INTO s VALUES (?, ?, ?)", (date, time, zone))
    return DATABASE.execute(f"SELECT 1 FROM s WHERE {text}", params.values).fetchone() is not None


def in_zone(moment: datetime, name: str) -> datetime:
    return moment.replace(tzinfo=timezone(timedelta(minutes=ZONES[name])))


def told(moment: datetime) -> tuple[str, str]:
    return f"{moment:%Y%m%d}", f"{moment:%H%M%S}.000000"


@given(kept=MOMENTS, kept_zone=NAMES, first=MOMENTS, last=MOMENTS, asked_zone=NAMES)
def test_a_range_of_moments(
    kept: datetime, kept_zone: str, first: datetime, last: datetime, asked_zone: str
) -> None:
    (first_date, first_time), (last_date, last_time) = told(first), told(last)
    params = Parameters()
    text = zoned_condition(
        COLUMNS, Range(first_date, last_date), Range(first_time, last_time), params, ZONES[asked_zone]
    )
    expected = in_zone(first, asked_zone) <= in_zone(kept, kept_zone) <= in_zone(last, asked_zone)
    assert holds(text, params, *told(kept), kept_zone) is expected
    assert holds(text, params, *told(kept), "") is (first <= kept <= last), "no zone: the asker's"
    dates = zoned_condition(
        COLUMNS, Range(first_date, first_date), Range(None, None), params, ZONES[asked_zone]
    )
    asked = in_zone(kept, kept_zone).astimezone(timezone(timedelta(minutes=ZONES[asked_zone])))
    assert holds(dates, params, *told(kept), kept_zone) is (f"{asked:%Y%m%d}" == first_date)
    assert holds(dates, params, first_date, "", kept_zone), "a date without a time is meant as it is written"


@given(kept=MOMENTS, kept_zone=NAMES, asked_zone=NAMES, first=MOMENTS, last=MOMENTS)
def test_times_of_the_day(
    kept: datetime, kept_zone: str, asked_zone: str, first: datetime, last: datetime
) -> None:
    lower, upper = sorted((told(first)[1], told(last)[1]))
    params = Parameters()
    text = zoned_time_condition(COLUMNS, Range(lower, upper), params, ZONES[asked_zone])
    asked = in_zone(kept, kept_zone).astimezone(timezone(timedelta(minutes=ZONES[asked_zone])))
    assert holds(text, params, *told(kept), kept_zone) is (lower <= told(asked)[1] <= upper)


def test_open_ends() -> None:
    params = Parameters()
    text = zoned_condition(COLUMNS, Range("20240101", None), Range(None, None), params, 0)
    assert holds(text, params, "20240101", "003000.000000", "+0000")
    assert not holds(text, params, "20240101", "003000.000000", "+0100")
    text = zoned_condition(COLUMNS, Range(None, "99991231"), Range(None, None), params, 14 * 60)
    assert holds(text, params, "20240101", "003000.000000", "-1200")
    assert not holds(text, params, "", "", "")


@pytest.mark.parametrize(
    ("text", "minutes"), [("+0100", 60), ("-0330", -210), ("0545", 345), ("-0000", 0), ("+1400", 840)]
)
def test_zones(text: str, minutes: int) -> None:
    assert zone_of(text) == minutes


@pytest.mark.parametrize("text", ["", "+0123", "+1500", "CET", "+01:00", "1", "\u0661\u0661\u0661\u0661"])
def test_what_no_clock_has(text: str) -> None:
    assert canonical_zone(text) is None
    with pytest.raises(InvalidInput):
        zone_of(text)
