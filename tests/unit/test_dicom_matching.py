"""What matching keys mean (PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isocenter.dicom.datetimes import Range
from isocenter.dicom.matching import (
    DateTimeRange,
    SingleValue,
    UidList,
    Universal,
    ValueList,
    Wildcard,
    classify,
    normalise,
)
from isocenter.kit.errors import InvalidInput


@pytest.mark.parametrize(
    ("vr", "text", "key"),
    [
        ("PN", "", Universal()),
        ("PN", " * ", Universal()),
        ("LO", "***", Universal()),
        ("DA", "*", Universal()),
        ("UI", "*", Universal()),
        ("SQ", "", Universal()),
        ("PN", "Müller^", SingleValue("PN", "muller")),
        ("PN", "DOE^*", Wildcard("PN", "doe^*")),
        ("LO", " ID? ", Wildcard("LO", "ID?")),
        ("LO", "ID", SingleValue("LO", "ID")),
        ("UT", "a\\b", SingleValue("UT", "a\\b")),
        ("DA", "20240131", DateTimeRange("DA", Range("20240131", "20240131"))),
        ("TM", "10-", DateTimeRange("TM", Range("100000.000000", None))),
        ("UI", "1.2\\1.3\\\\1.2", UidList(("1.2", "1.3"))),
        ("UI", "1.2\0", UidList(("1.2",))),
        ("CS", "CT\\MR", ValueList((SingleValue("CS", "CT"), SingleValue("CS", "MR")))),
        ("CS", "CT\\", SingleValue("CS", "CT")),
        ("CS", "CT\\*", Universal()),
        ("CS", "\\", Universal()),
        ("IS", "007", SingleValue("IS", "7")),
        ("US", "512", SingleValue("US", "512")),
        ("DS", "1.50", SingleValue("DS", "1.5")),
        ("IS", "1*", SingleValue("IS", "1*")),
        ("AS", "0*", SingleValue("AS", "0*")),
    ],
)
def test_classification(vr: str, text: str, key: object) -> None:
    assert classify(vr, text) == key


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("UI", "1.2.*"),
        ("UI", "Doe"),
        ("UI", "1" * 65),
        ("DA", "Doe"),
        ("TM", "25"),
        ("OB", "x"),
        ("LO", "a\\" * 20_000),
    ],
)
def test_keys_that_make_no_sense_are_refused_without_being_quoted(vr: str, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        classify(vr, text)
    assert "Doe" not in refused.value.detail
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("vr", "key", "stored", "matches"),
    [
        ("PN", "muller^jorg", "Müller^JÖRG ", True),
        ("PN", "Müller", "Muller^Jorg", False),
        ("PN", "DOE^J*", "Doe^John^^^", True),
        ("PN", "DOE^J?HN", "Doe^John", True),
        ("PN", "DOE^J?HN", "Doe^Jhn", False),
        ("PN", "山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "=山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "=山田*=や*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("PN", "=山田*=ま*", "Yamada^Tarou=山田^太郎=やまだ^たろう", False),
        ("PN", "Yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("PN", "*=山田*", "Yamada^Tarou", False),
        ("PN", "홍^길?", "Hong^Gildong==홍^길동", True),
        ("LO", "abc", "ABC", False),
        ("LO", "A*C", "AbbbC ", True),
        ("LO", "A_C", "AbC", False),
        ("LO", "A%C", "AbC", False),
        ("LO", "A?C", "A\nC", True),
        ("CS", "CT\\MR", "MR", True),
        ("CS", "CT\\M*", "MG", True),
        ("CS", "CT\\MR", "US", False),
        ("IS", "7", " 007 ", True),
        ("DS", "0.5", ".50", True),
        ("DS", "x", "y", False),
        ("DA", "20240101-20240131", "2024.01.15", True),
        ("DA", "20240101-20240131", "20240201", False),
        ("DA", "20240101-", "unknown", False),
        ("TM", "10", "10:59:59", True),
        ("TM", "0900-10", "110000", False),
        ("DT", "2024", "20240615", True),
        ("UI", "1.2\\1.3", "1.3\0", True),
        ("UI", "1.2", "1.20", False),
        ("LO", "", "anything", True),
    ],
)
def test_matching(vr: str, key: str, stored: str, matches: bool) -> None:
    assert classify(vr, key).matches(stored) is matches


def test_a_wildcard_as_sql() -> None:
    key = classify("LO", "a_b%**c?\\x")
    assert isinstance(key, ValueList)
    (first, second) = key.keys
    assert isinstance(first, Wildcard)
    assert first.sql_like == r"a\_b\%%c_"
    assert first.prefix == "a_b%"
    assert second == SingleValue("LO", "x")
    backslash = classify("UT", "a\\*")
    assert isinstance(backslash, Wildcard)
    assert backslash.sql_like == "a\\\\%"


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like = ON")
        yield connection


PATTERN = st.text("ab*?%_\\.^", max_size=12)


@given(PATTERN, st.text("ab%_\\.^", max_size=12))
@example("*a*b?*", "aabbab")
@example("*?", "")
def test_all_ways_to_match_a_wildcard_agree(database: sqlite3.Connection, pattern: str, text: str) -> None:
    key = Wildcard("UT", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in key.pattern)
    expected = re.fullmatch(expression, text, re.DOTALL) is not None
    assert key.matches(text) is expected
    (like,) = database.execute("SELECT ? LIKE ? ESCAPE '\\'", (text, key.sql_like)).fetchone()
    assert bool(like) is expected
    assert not expected or text.startswith(key.prefix)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    # Exponential in a backtracking matcher, and what a regular expression would make of it.
    assert not Wildcard("LT", "*a" * 200 + "*b").matches("a" * 4000)


@given(
    st.sampled_from(["PN", "LO", "DA", "TM", "DT", "UI", "IS", "DS", "CS", "US", "FD", "LT"]),
    st.text(max_size=30),
    st.text(max_size=30),
)
def test_any_key_is_understood_or_refused(vr: str, text: str, stored: str) -> None:
    try:
        key = classify(vr, text)
    except InvalidInput:
        return
    assert key.matches(stored) in (True, False)
    assert normalise(vr, normalise(vr, stored)) == normalise(vr, stored)
