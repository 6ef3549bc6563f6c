"""Patients as persons name them: one Patient ID of one issuer."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.features.archive.said import is_storable
from isocenter.kit.errors import InvalidInput

_LO_CHARACTERS_MAX = 64  # PS3.5 §6.2


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """One Patient ID of one issuer; an issuer that nobody names is empty."""

    patient_id: str
    issuer: str = ""


def identity_asked_for(patient_id: str, issuer: str = "") -> PatientIdentity:
    """An identity to look for, which may hold what no new one may. Raises InvalidInput for what no patient
    can have."""
    identity = PatientIdentity(patient_id, issuer)
    if (
        not all(map(is_storable, (patient_id, issuer)))
        or max(map(len, (patient_id, issuer))) > _LO_CHARACTERS_MAX
    ):
        raise _invalid("Patient ID or its issuer")
    return identity


def check_new(identity: PatientIdentity) -> None:
    """Raises InvalidInput for what cannot be a patient's new ID."""
    for name, value in (("Patient ID", identity.patient_id), ("Issuer of Patient ID", identity.issuer)):
        if not _is_lo(value):
            raise _invalid(name)
    if not identity.patient_id:
        raise InvalidInput("The Patient ID is empty.", code="invalid-patient-id")


def _is_lo(value: str) -> bool:
    return (
        len(value) <= _LO_CHARACTERS_MAX
        and "\\" not in value
        and value.isprintable()
        and value == value.strip()
    )


def _invalid(name: str) -> InvalidInput:
    return InvalidInput(
        f"The {name} is longer than {_LO_CHARACTERS_MAX} characters, begins or ends with a blank, or has "
        "a character that it must not have (PS3.5 §6.2).",
        code="invalid-patient-id",
    )
