"""Who is asked, in which order and for how long; leaving alone what fails; checking what is answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isocenter.dicom.dictionary import tag_of
from isocenter.dicom.levels import Level
from isocenter.features.spanner.breaker import Breaker, BreakerState
from isocenter.features.spanner.entries import (
    Configuration,
    FailureStrategy,
    Mapped,
    Quirks,
    Source,
    SourceType,
)
from isocenter.features.spanner.filtering import Filter
from isocenter.features.spanner.plan import Condition, Skipped, plan
from isocenter.features.spanner.question import Question
from isocenter.features.spanner.rows import row_of_json
from isocenter.kit.errors import InvalidInput

CONFIGURATION = Configuration(1, "all", timeout_seconds=3, retry_attempts=2)


def question(level: Level = Level.STUDY, **keys: str) -> Question:
    return Question(level, {tag_of(keyword): text for keyword, text in keys.items()}, frozenset())


def mapped(number: int, *, priority: int = 100, override: float | None = None, **values: object) -> Mapped:
    source = Source(number, f"PACS {number}", SourceType.DIMSE, **values)  # type: ignore[arg-type]
    return Mapped(source, priority, override)


def test_all_are_asked_at_once_the_most_trusted_ranks_first() -> None:
    made = plan(CONFIGURATION, [mapped(1), mapped(2, priority=1)], question(), {})

    assert [(step.source.id, step.rank, step.timeout_s, step.attempts) for step in made.steps] == [
        (2, 0, 3, 3),
        (1, 1, 3, 3),
    ]
    assert made.at_once == 2
    assert made.deadline_s == 3
    assert made.strategy is FailureStrategy.PARTIAL_RESULTS


def test_a_time_out_of_a_source_s_own_moves_the_deadline() -> None:
    assert plan(CONFIGURATION, [mapped(1), mapped(2, override=8)], question(), {}).deadline_s == 8
    assert plan(CONFIGURATION, [mapped(2, override=1)], question(), {}).deadline_s == 1


def test_where_not_all_are_asked_at_once_the_quick_ones_go_first() -> None:
    few = replace(CONFIGURATION, max_concurrent_sources=1)
    conditions = {1: Condition(median_s=2.0), 3: Condition(median_s=0.1)}

    made = plan(few, [mapped(1), mapped(2), mapped(3)], question(), conditions)

    assert [step.source.id for step in made.steps] == [3, 1, 2]
    assert [step.rank for step in made.steps] == [2, 0, 1]


def test_who_is_not_asked_is_told_with_the_reason() -> None:
    needs = Quirks(needs={Level.SERIES: ("SeriesNumber",)}, relational=True)
    sources = [
        mapped(1, enabled=False),
        mapped(2),
        mapped(3, quirks=needs),
        mapped(4, quirks=Quirks(relational=True)),
        mapped(5),
    ]

    made = plan(CONFIGURATION, sources, question(Level.SERIES, Modality="CT"), {2: Condition(resting_s=7)})

    assert [step.source.id for step in made.steps] == [4]
    assert {one.source.id: one.why for one in made.left_out} == {
        1: Skipped.DISABLED,
        2: Skipped.RESTING,
        3: Skipped.NEEDS_KEY,
        5: Skipped.NEEDS_KEY,
    }
    with_keys = question(Level.SERIES, StudyInstanceUID="1.2", SeriesNumber="1")
    assert [step.source.id for step in plan(CONFIGURATION, sources, with_keys, {}).steps] == [2, 3, 4, 5]


@pytest.mark.parametrize("keys", [{}, {"PatientName": "*"}, {"PatientID": " "}])
def test_an_enterprise_is_not_asked_for_everything(keys: dict[str, str]) -> None:
    large = replace(CONFIGURATION, enterprise_mode=True)
    with pytest.raises(InvalidInput) as caught:
        plan(large, [mapped(1)], question(**keys), {})
    assert caught.value.code == "question-too-broad"
    assert plan(large, [mapped(1)], question(PatientID="P1"), {}).steps


def test_a_configuration_without_sources_says_so() -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(CONFIGURATION, [], question(), {})
    assert caught.value.code == "no-sources"


# --- leaving alone


def test_after_failures_in_a_row_a_source_is_left_alone_then_tried_once() -> None:
    breaker = Breaker(failures_max=3, rest_s=5)
    for _ in range(2):
        breaker.failed(0)
    breaker.answered()
    for _ in range(3):
        assert breaker.admits(0)
        breaker.failed(0)
    assert breaker.state(4.9) is BreakerState.OPEN
    assert not breaker.admits(4.9)
    assert breaker.resting_s(4.0) == 1.0

    assert breaker.state(5.0) is BreakerState.HALF_OPEN
    assert breaker.admits(5.0)
    assert not breaker.admits(5.0)
    breaker.answered()
    assert breaker.admits(5.0)
    assert breaker.state(5.0) is BreakerState.CLOSED


def test_each_failed_trial_doubles_the_rest_up_to_a_bound() -> None:
    breaker = Breaker(failures_max=1, rest_s=5, rest_max_s=15)
    now_s, rests = 0.0, []
    for _ in range(4):
        assert breaker.admits(now_s)
        breaker.failed(now_s)
        rests.append(breaker.resting_s(now_s))
        now_s += rests[-1]
    assert rests == [5, 10, 15, 15]


def test_failures_of_questions_that_were_under_way_do_not_prolong_the_rest() -> None:
    breaker = Breaker(failures_max=2, rest_s=5)
    for _ in range(1000):
        breaker.failed(0)
    assert breaker.resting_s(0) == 5


def test_a_trial_that_ended_unheard_of_and_then_failed_opens_it_again() -> None:
    """As a time-out does: the question is cut off, and only then is it known why."""
    breaker = Breaker(failures_max=3, rest_s=5)
    for _ in range(3):
        breaker.failed(0)
    assert breaker.admits(5)
    breaker.abandoned()
    breaker.failed(5)
    assert breaker.state(6) is BreakerState.OPEN
    assert breaker.resting_s(5) == 10


def test_a_trial_that_was_cancelled_lets_the_next_one_through() -> None:
    breaker = Breaker(failures_max=1, rest_s=5)
    breaker.failed(0)
    assert breaker.admits(5)
    breaker.abandoned()
    assert breaker.admits(5)


# --- checking


@pytest.mark.parametrize(
    ("keys", "values", "passes"),
    [
        ({"PatientID": "P1"}, {"00100020": {"vr": "LO", "Value": ["P1"]}}, True),
        ({"PatientID": "P1"}, {"00100020": {"vr": "LO", "Value": ["P10"]}}, False),
        ({"PatientID": "P1"}, {}, False),
        ({"PatientID": ""}, {}, True),
        ({"PatientName": "doe*"}, {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE^JOHN"}]}}, True),
        ({"PatientName": "doe*"}, {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "ROE^JANE"}]}}, False),
        ({"PatientName": "doe*"}, {"00100010": {"vr": "PN", "Value": ["DOE^JOHN"]}}, True),
        ({"ModalitiesInStudy": "MR"}, {"00080061": {"vr": "CS", "Value": ["CT", "MR"]}}, True),
        ({"StudyInstanceUID": "1.2\\1.3"}, {"0020000D": {"vr": "UI", "Value": ["1.3"]}}, True),
        ({"StudyDate": "20260101-20260131"}, {"00080020": {"vr": "DA", "Value": ["20260201"]}}, False),
    ],
)
def test_a_row_is_checked_again(keys: dict[str, str], values: dict[str, object], *, passes: bool) -> None:
    assert Filter(question(**keys)).passes(row_of_json(values)) is passes


@pytest.mark.parametrize(
    ("day", "time", "passes"),
    [
        ("20260101", "1100", True),
        ("20260101", "0900", False),
        ("20260102", "0100", True),
        ("20260103", "1300", False),
    ],
)
def test_a_range_of_dates_and_one_of_times_are_one_range(day: str, time: str, *, passes: bool) -> None:
    asked = question(StudyDate="20260101-20260103", StudyTime="1000-1200")
    row = row_of_json({"00080020": {"vr": "DA", "Value": [day]}, "00080030": {"vr": "TM", "Value": [time]}})
    assert Filter(asked).passes(row) is passes


def test_what_a_source_matches_on_without_returning_it_is_taken_on_trust() -> None:
    assert Filter(question(AccessionNumber="A1"), ["AccessionNumber"]).passes({})
