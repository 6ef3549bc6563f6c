"""Merging what several archives say: no blend of UIDs or patients, whatever the order of what comes in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.dictionary import tag_of, vr_of
from isocenter.dicom.levels import Level
from isocenter.features.spanner.merge import Answer, Gathered, Standing
from isocenter.features.spanner.rows import Row, row_of_json

SOURCES = (Standing(1, 0, "HOSP A"), Standing(2, 1, "HOSP B"), Standing(3, 2))
SOURCE_IDS = [source.source_id for source in SOURCES]
STUDY = "1.2.3"


def row(**values: Any) -> Row:
    attributes: dict[str, Any] = {}
    for keyword, value in values.items():
        tag = tag_of(keyword)
        listed = value if isinstance(value, list) else [value] if value else []
        attributes[f"{tag:08X}"] = {"vr": vr_of(tag), **({"Value": listed} if listed else {})}
    return row_of_json(attributes)


def study(uid: str = STUDY, **values: Any) -> Row:
    return row(StudyInstanceUID=uid, **values)


def merged(rows: Mapping[int, Iterable[Row]], level: Level = Level.STUDY) -> list[Answer]:
    gathered = Gathered(level)
    for source_id, of_source in rows.items():
        gathered.add(source_id, of_source)
    return gathered.answers(SOURCES)


def value(answer: Answer, keyword: str) -> Any:
    found = json.loads(answer.json()).get(f"{tag_of(keyword):08X}", {}).get("Value")
    return found[0] if found and len(found) == 1 else found


def test_a_study_in_two_archives_is_one_answer_that_says_where_it_is() -> None:
    (answer,) = merged({2: [study(StudyDate="20260101")], 1: [study(StudyDate="20260101")]})

    assert answer.found_in == (1, 2)
    assert answer.contradictions == ()


def test_rows_are_never_joined_by_position() -> None:
    """The public proxy's failure: the first row of one archive and the first of another became one."""
    first = study("1.2.3", PatientID="P1", PatientName="DOE^JOHN")
    second = study("1.2.4", PatientID="P2", PatientName="ROE^JANE")

    answers = merged({1: [first], 2: [second]})

    assert {(one.identity, value(one, "PatientID")) for one in answers} == {
        (("1.2.3",), "P1"),
        (("1.2.4",), "P2"),
    }


def test_what_describes_the_patient_comes_from_one_archive_as_a_whole() -> None:
    told = study(PatientID="P1", PatientName="DOE^JOHN", PatientBirthDate="")
    other = study(
        PatientID="P1", PatientName="DOE^JON", PatientBirthDate="19700101", IssuerOfPatientID="HOSP A"
    )

    (answer,) = merged({1: [told], 2: [other]})

    assert value(answer, "PatientName") == {"Alphabetic": "DOE^JOHN"}
    assert value(answer, "PatientBirthDate") is None
    (contradiction,) = answer.contradictions
    assert contradiction.tag == tag_of("PatientName")
    assert set(contradiction.values) == {1, 2}


def test_one_study_uid_of_two_patients_stays_two_answers() -> None:
    one = study(PatientID="P1", PatientName="DOE^JOHN", StudyDescription="")
    other = study(PatientID="P2", PatientName="ROE^JANE", IssuerOfPatientID="HOSP A", StudyDescription="HEAD")

    answers = merged({1: [one], 2: [other]})

    assert [(value(a, "PatientID"), value(a, "StudyDescription"), a.found_in) for a in answers] == [
        ("P1", None, (1,)),
        ("P2", "HEAD", (2,)),
    ]
    assert all(answer.shared_name for answer in answers)


@pytest.mark.parametrize(
    ("values", "together"),
    [
        ({"PatientID": "77", "PatientName": "DOE^JOHN"}, True),  # known there by another ID
        ({"PatientID": "77", "PatientName": "DOE^J", "PatientBirthDate": "19700101"}, True),
        ({"PatientID": "77", "PatientName": "DOE^JOHN", "PatientBirthDate": "19710101"}, False),
        ({"PatientID": "77", "PatientName": "DOE^JOHN", "PatientSex": "F"}, False),
        ({"PatientID": "77", "PatientName": "ROE^JANE"}, False),
        ({"PatientID": "77", "PatientName": "DOE^JIM", "PatientBirthDate": "19700101"}, False),  # a twin
        ({"PatientID": "P1", "PatientName": "DOE^JIM", "PatientBirthDate": "19700101"}, False),
        ({"PatientID": "77", "PatientName": "DOE^JOHN^M", "PatientBirthDate": "19700101"}, True),
        ({"PatientID": "77", "PatientName": "DOE^ANN^J", "PatientBirthDate": "19700101"}, False),
        ({"PatientID": "77", "PatientName": "DOE", "PatientBirthDate": "19700101"}, False),
        ({"PatientID": "77", "PatientName": "DOE^J"}, False),  # not even a birth date
        (
            {"PatientID": "77", "PatientName": "DOE JOHN=山田^太郎", "PatientBirthDate": "19700101"},
            True,
        ),
        ({"PatientID": "77", "PatientBirthDate": "19700101"}, True),
        ({"PatientID": "77"}, False),
        ({}, True),
    ],
)
def test_the_same_study_under_the_ids_of_two_hospitals(values: dict[str, str], *, together: bool) -> None:
    here = study(PatientID="P1", PatientName="DOE^JOHN", PatientBirthDate="19700101", PatientSex="M")

    answers = merged({1: [here], 2: [study(**values)]})

    assert len(answers) == (1 if together else 2)
    assert value(answers[0], "PatientID") == "P1"


