"""Whose study is it? Finding or making the patient of an object, and never blending two (MISSION A1).

Rules, in order:

1. A patient is one Patient ID of one issuer in one organisation, looked up explicitly.
2. An object without a Patient ID belongs to its study's patient; in a new study it gets a generated one,
   the same for every object of that study.
3. A generated patient gives way as soon as an object of the study tells the real ID.
4. A study belongs to one patient. An object that claims the study for another one is not filed: it goes to
   quarantine, where a person decides (one of the two is mislabelled, and only a person can tell which).
5. Where a person merged patients, objects with any of their IDs are the survivor's. A study remembers whom
   its objects name (``told_patient_pk``), and that patient's row is what they fill in, so that undoing a
   merge gives back what was there: ``study.patient_pk`` is always the survivor of whom it names.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace

from isocenter.dicom.json_model import text_fragment
from isocenter.dicom.levels import Level
from isocenter.dicom.validation import Problem
from isocenter.features.archive import queries
from isocenter.features.archive.entry import Entry, LevelData
from isocenter.features.archive.indexed_values import ValueRows
from isocenter.features.archive.merge import PATIENT_NAME, contradictions, merge
from isocenter.features.archive.patients import queries as statements
from isocenter.features.archive.patients.demographics import of_line
from isocenter.platform.db import IntegrityViolation, Row, Work

PATIENT_ID = 0x00100020
_COLUMNS = ("name_key", "birth_date", "sex")


@dataclass(frozen=True, slots=True)
class KnownPatient:
    """The patient that a study is filed under; ``told_pk``: whom its objects name (rule 5)."""

    pk: int
    told_pk: int
    patient_id: str
    issuer: str
    generated: bool
    name_key: str


def known_patient(row: Row) -> KnownPatient:
    return KnownPatient(
        row["patient_pk"],
        row["told_patient_pk"],
        row["patient_id"],
        row["issuer"],
        bool(row["generated"]),
        row["name_key"],
    )


@dataclass(frozen=True, slots=True)
class FoundPatient:
    """Whom an object names, and who that is when merges are followed."""

    told_pk: int
    pk: int


def generated_patient_id(study_instance_uid: str) -> str:
    """Stable for a study, so that its objects meet whatever their order; 20 of LO's 64 characters."""
    return "ISO-" + hashlib.sha256(study_instance_uid.encode()).hexdigest()[:16].upper()


def objection(entry: Entry, known: KnownPatient) -> Problem | None:
    """Why this object may not join a study of ``known``; None when it may (rules 2 to 4). Merges, which only
    the index knows of, are not thought of yet."""
    told = entry.levels.patient.columns
    same_id = told["patient_id"] == known.patient_id and (
        told["issuer"] == known.issuer or not told["issuer"] or not known.issuer
    )
    if same_id:
        return None
    names_agree = not told["name_key"] or not known.name_key or told["name_key"] == known.name_key
    if names_agree and (not told["patient_id"] or known.generated):
        return None
    return Problem(
        code="study-of-another-patient",
        tag=PATIENT_ID,
        detail="The study is already filed under another patient.",
        remedy="Compare both patients. If this object is mislabelled, correct its Patient ID; if the study "
        "is, delete or correct the study first; then accept the object.",
    )


def is_upgrade(entry: Entry, known: KnownPatient) -> bool:
    """Rule 3: the study has a generated patient and this object tells the real one."""
    return known.generated and bool(entry.patient_id) and entry.patient_id != known.patient_id


def find_or_create_patient(
    organization_id: int, entry: Entry, now_us: int, rows_to_add: ValueRows
) -> Work[FoundPatient]:
    """The patient that the object names (or its study's generated one): the row, locked and filled in."""
    level = entry.levels.patient
    generated = not entry.patient_id
    if generated:
        level = _with_generated_id(level, generated_patient_id(entry.study_instance_uid))
    identity = {
        "organization_id": organization_id,
        "issuer": level.columns["issuer"],
        "patient_id": level.columns["patient_id"],
    }
    rows = yield queries.LOCK_PATIENT(**identity)
    if rows:
        yield from _fill(organization_id, rows[0], level, entry, now_us=now_us, rows_to_add=rows_to_add)
    else:
        inserted = yield queries.INSERT_PATIENT(
            **identity,
            **{name: level.columns[name] for name in _COLUMNS},
            generated=int(generated),
            fragments=level.text,
            now_us=now_us,
        )
        for row in inserted:
            rows_to_add.add(Level.PATIENT, row["id"], level.values)
        # Another process may have made the same patient meanwhile: look again, then complete that one.
        rows = yield queries.LOCK_PATIENT(**identity)
        yield from _fill(
            organization_id, still_there(rows), level, entry, now_us=now_us, rows_to_add=rows_to_add
        )
    pk: int = rows[0]["id"]
    return FoundPatient(pk, rows[0]["survivor_pk"] or pk)


