"""The last line of defence: what must not reach a log, whoever passes it."""

from __future__ import annotations

import re
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


_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+", re.ASCII)
_UID_CHARS_MAX = 64
_ROUTE_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|v[0-9]", re.ASCII)
_PATH_CHARS_MAX = 200


def logged_uid(text: str) -> str:
    """A UID as it is, since it says nothing of a patient (PS3.5 §9); of anything else under its name, which a
    sender may have filled with a Patient ID, nothing."""
    return text if len(text) <= _UID_CHARS_MAX and _UID.fullmatch(text) else WITHHELD if text else ""


def logged_path(path: str) -> str:
    """The path of a request with its UIDs and the words of our routes; ``*`` for whatever else a client may
    have put between the slashes: names, numbers of patients."""
    return "/".join(
        part if not part or _ROUTE_WORD.fullmatch(part) or _UID.fullmatch(part) else "*"
        for part in path[:_PATH_CHARS_MAX].split("/")
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
