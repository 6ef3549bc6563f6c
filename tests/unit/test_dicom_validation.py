"""The rules between archive and quarantine, at each strictness."""

from __future__ import annotations

import pytest

from isocenter.dicom.validation import Problem, Strictness, validate

GOOD = {
    "patient_id": "P1",
    "study_instance_uid": "1.2.1",
    "series_instance_uid": "1.2.2",
    "sop_instance_uid": "1.2.3",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "modality": "CT",
}
UIDS = {
    "study_instance_uid": (0x0020000D, "StudyInstanceUID"),
    "series_instance_uid": (0x0020000E, "SeriesInstanceUID"),
    "sop_instance_uid": (0x00080018, "SOPInstanceUID"),
    "sop_class_uid": (0x00080016, "SOPClassUID"),
}
STRICT, STANDARD, LENIENT = Strictness.STRICT, Strictness.STANDARD, Strictness.LENIENT


def check(strictness: Strictness, **changed: str | None) -> list[Problem]:
    return validate(strictness, **(GOOD | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("strictness", Strictness)
def test_a_good_object_has_no_problem(strictness: Strictness) -> None:
    assert check(strictness) == []
    same = {"file_meta_sop_class_uid": GOOD["sop_class_uid"], "file_meta_sop_instance_uid": "1.2.3"}
    assert check(strictness, **same) == []


@pytest.mark.parametrize("strictness", Strictness)
@pytest.mark.parametrize("name", UIDS)
def test_the_four_uids_are_always_needed_and_well_formed(name: str, strictness: Strictness) -> None:
    tag, keyword = UIDS[name]
    [missing] = check(strictness, **{name: ""})
    assert (missing.code, missing.tag) == ("missing", tag)
    assert keyword in missing.detail
    assert missing.remedy
    for wrong in ("1.2.x", "1..2", "1." + "2" * 63):
        [problem] = check(strictness, **{name: wrong})
        assert (problem.code, problem.tag) == ("invalid-uid", tag)
        assert keyword in problem.detail
        assert "PS3.5" in problem.detail


@pytest.mark.parametrize(("strictness", "tolerated"), [(STRICT, False), (STANDARD, False), (LENIENT, True)])
def test_leading_zeros_in_uids(strictness: Strictness, tolerated: bool) -> None:
    assert (check(strictness, study_instance_uid="1.02.3") == []) is tolerated


@pytest.mark.parametrize(("strictness", "tolerated"), [(STRICT, False), (STANDARD, False), (LENIENT, True)])
def test_modality_missing(strictness: Strictness, tolerated: bool) -> None:
    problems = check(strictness, modality="")
    assert [problem.tag for problem in problems] == ([] if tolerated else [0x00080060])


@pytest.mark.parametrize(("strictness", "tolerated"), [(STRICT, False), (STANDARD, True), (LENIENT, True)])
def test_patient_id_missing(strictness: Strictness, tolerated: bool) -> None:
    problems = check(strictness, patient_id="")
    assert [problem.tag for problem in problems] == ([] if tolerated else [0x00100020])


@pytest.mark.parametrize(("strictness", "tolerated"), [(STRICT, False), (STANDARD, True), (LENIENT, True)])
def test_file_meta_that_names_another_object(strictness: Strictness, tolerated: bool) -> None:
    problems = check(strictness, file_meta_sop_class_uid="1.2.9", file_meta_sop_instance_uid="1.2.8")
    assert [(problem.code, problem.tag) for problem in problems] == (
        [] if tolerated else [("file-meta-mismatch", 0x00020002), ("file-meta-mismatch", 0x00020003)]
    )


def test_every_problem_is_told_at_once() -> None:
    problems = check(STRICT, **dict.fromkeys(GOOD, ""))
    assert {problem.tag for problem in problems} == {tag for tag, _ in UIDS.values()} | {
        0x00080060,
        0x00100020,
    }


def test_words_hold_uids_but_never_what_else_was_in_their_place() -> None:
    [problem] = check(STANDARD, study_instance_uid="Doe^Jane")
    assert "Doe" not in problem.detail + problem.remedy
    [problem] = check(STANDARD, study_instance_uid="1.02")
    assert "1.02" in problem.detail
