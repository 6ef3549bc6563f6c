"""The last line of defence: what must not reach a log, whoever passes it."""

from __future__ import annotations

from typing import Any

WITHHELD = "[withheld]"

# Compared without case and underscores, so that patient_name, PatientName and patientname are one.
_PATIENT_DATA = frozenset(
    {
        "accessionnumber",
        "birthdate",
        "dataset",
        "ethnicgroup",
        "filename",
        "identifier",
        "issuerofpatientid",
        "medicalrecordlocator",
        "othernames",
        "otherpatientids",
        "otherpatientnames",
        "patient",
        "patientaddress",
        "patientage",
        "patientbirthdate",
        "patientbirthname",
        "patientbirthtime",
        "patientcomments",
        "patientid",
        "patientmothersbirthname",
        "patientname",
        "patientsex",
        "patientsize",
        "patienttelephonenumbers",
        "patientweight",
        "personname",
        "query",
        "querystring",
        "referringphysicianname",
        "studydescription",
    }
)


def withhold_patient_data(_logger: Any, _method: str, event: Any) -> Any:
    """A structlog processor. It knows names only: what is written into the message itself it cannot see."""
    for name in event:
        if name.lower().replace("_", "") in _PATIENT_DATA:
            event[name] = WITHHELD
    return event


def escape_control_characters(_logger: Any, _method: str, event: Any) -> Any:
    """A structlog processor: what a peer sends (an AE title, a request line) can neither forge a second line
    nor speak to the terminal."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
    return event
