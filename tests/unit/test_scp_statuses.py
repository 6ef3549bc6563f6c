"""Every kind of failure and every outcome has a DIMSE status, and words that fit Error Comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.validation import Problem
from isocenter.dimse.protocol.statuses import Family, family
from isocenter.doors.scp.statuses import (
    COMMENT_CHARACTERS_MAX,
    answer_to_error,
    answer_to_outcome,
    comment,
    status_of_kind,
)
from isocenter.features.archive.entry import Outcome, OutcomeKind
from isocenter.kit.errors import Kind, OutOfSpace, Unavailable


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_failure_is_a_failure(kind: Kind) -> None:
    assert family(status_of_kind(kind)) is Family.FAILURE


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Kind.OUT_OF_SPACE, 0xA700),
        (Kind.UNAVAILABLE, 0xA700),
        (Kind.BUSY, 0xA700),
        (Kind.TOO_LARGE, 0xA700),
        (Kind.INVALID, 0xC000),
        (Kind.FORBIDDEN, 0x0124),
        (Kind.UNSUPPORTED, 0x0122),
        (Kind.INTERNAL, 0x0110),
    ],
)
def test_what_a_sender_goes_by(kind: Kind, status: int) -> None:
    assert status_of_kind(kind) == status


@pytest.mark.parametrize("kind", OutcomeKind)
def test_success_is_said_of_what_was_accepted_and_of_nothing_else(kind: OutcomeKind) -> None:
    answer = answer_to_outcome(Outcome(kind, "1", "2", "3", "4"))
    assert (answer.status == 0) is kind.accepted


def problem(code: str, tag: int = 0) -> Problem:
    return Problem(code, tag, "detail", "remedy")


@pytest.mark.parametrize(
    ("problems", "status", "words", "offending"),
    [
        (
            [problem("missing", 0x00080060)],
            0xA900,
            "quarantined: missing or empty, Modality",
            (0x00080060,),
        ),
        (
            [problem("not-the-announced-object", 0x00080018)],
            0xA900,
            "quarantined: not the announced object, SOPInstanceUID",
            (0x00080018,),
        ),
        (
            [problem("invalid-uid", 0x0020000D)],
            0xC000,
            "quarantined: invalid UID, StudyInstanceUID",
            (0x0020000D,),
        ),
        ([problem("truncated")], 0xC000, "quarantined: truncated", ()),
        (
            [problem("invalid-uid", 0x00080018), problem("missing", 0x00080060)],
            0xA900,
            "quarantined: invalid UID, SOPInstanceUID (+1)",
            (0x00080018, 0x00080060),
        ),
    ],
)
def test_quarantine_says_why(
    problems: list[Problem], status: int, words: str, offending: tuple[int, ...]
) -> None:
    answer = answer_to_outcome(Outcome(OutcomeKind.QUARANTINED, "", "", "", "", tuple(problems)))
    assert (answer.status, answer.comment, answer.offending_elements) == (status, words, offending)


def test_a_conflict_is_told_from_a_failure() -> None:
    assert answer_to_outcome(Outcome(OutcomeKind.REJECTED, "1", "2", "3", "4")).status == 0x0111


def test_errors_keep_their_words() -> None:
    assert answer_to_error(OutOfSpace("The disk is full.")).comment == "The disk is full."
    assert answer_to_error(Unavailable("x" * 200)).comment == "x" * 61 + "..."


@given(st.text(max_size=200))
def test_a_comment_is_always_an_lo(text: str) -> None:
    fitted = comment(text)
    assert len(fitted) <= COMMENT_CHARACTERS_MAX
    assert fitted.isascii() and "\\" not in fitted
    assert all(" " <= character <= "~" for character in fitted)
