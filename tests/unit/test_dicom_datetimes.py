"""Dates and times: lax reading, canonical forms that sort, ranges as keys ask for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocenter.dicom.datetimes import (
    Range,
    canonical_date,
    canonical_datetime,
    canonical_time,
    parse_date,
    parse_datetime,
    parse_range,
    parse_time,
)
from isocenter.kit.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("20240131", "20240131"),
        ("2024.01.31", "20240131"),
        ("2024-01-31", "20240131"),
        ("20240229 ", "20240229"),
        ("20240131\0", "20240131"),
        ("20230229", None),
        ("00000000", None),
        ("2024.0131", None),
        ("202401", None),
        ("", None),
        ("٢٠٢٤٠١٣١", None),
        ("20240131\n20240131", None),
    ],
)
def test_dates(text: str, canonical: str | None) -> None:
    assert canonical_date(text) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10", "100000.000000"),
        ("1015", "101500.000000"),
        ("101530", "101530.000000"),
        ("10:15:30", "101530.000000"),
        ("10:15", "101500.000000"),
        ("101530.5", "101530.500000"),
        ("101530.123456 ", "101530.123456"),
        ("101530.123456789", "101530.123456"),
        ("235960", "235960.000000"),
        ("24", None),
        ("1060", None),
        ("101561", None),
        ("101530.", None),
        ("1", None),
        ("10153", None),
        ("-10", None),
        ("", None),
    ],
)
def test_times(text: str, canonical: str | None) -> None:
    assert canonical_time(text) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2024", "20240101000000.000000"),
        ("202402", "20240201000000.000000"),
        ("20240203101530.25", "20240203101530.250000"),
        ("20240101003000+0100", "20231231233000.000000"),
        ("20231231223000-0230", "20240101010000.000000"),
        ("20240101005960+0100", "20231231235960.000000"),
        ("20240101+1500", None),
        ("20240101+0160", None),
        ("00010101+1400", None),
        ("99991231235959-0001", None),
        ("20241301", None),
        ("202", None),
    ],
)
def test_dates_with_times(text: str, canonical: str | None) -> None:
    assert canonical_datetime(text) == canonical


def test_typed_values() -> None:
    assert parse_date("2024.01.31") == date(2024, 1, 31)
    assert parse_time("101530.5") == time(10, 15, 30, 500_000)
    assert parse_time("235960") == time(23, 59, 59, 999_999)
    assert parse_datetime("20240101003000+0100") == datetime(2023, 12, 31, 23, 30, tzinfo=UTC)
    assert parse_datetime("2024") == datetime(2024, 1, 1)


@pytest.mark.parametrize("parse", [parse_date, parse_time, parse_datetime])
def test_what_is_no_date_or_time_is_refused_without_being_quoted(parse: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse("Doe^John")  # type: ignore[operator]
    assert "Doe" not in refused.value.detail + refused.value.remedy
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("vr", "text", "lower", "upper"),
    [
        ("DA", "20240131", "20240131", "20240131"),
        ("DA", "20240101-20240131", "20240101", "20240131"),
        ("DA", "20240101-", "20240101", None),
        ("DA", "-20240131 ", None, "20240131"),
        ("DA", "2024.01.01 - 2024.01.31", "20240101", "20240131"),
        ("TM", "10", "100000.000000", "105959.999999"),
        ("TM", "-10", None, "105959.999999"),
        ("TM", "0800-1200", "080000.000000", "120059.999999"),
        ("TM", "101530", "101530.000000", "101530.999999"),
        ("TM", "101530.25", "101530.250000", "101530.259999"),
        ("TM", "10:00-10:15:30.123456", "100000.000000", "101530.123456"),
        ("DT", "2024", "20240101000000.000000", "20241231235959.999999"),
        ("DT", "202402", "20240201000000.000000", "20240229235959.999999"),
        ("DT", "999912", "99991201000000.000000", "99991231235959.999999"),
        ("DT", "2023-2024", "20230101000000.000000", "20241231235959.999999"),
        ("DT", "-2024", None, "20241231235959.999999"),
        ("DT", "20240101-", "20240101000000.000000", None),
        ("DT", "20240101-0500", "20240101050000.000000", "20240102045959.999999"),
        ("DT", "20240101-0500-", "20240101050000.000000", None),
        ("DT", "20240101-0500-20240201-0500", "20240101050000.000000", "20240202045959.999999"),
        ("DT", "20240101+0100-20240201+0100", "20231231230000.000000", "20240201225959.999999"),
        ("DT", "20240101-20240201-0500", "20240101000000.000000", "20240202045959.999999"),
    ],
)
def test_ranges(vr: str, text: str, lower: str | None, upper: str | None) -> None:
    assert parse_range(text, vr) == Range(lower, upper)


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("DA", "-"),
        ("DA", "2024"),
        ("DA", "2024-01-01"),
        ("DA", "20240102-20240101"),
        ("DA", "20240101-20240102-20240103"),
        ("DA", "20240101-Doe"),
        ("TM", "2200-0600"),
        ("TM", "25"),
        ("DT", "20240101-0500-20240201-0500-"),
        ("DT", "20240101-20230101"),
        ("DT", "x-2024"),
    ],
)
def test_ranges_that_make_no_sense_are_refused_with_advice(vr: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_range(text, vr)
    assert refused.value.detail
    assert "Doe" not in refused.value.detail


def test_a_range_holds_its_bounds() -> None:
    january = parse_range("20240101-20240131", "DA")
    assert january.holds("20240101")
    assert january.holds("20240131")
    assert not january.holds("20240201")
    assert not january.holds(None)
    assert Range(None, None).holds("20240101")


@given(st.times(), st.integers(1, 6))
def test_every_time_reads_back(value: time, digits: int) -> None:
    text = f"{value:%H%M%S}.{value.microsecond:06}"[: 7 + digits]
    assert parse_time(text) == value.replace(
        microsecond=int(f"{value.microsecond:06}"[:digits].ljust(6, "0"))
    )


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)), st.integers(-14 * 60, 14 * 60))
@example(datetime(2, 1, 1), 14 * 60)
def test_every_moment_reads_back_in_utc(value: datetime, offset_minutes: int) -> None:
    sign, minutes = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    text = (
        f"{value.year:04}{value:%m%d%H%M%S}.{value.microsecond:06}{sign}{minutes // 60:02}{minutes % 60:02}"
    )
    zone = timezone(timedelta(minutes=offset_minutes))
    assert parse_datetime(text) == value.replace(tzinfo=zone)


@given(st.dates(), st.dates())
def test_canonical_dates_sort_as_dates_do(one: date, other: date) -> None:
    texts = [f"{d.year:04}{d:%m%d}" for d in (one, other)]
    assert (canonical_date(texts[0]) or "") <= (canonical_date(texts[1]) or "") or other < one


@given(st.text(max_size=30), st.sampled_from(["DA", "TM", "DT"]))
@example("0000-", "DT")
@example("20240101-20240101-1400", "DT")
def test_any_text_is_a_range_or_refused(text: str, vr: str) -> None:
    canonical = {"DA": canonical_date, "TM": canonical_time, "DT": canonical_datetime}[vr](text)
    assert canonical is None or canonical.replace(".", "").isdigit()
    try:
        bounds = parse_range(text, vr)
    except InvalidInput:
        return
    assert bounds.lower is None or bounds.upper is None or bounds.lower <= bounds.upper


@given(st.text("0123456789-+.:", max_size=30), st.sampled_from(["DA", "TM", "DT"]))
def test_any_digits_and_signs_are_a_range_or_refused(text: str, vr: str) -> None:
    try:
        parse_range(text, vr)
    except InvalidInput as refused:
        assert refused.detail
