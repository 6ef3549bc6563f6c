"""UIDs after PS3.5 §9.1, and UIDs of our own."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.dicom.uids import generate_uid, has_leading_zeros_only, is_valid_uid, uid_problem


@pytest.mark.parametrize("uid", ["1", "0.0", "1.2.840.10008.1.1", "2.25.0", "1." + "2" * 62])
def test_valid(uid: str) -> None:
    assert is_valid_uid(uid)
    assert uid_problem(uid) is None


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        ("", "empty"),
        ("1." + "2" * 63, "65 characters"),
        ("1.2.a", "other than digits"),
        ("1.2 ", "other than digits"),
        ("1.2\n", "other than digits"),
        ("1.٣", "other than digits"),
        ("1..2", "empty component"),
        (".1", "empty component"),
        ("1.", "empty component"),
        ("1.02", "starts with 0"),
        ("00", "starts with 0"),
    ],
)
def test_invalid(uid: str, words: str) -> None:
    assert not is_valid_uid(uid)
    assert words in (uid_problem(uid) or "")
    assert has_leading_zeros_only(uid) is (words == "starts with 0")


@given(st.text(alphabet="0123456789.aé \n", max_size=70))
def test_a_problem_is_named_exactly_when_there_is_one(text: str) -> None:
    parts = text.split(".")
    digits = all(part.isascii() and part.isdigit() for part in parts)
    by_rule = len(text) <= 64 and digits and all(part == "0" or part[0] != "0" for part in parts)
    assert is_valid_uid(text) is by_rule
    assert (uid_problem(text) is None) is by_rule


@given(st.uuids())
def test_generated_from_a_uuid(uuid: UUID) -> None:
    uid = generate_uid(uuid)
    assert is_valid_uid(uid)
    assert uid == f"2.25.{uuid.int}"


def test_generated_ones_differ() -> None:
    assert len({generate_uid() for _ in range(1000)}) == 1000
