"""Patients as persons name them: one Patient ID of one issuer."""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.kit.errors import InvalidInput

_LO_CHARACTERS_MAX = 64  # PS3.5 §6.2
REASON_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """One Patient ID of one issuer; an issuer that nobody names is empty."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Who said so, why and when."""

    by: str
    reason: str
    now_us: int


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


def check_reason(reason: str) -> None:
    """Raises InvalidInput for a reason or note that is too long or no text."""
    if len(reason) > REASON_CHARACTERS_MAX or not is_storable(reason):
        raise InvalidInput(
            f"A reason is text of at most {REASON_CHARACTERS_MAX} characters.", code="invalid-value"
        )


def is_storable(text: str) -> bool:
    """PostgreSQL keeps no NUL; half a pair of surrogates is no character."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


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
