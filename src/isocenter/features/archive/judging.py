"""Whether a received object may enter the index (MISSION A5), and what a person is told when it may not."""

from __future__ import annotations

from isocenter.dicom import tags
from isocenter.dicom.charsets import TextDecoder
from isocenter.dicom.scanner import Scan, ScanError
from isocenter.dicom.sop_classes import is_storage_sop_class
from isocenter.dicom.validation import Problem, validate
from isocenter.features.archive.entry import Declared, Entry, Received, Source, StoredObject, Suspect
from isocenter.features.archive.policies import Policies
from isocenter.features.archive.reading import raw_text

_PATIENT_ID_CHARACTERS_MAX = 256
"""LO allows 64; a longer one cannot be told apart in the index from one with the same beginning."""


def judge(
    entry: Entry, found: Scan, decoder: TextDecoder, policies: Policies, declared: Declared | None
) -> Received:
    """The entry itself, or a suspect with every problem found."""
    problems = [
        *validate(
            policies.strictness,
            patient_id=entry.patient_id,
            study_instance_uid=entry.study_instance_uid,
            series_instance_uid=entry.series_instance_uid,
            sop_instance_uid=entry.sop_instance_uid,
            sop_class_uid=entry.sop_class_uid,
            modality=str(entry.levels.series.columns["modality"]),
            file_meta_sop_class_uid=_meta_uid(found, tags.MEDIA_STORAGE_SOP_CLASS_UID),
            file_meta_sop_instance_uid=_meta_uid(found, tags.MEDIA_STORAGE_SOP_INSTANCE_UID),
        ),
        *_identity_problems(entry, found, decoder),
        *_sop_class_problems(entry, policies),
        *_declaration_problems(entry, declared),
    ]
    if not problems:
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


def _identity_problems(entry: Entry, found: Scan, decoder: TextDecoder) -> list[Problem]:
    if len(raw_text(found, tags.PATIENT_ID, decoder)) < _PATIENT_ID_CHARACTERS_MAX:
        return []
    return [
        Problem(
            code="patient-id-too-long",
            tag=tags.PATIENT_ID,
            detail=f"The Patient ID has {_PATIENT_ID_CHARACTERS_MAX} characters or more; 64 are allowed.",
            remedy="Correct the Patient ID and accept the object.",
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
            code="not-the-announced-object",
            tag=tag,
            detail=f"The request announced {name} {announced}, the data set says {told}.",
            remedy="The sender mixed up two objects; have it transmit this one again.",
        )
        for tag, name, announced, told in pairs
        if told and told != announced
    ]


def _meta_uid(found: Scan, tag: int) -> str | None:
    value = found.file_meta.get(tag)
    return None if value is None else value.decode("ascii", "replace").rstrip("\0 ")
