"""The SQL of a matching key finds what the key itself says it matches (PS3.4 C.2.2.2)."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from isocenter.dicom.levels import Level
from isocenter.dicom.matching import SingleValue, Wildcard, classify
from isocenter.features.archive.attributes import ATTRIBUTES, Attribute, Folding, column_text
from isocenter.features.archive.query import Query
from isocenter.features.archive.query_conditions import (
    Parameters,
    condition,
    fragment_condition,
    matching_key,
)
from isocenter.features.archive.query_keys import conditions_of
from isocenter.features.archive.query_plan import plan_page
from isocenter.kit.errors import InvalidInput

NAME, PATIENT_ID, STUDY_DATE, STUDY_TIME = 0x00100010, 0x00100020, 0x00080020, 0x00080030
STUDY_UID, DESCRIPTION, INSTITUTION = 0x0020000D, 0x00081030, 0x00080080

NAMES = [
    "DOE",
    "DOE^JOHN",
    "Doe^Jane^^Dr.",
    "DOERING^JOHN",
    "MCDOE^JOHN",
    "Müller^Jürgen",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "=山田^花子",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "O_REILLY^A%B",
    "OXREILLY^AXB",
    "",
]
NAME_KEYS = [
    "DOE",
    "doe^john",
    "DOE*",
    "DOE^*",
    "D?E^JOHN",
    "*john",
    "*doe*",
    "MUELLER*",
    "muller^jurgen",
    "MÜLLER*",
    "Yamada^Tarou",
    "yamada*",
    "山田^太郎",
    "山田*",
    "やまだ*",
    "*花子",
    "홍^길동",
    "=山田*",
    "Yamada*=山田*",
    "O_REILLY*",
    "*%*",
    "*^?%B",
    "\\*",
    "*",
    "",
]


def rows_where(column: str, values: list[Any], text: str, params: dict[str, Any]) -> list[Any]:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.execute(f"CREATE TABLE t (row INTEGER PRIMARY KEY, {column})")
    connection.executemany(f"INSERT INTO t ({column}) VALUES (?)", [(value,) for value in values])
    found = connection.execute(f"SELECT row FROM t WHERE {text or '1 = 1'} ORDER BY row", params).fetchall()
    connection.close()
    return [values[n - 1] for (n,) in found]


@pytest.mark.parametrize("key_text", NAME_KEYS)
def test_names_match_as_the_key_says(key_text: str) -> None:
    key = classify("PN", key_text)
    params = Parameters()
    text = condition("k", Folding.NAME, key, params)
    keys = [column_text(name, Folding.NAME) for name in NAMES]
    assert rows_where("k", keys, text, params.values) == [k for k in keys if key.matches(k)]


@pytest.mark.parametrize(
    ("key_text", "expected"),
    [
        ("20240101", ["20240101"]),
        ("20240101-20240630", ["20240101", "20240401"]),
        ("-20240101", ["20231231", "20240101"]),
        ("20240401-", ["20240401", "20241231"]),
        ("2024.04.01", ["20240401"]),
        ("*", ["", "20231231", "20240101", "20240401", "20241231"]),
        ("20240101\\20241231", ["20240101", "20241231"]),
    ],
)
def test_dates(key_text: str, expected: list[str]) -> None:
    params = Parameters()
    text = condition("d", Folding.DATE, classify("DA", key_text), params)
    values = ["", "20231231", "20240101", "20240401", "20241231"]
    assert rows_where("d", values, text, params.values) == expected


@pytest.mark.parametrize(
    ("key_text", "expected"),
    [
        ("10", ["100000.000000", "105959.999999"]),
        ("1000-1200", ["100000.000000", "105959.999999", "120059.500000"]),
        ("-0959", ["000000.000000"]),
        ("120059.5", ["120059.500000"]),
    ],
)
def test_times_match_to_their_precision(key_text: str, expected: list[str]) -> None:
    params = Parameters()
    text = condition("t", Folding.TIME, classify("TM", key_text), params)
    values = ["", "000000.000000", "100000.000000", "105959.999999", "120059.500000"]
    assert rows_where("t", values, text, params.values) == expected


def test_lists_of_uids_and_of_values() -> None:
    params = Parameters()
    text = condition("u", Folding.NONE, classify("UI", "1.2\\1.3"), params)
    assert "IN :v0" in text
    assert params.values == {"v0": ["1.2", "1.3"]}
    params = Parameters()
    text = condition("u", Folding.NONE, classify("CS", "CT\\M*"), params)
    assert rows_where("u", ["CT", "MR", "US"], text, params.values) == ["CT", "MR"]


def test_numbers_match_by_value() -> None:
    params = Parameters()
    text = condition("n", Folding.NUMBER, classify("IS", "007"), params)
    assert rows_where("n", [7, 70, None], text, params.values) == [7]
    with pytest.raises(InvalidInput):
        condition("n", Folding.NUMBER, classify("IS", "seven"), Parameters())
    with pytest.raises(InvalidInput):
        condition("n", Folding.NUMBER, classify("IS", "9" * 30), Parameters())


@pytest.mark.parametrize("value", ["' OR 1<2 --", "x'; DROP TABLE patient; --", ":v0", "%", "_", "\\", '"'])
def test_no_value_ever_becomes_sql(value: str) -> None:
    query = Query(Level.STUDY, {PATIENT_ID: value, NAME: value + "*", DESCRIPTION: value}, frozenset())
    plan = plan_page(query, conditions_of(query, 1))
    safe = plan_page(
        (same := Query(Level.STUDY, {PATIENT_ID: "a", NAME: "a*", DESCRIPTION: "a"}, frozenset())),
        conditions_of(same, 1),
    )
    if "\\" not in value:  # a backslash separates values and so is shape
        assert plan.sql.text == safe.sql.text
    assert "DROP" not in plan.sql.text


def test_attributes_without_a_column_match_by_their_line() -> None:
    attribute = ATTRIBUTES[INSTITUTION]
    lines = [
        '"00080080":{"vr":"LO","Value":["General \\"A\\" Hospital"]}\n"00081010":{"vr":"SH","Value":["X"]}',
        '"00080080":{"vr":"LO","Value":["General"]}',
        '"00081040":{"vr":"LO","Value":["General"]}',
        '"00080080":{"vr":"LO"}',
        "",
    ]

    def found(text: str) -> list[int]:
        params = Parameters()
        condition_text = fragment_condition("f", attribute, classify("LO", text), params)
        assert condition_text is not None
        return [lines.index(line) for line in rows_where("f", lines, condition_text, params.values)]

    assert found("General") == [1]
    assert found("General*") == [0, 1]
    assert found('General "A"*') == [0]
    assert found("Gen%*") == []
    inner = fragment_condition("f", attribute, Wildcard("LO", "*Hospital"), Parameters())
    assert inner is None, "a star before the text would run over into other attributes"
    age = Attribute(0x00101020, "DS", Level.STUDY)
    assert fragment_condition("f", age, SingleValue("DS", "1.7"), Parameters()) is None


def test_keys_that_cannot_be_matched_are_named() -> None:
    modality, rows, anatomic_region = 0x00080060, 0x00280010, 0x00082218
    matches = {modality: "CT", rows: "512", anatomic_region: "", 0x00080005: "ISO_IR 100", PATIENT_ID: "1"}
    assert set(conditions_of(Query(Level.STUDY, matches, frozenset()), 1).unsupported) == {modality, rows}


def test_an_empty_key_is_universal_and_costs_no_condition() -> None:
    query = Query(Level.STUDY, {PATIENT_ID: "", NAME: "*", STUDY_DATE: ""}, frozenset())
    assert conditions_of(query, 1).texts == []


def test_date_and_time_ranges_combine() -> None:
    """PS3.4 C.2.2.2.5: from a moment to a moment, not the same hours of each day."""
    matches = {STUDY_DATE: "20240101-20240103", STUDY_TIME: "0600-1800"}
    found = conditions_of(Query(Level.STUDY, matches, frozenset()), 1)
    assert len(found.texts) == 1
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE s (study_date, study_time)")
    moments = [
        ("20240101", "050000.000000"),
        ("20240101", "070000.000000"),
        ("20240102", "230000.000000"),
        ("20240103", "180059.000000"),
        ("20240103", "190000.000000"),
        ("", ""),
    ]
    connection.executemany("INSERT INTO s VALUES (?, ?)", moments)
    rows = connection.execute(f"SELECT * FROM s WHERE {found.texts[0]}", found.params.values).fetchall()
    connection.close()
    assert rows == moments[1:4]
    apart = conditions_of(Query(Level.STUDY, matches, frozenset(), combined_datetime=False), 1)
    assert len(apart.texts) == 2


def test_a_combined_range_may_end_at_an_earlier_hour() -> None:
    matches = {STUDY_DATE: "20240101-20240103", STUDY_TIME: "1800-0600"}
    found = conditions_of(Query(Level.STUDY, matches, frozenset()), 1)
    values = set(found.params.values.values())
    assert {"20240101", "180000.000000", "20240103", "060059.999999"} <= values
    with pytest.raises(InvalidInput):
        conditions_of(Query(Level.STUDY, {STUDY_TIME: "1800-0600"}, frozenset()), 1)
    with pytest.raises(InvalidInput):
        conditions_of(Query(Level.STUDY, matches, frozenset(), combined_datetime=False), 1)
    for date in ("20240101-20240101", "-20240103"):
        with pytest.raises(InvalidInput, match="StudyTime"):
            conditions_of(Query(Level.STUDY, {**matches, STUDY_DATE: date}, frozenset()), 1)


@pytest.mark.parametrize(
    ("tag", "text", "code"),
    [
        (STUDY_DATE, "yesterday", "invalid-date-time"),
        (STUDY_UID, "1.2.x", "invalid-uid"),
        (PATIENT_ID, "A\0B", "invalid-value"),
        (NAME, "*" + "x" * 2000, "pattern-too-long"),
        (NAME, "\\".join(f"n{n}" for n in range(300)), "too-many-values"),
    ],
)
def test_values_that_an_attribute_cannot_have(tag: int, text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        conditions_of(Query(Level.STUDY, {tag: text}, frozenset()), 1)
    assert refused.value.code == code
    assert text not in refused.value.detail


def test_every_attribute_with_a_column_can_be_asked_for() -> None:
    sample = {"DA": "20240101", "TM": "10", "UI": "1.2", "IS": "1"}
    for attribute in ATTRIBUTES.values():
        if attribute.column:
            assert matching_key(attribute, sample.get(attribute.vr, "x"))