@pytest.mark.parametrize(
    ("values", "together"),
    [
        ({"PatientName": "DOE^JANE", "PatientBirthDate": "19700101"}, True),
        ({"PatientName": "ROE^JANE", "PatientBirthDate": "19700101"}, True),  # she has married
        ({"PatientName": "ROE^JANE"}, False),
        ({"PatientName": "ROE^MARY", "PatientBirthDate": "19700101"}, False),
        ({"PatientName": "DOE^MARY", "PatientBirthDate": "19700101"}, False),
        ({"PatientBirthDate": "19700101"}, True),
        ({}, True),
    ],
)
def test_the_same_study_under_one_id_of_an_unknown_domain(values: dict[str, str], *, together: bool) -> None:
    here = study(PatientID="P1", PatientName="DOE^JANE", PatientBirthDate="19700101")
    answers = merged({1: [here], 3: [study(PatientID="P1", **values)]})
    assert len(answers) == (1 if together else 2)


def test_patients_of_one_id_are_one_only_within_the_same_domain() -> None:
    doe = row(PatientID="1", PatientName="DOE^JOHN")
    answers = merged({1: [doe], 2: [doe]}, Level.PATIENT)
    assert [(value(a, "IssuerOfPatientID"), a.found_in) for a in answers] == [
        ("HOSP A", (1,)),
        ("HOSP B", (2,)),
    ]
    assert not any(answer.shared_name for answer in answers)

    told = row(PatientID="1", PatientName="DOE^JOHN", IssuerOfPatientID="HOSP A")
    assert [a.found_in for a in merged({1: [doe], 2: [told]}, Level.PATIENT)] == [(1, 2)]


def test_of_an_unknown_domain_name_and_birth_date_decide() -> None:
    here = row(PatientID="1", PatientName="DOE^JOHN", PatientBirthDate="19700101")
    assert len(merged({1: [here], 3: [here]}, Level.PATIENT)) == 1
    unsure = row(PatientID="1", PatientName="DOE^JOHN")
    assert len(merged({1: [here], 3: [unsure]}, Level.PATIENT)) == 2


def test_counts_modalities_and_availability_are_united() -> None:
    small = study(NumberOfStudyRelatedInstances=9, ModalitiesInStudy=["CT"], InstanceAvailability="NEARLINE")
    large = study(
        NumberOfStudyRelatedInstances=10, ModalitiesInStudy=["CT", "SR"], InstanceAvailability="ONLINE"
    )

    (answer,) = merged({1: [small], 2: [large]})

    assert value(answer, "NumberOfStudyRelatedInstances") == 10
    assert value(answer, "ModalitiesInStudy") == ["CT", "SR"]
    assert value(answer, "InstanceAvailability") == "ONLINE"
    assert answer.contradictions == ()


def test_date_and_time_are_of_one_archive() -> None:
    undated, dated = study(StudyTime="235900"), study(StudyDate="20260102", StudyTime="000100")
    (answer,) = merged({1: [undated], 2: [dated]})
    assert (value(answer, "StudyDate"), value(answer, "StudyTime")) == ("20260102", "000100")


def test_the_same_series_uid_in_two_studies_is_two_series() -> None:
    one = row(StudyInstanceUID="1.1", SeriesInstanceUID="1.9")
    other = row(StudyInstanceUID="1.2", SeriesInstanceUID="1.9")
    assert len(merged({1: [one], 2: [other]}, Level.SERIES)) == 2


def test_rows_without_a_uid_are_left_out_and_counted() -> None:
    gathered = Gathered(Level.STUDY)
    assert gathered.add(1, [row(PatientID="P1"), study("")]) == 2
    assert gathered.answers(SOURCES) == []


