"""What an object must have before the archive takes it in (MISSION A5; PS3.3 C.7, C.12.1; PS3.10 §7.1).

Values come in as plain text, padding removed. What is wrong goes into quarantine with these words, so
they say which attribute and which rule, and what to do; UIDs may be in them, patient data never.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from isocenter.dicom.tags import (
    MEDIA_STORAGE_SOP_CLASS_UID,
    MEDIA_STORAGE_SOP_INSTANCE_UID,
    MODALITY,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from isocenter.dicom.uids import UID_CHARS_MAX, has_leading_zeros_only, uid_problem

MISSING = "missing"
INVALID_UID = "invalid-uid"
FILE_META_MISMATCH = "file-meta-mismatch"

_COMPLETE_IT = "Complete the attribute where the object comes from, or in quarantine, and accept it there."
_CORRECT_UID = "Correct the UID where the object comes from; `lenient` strictness tolerates leading zeros."
_SHOWN_CHARS_MAX = UID_CHARS_MAX


class Strictness(StrEnum):
    """``standard`` is the default; ``strict`` adds what PS3 demands and archives can do without; ``lenient``
    lets in what old equipment sends as long as the object can be found again."""

    STRICT = "strict"
    STANDARD = "standard"
    LENIENT = "lenient"


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule. ``code`` is stable: ``missing``, ``invalid-uid`` or ``file-meta-mismatch``."""

    code: str
    tag: int
    detail: str
    remedy: str


def validate(
    strictness: Strictness,
    *,
    patient_id: str,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    sop_class_uid: str,
    modality: str,
    file_meta_sop_class_uid: str | None = None,
    file_meta_sop_instance_uid: str | None = None,
) -> list[Problem]:
    """The rules that the object breaks, worst first; empty for an object that may come in.

    An absent attribute is passed as an empty text; the file meta's UIDs as ``None`` where there is none.
    """
    uids = (
        (SOP_INSTANCE_UID, "SOPInstanceUID", sop_instance_uid),
        (SOP_CLASS_UID, "SOPClassUID", sop_class_uid),
        (STUDY_INSTANCE_UID, "StudyInstanceUID", study_instance_uid),
        (SERIES_INSTANCE_UID, "SeriesInstanceUID", series_instance_uid),
    )
    problems = [
        problem
        for tag, keyword, uid in uids
        if (problem := _uid_rule(tag, keyword, uid, strictness)) is not None
    ]
    if not modality and strictness is not Strictness.LENIENT:
        problems.append(_missing(MODALITY, "Modality"))
    if strictness is Strictness.STRICT:
        if not patient_id:
            problems.append(_missing(PATIENT_ID, "PatientID"))
        problems += _file_meta_rules(
            (MEDIA_STORAGE_SOP_CLASS_UID, "SOP class", file_meta_sop_class_uid, sop_class_uid),
            (MEDIA_STORAGE_SOP_INSTANCE_UID, "SOP instance", file_meta_sop_instance_uid, sop_instance_uid),
        )
    return problems


def _uid_rule(tag: int, keyword: str, uid: str, strictness: Strictness) -> Problem | None:
    if not uid:
        return _missing(tag, keyword)
    broken = uid_problem(uid)
    if broken is None or (strictness is Strictness.LENIENT and has_leading_zeros_only(uid)):
        return None
    detail = f"{keyword} {_tag_text(tag)} {_shown(uid)} {broken} (PS3.5 §9.1)"
    return Problem(INVALID_UID, tag, detail, _CORRECT_UID)


def _missing(tag: int, keyword: str) -> Problem:
    return Problem(MISSING, tag, f"{keyword} {_tag_text(tag)} is missing or empty", _COMPLETE_IT)


def _file_meta_rules(*pairs: tuple[int, str, str | None, str]) -> list[Problem]:
    return [
        Problem(
            FILE_META_MISMATCH,
            tag,
            f"The file meta information {_tag_text(tag)} and the data set name different {what} UIDs:"
            f" {_shown(in_file_meta)} and {_shown(in_data_set)} (PS3.10 §7.1)",
            "Find out which of the two is right and correct the other where the object comes from.",
        )
        for tag, what, in_file_meta, in_data_set in pairs
        if in_file_meta is not None and in_file_meta != in_data_set
    ]


def _tag_text(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _shown(uid: str) -> str:
    """The UID if it looks like one: anything else in its place may be somebody's name."""
    if uid and len(uid) <= _SHOWN_CHARS_MAX and set(uid) <= set("0123456789."):
        return uid
    return "(value not shown)"
