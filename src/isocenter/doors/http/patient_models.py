"""What ``/api/v1/patients`` takes and gives. A patient is an ID *and* its issuer, so neither is in a path."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.doors.http.instants import instant
from isocenter.features.archive.patients.conflicts import PatientConflict
from isocenter.features.archive.patients.identity import PatientIdentity, identity_asked_for
from isocenter.features.archive.patients.records import Merged, PatientRecord
from isocenter.features.archive.said import REASON_CHARACTERS_MAX

_Identifier = Annotated[str, Field(max_length=64)]
_Reason = Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)]
_Demographic = Annotated[str, Field(max_length=256)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class IdentityModel(_Asked):
    """One Patient ID of one issuer; an issuer that nobody names is empty."""

    patient_id: Annotated[str, Field(min_length=1, max_length=64)]
    issuer: _Identifier = ""

    @property
    def identity(self) -> PatientIdentity:
        """Raises InvalidInput for what no patient can have."""
        return identity_asked_for(self.patient_id, self.issuer)


class MergeModel(_Asked):
    """``source`` is ``target`` from now on: its studies, and whatever will be sent of it."""

    source: IdentityModel
    target: IdentityModel
    reason: _Reason = ""


class UnmergeModel(_Asked):
    """``patient``: who was merged into another one, or had this ID before it was changed."""

    patient: IdentityModel


class ChangeIdModel(_Asked):
    """``patient`` gets the ID ``to``; the old one goes on resolving."""

    patient: IdentityModel
    to: IdentityModel
    reason: _Reason = ""


class LinkModel(_Asked):
    """``patient`` and ``other`` are one person under two identities that both stay."""

    patient: IdentityModel
    other: IdentityModel


class CorrectModel(_Asked):
    """What is to be set; what is left out stays. Name as DICOM writes it (``Family^Given``), birth date
    ``YYYYMMDD``, sex M, F or O."""

    patient: IdentityModel
    name: _Demographic = ""
    birth_date: _Demographic = ""
    sex: _Demographic = ""
    note: _Reason = ""


class SettleModel(_Asked):
    """``keep`` the patient's value, or ``take`` the other one."""

    decision: Literal["keep", "take"]
    note: _Reason = ""


class MovedModel(BaseModel):
    """The Study Instance UIDs of what has another patient now."""

    studies: list[str]


class KnownAsModel(BaseModel):
    """An identity as the index has it."""

    patient_id: str
    issuer: str


class MergedModel(BaseModel):
    """``patient`` went into ``into``; ``survivor``: who is left when merges follow one another."""

    patient: KnownAsModel
    into: KnownAsModel
    survivor: KnownAsModel
    at: datetime
    by: str
    reason: str


class LinkedModel(BaseModel):
    """Another identity of the same person."""

    patient: KnownAsModel
    at: datetime
    by: str


class PatientModel(BaseModel):
    """``attributes`` are DICOM JSON. ``merged`` is null for a living patient; ``behind``: who was merged into
    it. ``generated``: its objects tell no Patient ID; ``corrected``: a person set demographics."""

    patient_id: str
    issuer: str
    attributes: dict[str, Any]
    generated: bool
    corrected: bool
    merged: MergedModel | None
    behind: list[MergedModel]
    links: list[LinkedModel]
    open_conflicts: int
    studies: int


class ConflictModel(BaseModel):
    """``tag`` is ``GGGGEEEE``; ``kept`` and ``other`` are the attribute in DICOM JSON. ``sop_instance_uid``:
    the object that told the other value; empty where a person gave it up."""

    id: str
    patient: KnownAsModel
    tag: str
    kept: dict[str, Any]
    other: dict[str, Any]
    sop_instance_uid: str
    seen_at: datetime
    state: Literal["open", "kept", "taken"]
    settled_at: datetime | None
    settled_by: str
    settled_note: str


class ConflictsModel(BaseModel):
    """``next_after``: the next page's cursor, null after the last."""

    conflicts: list[ConflictModel]
    next_after: str | None


def patient_model(record: PatientRecord) -> PatientModel:
    return PatientModel(
        patient_id=record.identity.patient_id,
        issuer=record.identity.issuer,
        attributes=record.attributes,
        generated=record.generated,
        corrected=record.corrected,
        merged=None if record.merged is None else _merged_model(record.merged),
        behind=[_merged_model(one) for one in record.behind],
        links=[
            LinkedModel(patient=_known_as(one.other), at=instant(one.at_us), by=one.by)
            for one in record.links
        ],
        open_conflicts=record.open_conflicts,
        studies=record.studies,
    )


def conflict_model(conflict: PatientConflict) -> ConflictModel:
    return ConflictModel(
        id=conflict.id,
        patient=_known_as(conflict.patient),
        tag=conflict.tag,
        kept=conflict.kept,
        other=conflict.other,
        sop_instance_uid=conflict.sop_instance_uid,
        seen_at=instant(conflict.seen_at_us),
        state=conflict.state,
        settled_at=None if conflict.settled_at_us is None else instant(conflict.settled_at_us),
        settled_by=conflict.settled_by,
        settled_note=conflict.settled_note,
    )


def _merged_model(merged: Merged) -> MergedModel:
    return MergedModel(
        patient=_known_as(merged.patient),
        into=_known_as(merged.into),
        survivor=_known_as(merged.survivor),
        at=instant(merged.at_us),
        by=merged.by,
        reason=merged.reason,
    )


def _known_as(identity: PatientIdentity) -> KnownAsModel:
    return KnownAsModel(patient_id=identity.patient_id, issuer=identity.issuer)