def test_spelling_is_no_contradiction() -> None:
    lower = study(PatientID="P1", PatientName="Doe^John", StudyID="1 ")
    upper = study(PatientID="P1", PatientName="DOE^JOHN", StudyID="1", IssuerOfPatientID="HOSP A")
    (answer,) = merged({1: [lower], 2: [upper]})
    assert answer.contradictions == ()


def test_the_latest_study_comes_first_and_those_without_a_date_last() -> None:
    rows = [study("1.1"), study("1.2", StudyDate="20250101"), study("1.3", StudyDate="20260101")]
    assert [one.identity[0] for one in merged({1: rows})] == ["1.3", "1.2", "1.1"]


# --- whatever comes in

_SOME = {
    "PatientID": ["", "P1", "P2"],
    "PatientName": ["", "DOE^JOHN", "ROE^JANE"],
    "PatientBirthDate": ["", "19700101", "19800101"],
    "IssuerOfPatientID": ["", "HOSP A", "HOSP B"],
    "StudyDate": ["", "20260101", "20260102"],
    "StudyDescription": ["", "HEAD", "KNEE"],
    "ModalitiesInStudy": ["", "CT", "MR"],
    "NumberOfStudyRelatedInstances": ["", 1, 2],
}
_ROWS = st.builds(
    lambda uid, values: study(uid, **values),
    st.sampled_from(["1.1", "1.2"]),
    st.fixed_dictionaries({}, optional={key: st.sampled_from(some) for key, some in _SOME.items()}),
)
_SAID = st.lists(st.tuples(st.sampled_from([1, 2, 3]), _ROWS), max_size=7)
_OF_PATIENT = ("PatientID", "PatientName", "PatientBirthDate")


def _gather(said: Iterable[tuple[int, Row]]) -> Gathered:
    gathered = Gathered(Level.STUDY)
    for source_id, one in said:
        gathered.add(source_id, [one])
    return gathered


@given(_SAID, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_count(said: list[tuple[int, Row]], random: Any) -> None:
    shuffled = [*said, *said]
    random.shuffle(shuffled)
    assert _gather(shuffled).answers(SOURCES) == _gather(said).answers(SOURCES)


@given(_SAID, st.lists(st.integers(0, 7), max_size=4))
def test_how_rows_are_grouped_does_not_count(said: list[tuple[int, Row]], cuts: list[int]) -> None:
    """As they come by ones or by hundreds, from an attempt that failed or the next."""
    grouped = Gathered(Level.STUDY)
    bounds = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    for start, stop in itertools.pairwise(bounds):
        for source_id in SOURCE_IDS:
            grouped.add(source_id, [one for source, one in said[start:stop] if source == source_id])
    assert grouped.answers(SOURCES) == _gather(said).answers(SOURCES)


@given(_SAID)
def test_no_answer_blends(said: list[tuple[int, Row]]) -> None:
    """Every value of an answer is one that some row of the same UID has, and all that describes the patient
    is as a single row has it."""
    for answer in _gather(said).answers(SOURCES):
        of_study = [one for _, one in said if _value(one, "StudyInstanceUID") == answer.identity[0]]
        patients = {tuple(_value(one, keyword) for keyword in _OF_PATIENT) for one in of_study}
        assert tuple(_value(answer.row, keyword) for keyword in _OF_PATIENT) in patients
        assert _value(answer.row, "StudyDescription") in {_value(one, "StudyDescription") for one in of_study}


@given(_SAID)
def test_nothing_that_was_found_is_lost(said: list[tuple[int, Row]]) -> None:
    answers = _gather(said).answers(SOURCES)
    told = set(itertools.chain.from_iterable(((a.identity[0], s) for s in a.found_in) for a in answers))
    assert told == {(_value(one, "StudyInstanceUID"), source_id) for source_id, one in said}


@given(_SAID)
def test_contradicting_patients_of_one_domain_are_never_one_answer(said: list[tuple[int, Row]]) -> None:
    issuers = {1: "HOSP A", 2: "HOSP B", 3: ""}
    for answer in _gather(said).answers(SOURCES):
        holders = [
            (issuer, patient_id)
            for source_id, one in said
            if source_id in answer.found_in
            and _value(one, "StudyInstanceUID") == answer.identity[0]
            and (patient_id := _value(one, "PatientID"))
            and (issuer := _value(one, "IssuerOfPatientID") or issuers[source_id])
        ]
        if not answer.shared_name:
            for domain in {issuer for issuer, _ in holders}:
                assert len({patient_id for issuer, patient_id in holders if issuer == domain}) <= 1


def _value(one: Row, keyword: str) -> Any:
    text = one.get(tag_of(keyword))
    found = json.loads(text).get("Value") if text else None
    first = found[0] if found else ""
    return first.get("Alphabetic", "") if isinstance(first, dict) else first
