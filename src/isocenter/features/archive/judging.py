"""Whether a received object may enter the index (MISSION A5), and what a person is told when it may not."""

from __future__ import annotations

from isocenter.dicom import tags
from isocenter.dicom.scanner import Scan, ScanError
from isocenter.dicom.sop_classes import is_storage_sop_class
from isocenter.dicom.uids import uid_problem
from isocenter.dicom.validation import INVALID_UID, Problem, Strictness, validate
from isocenter.features.archive.attributes import COLUMN_CHARACTERS_MAX, UNREADABLE
from isocenter.features.archive.entry import Declared, Entry, Received, Source, StoredObject, Suspect
from isocenter.features.archive.policies import Policies
from isocenter.features.archive.reading import VALUE_BYTES_MAX

NOT_ANNOUNCED = "not-the-announced-object"


def judge(entry: Entry, found: Scan, policies: Policies, declared: Declared | None) -> Received:
    """The entry itself, or a suspect with every problem found."""
    problems = [
        *_broken_rules(entry, found, policies.strictness),
        *_identity_problems(entry, found),
        *_transfer_syntax_problems(found),
        *_sop_class_problems(entry, policies),
        *_declaration_problems(entry, declared),
    ]
    if not problems:
        if policies.strictness is Strictness.LENIENT:
            entry.tolerated = tuple(_broken_rules(entry, found, Strictness.STANDARD))
        return entry
    levels = entry.levels
    return Suspect(
        stored=entry.stored,
        source=entry.source,
        problems=tuple(problems),
        known=levels.patient.fragments
        | levels.study.fragments
        | levels.series.fragments
        | entry.instance.fragments,
        study_instance_uid=entry.study_instance_uid,
        series_instance_uid=entry.series_instance_uid,
        sop_class_uid=entry.sop_class_uid,
        sop_instance_uid=entry.sop_instance_uid,
    )


def _broken_rules(entry: Entry, found: Scan, strictness: Strictness) -> list[Problem]:
    return validate(
        strictness,
        patient_id=entry.patient_id,
        study_instance_uid=entry.study_instance_uid,
        series_instance_uid=entry.series_instance_uid,
        sop_instance_uid=entry.sop_instance_uid,
        sop_class_uid=entry.sop_class_uid,
        modality=str(entry.levels.series.columns["modality"]),
        file_meta_sop_class_uid=_meta_uid(found, tags.MEDIA_STORAGE_SOP_CLASS_UID),
        file_meta_sop_instance_uid=_meta_uid(found, tags.MEDIA_STORAGE_SOP_INSTANCE_UID),
    )


def unreadable(stored: StoredObject, source: Source, error: ScanError, declared: Declared | None) -> Suspect:
    """An object whose header the scanner refused."""
    problem = Problem(
        code=error.code,
        tag=0,
        detail=error.detail,
        remedy=error.remedy or "Have the sender transmit the object again; if it stays so, discard it.",
    )
    return Suspect(
        stored=stored,
        source=source,
        problems=(problem,),
        sop_class_uid=declared.sop_class_uid if declared else "",
        sop_instance_uid=declared.sop_instance_uid if declared else "",
    )


def _identity_problems(entry: Entry, found: Scan) -> list[Problem]:
    """Two patients must never fall together because the index cannot tell their IDs apart (MISSION A1)."""
    patient = entry.levels.patient.columns
    pairs = (
        (tags.PATIENT_ID, "Patient ID", patient["patient_id"]),
        (tags.ISSUER_OF_PATIENT_ID, "Issuer of Patient ID", patient["issuer"]),
    )
    problems = []
    for tag, name, value in pairs:
        raw = found.elements.get(tag)
        if raw is None:
            continue
        text = str(value)
        if len(text) >= COLUMN_CHARACTERS_MAX or len(raw.value) > VALUE_BYTES_MAX:
            code, what = (
                "patient-id-too-long",
                f"has {COLUMN_CHARACTERS_MAX} characters or more; 64 are allowed",
            )
        elif UNREADABLE in text:
            code, what = "patient-id-unreadable", "holds characters that its character set does not have"
        else:
            continue
        problems.append(
            Problem(code, tag, f"The {name} {what}.", f"Correct the {name} and accept the object.")
        )
    return problems


def _transfer_syntax_problems(found: Scan) -> list[Problem]:
    broken = uid_problem(found.transfer_syntax_uid)
    if broken is None:
        return []
    return [
        Problem(
            code=INVALID_UID,
            tag=tags.TRANSFER_SYNTAX_UID,
            detail=f"The Transfer Syntax UID of the file meta information {broken} (PS3.5 §9.1).",
            remedy="The file is damaged; have the sender transmit the object again.",
        )
    ]


def _sop_class_problems(entry: Entry, policies: Policies) -> list[Problem]:
    sop_class_uid = entry.sop_class_uid
    if not sop_class_uid or policies.accept_unknown_sop_classes or is_storage_sop_class(sop_class_uid):
        return []
    return [
        Problem(
            code="unknown-sop-class",
            tag=tags.SOP_CLASS_UID,
            detail=f"{sop_class_uid} is not a storage SOP class of the standard.",
            remedy="Accept the object, or set accept_unknown_sop_classes if such objects are expected.",
        )
    ]


def _declaration_problems(entry: Entry, declared: Declared | None) -> list[Problem]:
    """PS3.4 B.2.3: the data set must be the object that the C-STORE request announced."""
    if declared is None:
        return []
    pairs = (
        (tags.SOP_CLASS_UID, "SOP Class UID", declared.sop_class_uid, entry.sop_class_uid),
        (tags.SOP_INSTANCE_UID, "SOP Instance UID", declared.sop_instance_uid, entry.sop_instance_uid),
    )
    return [
        Problem(
            code=NOT_ANNOUNCED,
            tag=tag,
            detail=f"The request announced {name} {announced}, the data set says "
            f"{told if uid_problem(told) is None else 'something else'}.",
            remedy="The sender mixed up two objects; have it transmit this one again.",
        )
        for tag, name, announced, told in pairs
        if told and told != announced
    ]


def _meta_uid(found: Scan, tag: int) -> str | None:
    value = found.file_meta.get(tag)
    return None if value is None else value.decode("ascii", "replace").rstrip("\0 ")