def lock_patient(organization_id: int, known: KnownPatient) -> Work[tuple[Row, KnownPatient]]:
    """The row of a study's patient, and the patient with the name that it has by now: another object of the
    same transaction, or of another of the patient's studies, may have told it."""
    row = yield from _lock_row(organization_id, known.pk)
    return row, replace(known, name_key=row["name_key"])


def row_to_fill(organization_id: int, known: KnownPatient, row: Row, entry: Entry) -> Work[Row | Problem]:
    """The row that the object's patient attributes complete, out of a study of ``known`` (whose ``row`` it
    is): its own, or that of whom the study's objects name. A Problem where the object may not join it."""
    told = entry.levels.patient.columns
    problem = objection(entry, known)
    if problem is not None and told["patient_id"]:
        rows = yield queries.LOCK_MERGED(
            organization_id=organization_id,
            survivor_pk=known.pk,
            patient_id=told["patient_id"],
            issuer=told["issuer"],
        )
        if rows:
            return rows[0]
        if not known.generated:
            return problem
    elif not told["patient_id"] and known.told_pk != known.pk:
        row = yield from _lock_row(organization_id, known.told_pk)
    if problem is None or (yield from _was_called(organization_id, row, str(told["name_key"]))):
        return row
    return problem


def _was_called(organization_id: int, row: Row, name_key: str) -> Work[bool]:
    """Whether it is the patient's name, or one that a person gave up: objects go on telling that."""
    if row["name_key"] == name_key:
        return True
    kept = yield statements.FIND_GIVEN_UP_VALUES(
        organization_id=organization_id, patient_pk=row["id"], tag=f"{PATIENT_NAME:08X}"
    )
    return any(of_line(one["other"]).key == name_key for one in kept)


def _lock_row(organization_id: int, pk: int) -> Work[Row]:
    rows = yield queries.LOCK_PATIENT_BY_PK(organization_id=organization_id, id=pk)
    return still_there(rows)


def fill_patient(
    organization_id: int, row: Row, entry: Entry, now_us: int, rows_to_add: ValueRows
) -> Work[None]:
    """Complete a study's patient from one more of its objects."""
    yield from _fill(
        organization_id, row, entry.levels.patient, entry, now_us=now_us, rows_to_add=rows_to_add
    )


def still_there(rows: list[Row]) -> Row:
    """The row that was found or made a moment ago. It may have been deleted since: the committer, told so
    by the same error as when a reference breaks, files the object anew."""
    if not rows:
        raise IntegrityViolation("A row was deleted while an object was being filed under it.")
    return rows[0]


def _fill(
    organization_id: int,
    row: Row,
    level: LevelData,
    entry: Entry,
    *,
    now_us: int,
    rows_to_add: ValueRows,
) -> Work[None]:
    known = {name: row[name] for name in _COLUMNS}
    merged = merge(known, row["fragments"], level)
    rows_to_add.add(Level.PATIENT, row["id"], merged.values)
    if merged.changed:
        yield queries.FILL_PATIENT(
            organization_id=organization_id,
            id=row["id"],
            **merged.columns,
            fragments=merged.fragments,
            now_us=now_us,
        )
    for found in contradictions(known, row["fragments"], level):
        yield queries.NOTE_PATIENT_CONFLICT(
            organization_id=organization_id,
            public_id=secrets.token_hex(16),
            patient_pk=row["id"],
            tag=f"{found.tag:08X}",
            kept=found.kept,
            other=found.other,
            sop_instance_uid=entry.sop_instance_uid,
            now_us=now_us,
        )


def _with_generated_id(level: LevelData, patient_id: str) -> LevelData:
    fragments = dict(level.fragments)
    fragments[PATIENT_ID] = text_fragment(PATIENT_ID, "LO", [patient_id])
    return replace(
        level,
        columns={**level.columns, "patient_id": patient_id},
        fragments=dict(sorted(fragments.items())),
    )
