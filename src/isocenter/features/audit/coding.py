"""What an entry is in the standard's terms: DICOM's audit codes (PS3.15 A.5.3, PS3.16 CID 400-405)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from isocenter.features.audit.entries import Entry
from isocenter.platform.security import Action, EventOutcome


class Coded(NamedTuple):
    code: str
    system: str
    meaning: str


def _dcm(code: str, meaning: str) -> Coded:
    return Coded(code, "DCM", meaning)


APPLICATION_ACTIVITY = _dcm("110100", "Application Activity")
AUDIT_LOG_USED = _dcm("110101", "Audit Log Used")
INSTANCES_ACCESSED = _dcm("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = _dcm("110104", "DICOM Instances Transferred")
STUDY_DELETED = _dcm("110105", "DICOM Study Deleted")
EXPORT = _dcm("110106", "Export")
IMPORT = _dcm("110107", "Import")
PATIENT_RECORD = _dcm("110110", "Patient Record")
QUERY = _dcm("110112", "Query")
SECURITY_ALERT = _dcm("110113", "Security Alert")
USER_AUTHENTICATION = _dcm("110114", "User Authentication")

LOGIN = _dcm("110122", "Login")
LOGOUT = _dcm("110123", "Logout")
NODE_AUTHENTICATION = _dcm("110126", "Node Authentication")
NETWORK_CONFIGURATION = _dcm("110128", "Network Configuration")
SECURITY_CONFIGURATION = _dcm("110129", "Security Configuration")
USE_OF_RESTRICTED_FUNCTION = _dcm("110132", "Use of Restricted Function")
SECURITY_ROLES_CHANGED = _dcm("110136", "Security Roles Changed")
USER_SECURITY_ATTRIBUTES_CHANGED = _dcm("110137", "User security Attributes Changed")

APPLICATION = _dcm("110150", "Application")
DESTINATION = _dcm("110152", "Destination Role ID")
SOURCE = _dcm("110153", "Source Role ID")

STUDY_UID = _dcm("110180", "Study Instance UID")
SOP_CLASS_UID = _dcm("110181", "SOP Class UID")
SERIES_UID = _dcm("112002", "Series Instance UID")
INSTANCE_UID = _dcm("110182", "SOP Instance UID")
PATIENT_NUMBER = Coded("2", "RFC-3881", "Patient Number")
USER_IDENTIFIER = Coded("11", "RFC-3881", "User Identifier")
URI = Coded("12", "RFC-3881", "URI")

OUTCOMES: dict[str, str] = {EventOutcome.SUCCESS: "0", EventOutcome.FAILED: "4", EventOutcome.DENIED: "8"}
"""EventOutcomeIndicator: success, minor failure, serious failure."""


@dataclass(frozen=True, slots=True)
class Coding:
    """``action`` is EventActionCode: Create, Read, Update, Delete, Execute. Roles are those of who asked and
    of this archive; None where the message has no such roles."""

    event: Coded
    action: str
    types: tuple[Coded, ...] = ()
    asker: Coded | None = None
    archive: Coded | None = None


_ACCESSED = {letter: Coding(INSTANCES_ACCESSED, letter) for letter in "RUD"}
_TRANSFERRED_HERE = Coding(INSTANCES_TRANSFERRED, "C", (), SOURCE, DESTINATION)
_TRANSFERRED_AWAY = Coding(INSTANCES_TRANSFERRED, "R", (), DESTINATION, SOURCE)
_TRANSFERRED_ON = Coding(INSTANCES_TRANSFERRED, "R", (), None, SOURCE)
_EXPORTED = Coding(EXPORT, "R", (), DESTINATION, SOURCE)
_OTHER = Coding(APPLICATION_ACTIVITY, "E")


def _alert(action: str, kind: Coded) -> Coding:
    return Coding(SECURITY_ALERT, action, (kind,))


_CODINGS: dict[tuple[str, str], Coding] = {
    (Action.LOGIN, ""): Coding(USER_AUTHENTICATION, "E", (LOGIN,)),
    (Action.LOGOUT, ""): Coding(USER_AUTHENTICATION, "E", (LOGOUT,)),
    (Action.SEARCH, ""): Coding(QUERY, "E", (), SOURCE, DESTINATION),
    (Action.STORE, ""): _TRANSFERRED_HERE,
    (Action.STORE, "folder"): Coding(IMPORT, "C", (), SOURCE, DESTINATION),
    (Action.READ, ""): Coding(APPLICATION_ACTIVITY, "R"),
    (Action.READ, "audit"): Coding(AUDIT_LOG_USED, "R"),
    (Action.READ, "study"): _ACCESSED["R"],
    (Action.READ, "series"): _ACCESSED["R"],
    (Action.READ, "instance"): _ACCESSED["R"],
    (Action.READ, "quarantine"): _ACCESSED["R"],
    (Action.READ, "deletion"): _ACCESSED["R"],
    (Action.READ, "patient"): Coding(PATIENT_RECORD, "R"),
    (Action.READ, "patient-conflict"): Coding(PATIENT_RECORD, "R"),
    (Action.EXPORT, ""): _EXPORTED,
    (Action.SHARE, ""): _EXPORTED,
    (Action.DELETE, ""): _alert("D", SECURITY_CONFIGURATION),
    (Action.DELETE, "study"): Coding(STUDY_DELETED, "D"),
    (Action.DELETE, "deletion"): Coding(STUDY_DELETED, "D"),
    (Action.DELETE, "series"): _ACCESSED["D"],
    (Action.DELETE, "instance"): _ACCESSED["D"],
    (Action.DELETE, "ae-title"): _alert("D", NETWORK_CONFIGURATION),
    (Action.DELETE, "user"): _alert("D", USER_SECURITY_ATTRIBUTES_CHANGED),
    (Action.DELETE, "api-key"): _alert("D", USER_SECURITY_ATTRIBUTES_CHANGED),
    (Action.CHANGE, ""): _alert("U", SECURITY_CONFIGURATION),
    (Action.CHANGE, "study"): _ACCESSED["U"],
    (Action.CHANGE, "series"): _ACCESSED["U"],
    (Action.CHANGE, "instance"): _ACCESSED["U"],
    (Action.CHANGE, "quarantine"): _ACCESSED["U"],
    (Action.CHANGE, "deletion"): _ACCESSED["U"],
    (Action.CHANGE, "patient"): Coding(PATIENT_RECORD, "U"),
    (Action.CHANGE, "patient-conflict"): Coding(PATIENT_RECORD, "U"),
    (Action.CHANGE, "ae-title"): _alert("U", NETWORK_CONFIGURATION),
    (Action.CHANGE, "user"): _alert("U", USER_SECURITY_ATTRIBUTES_CHANGED),
    (Action.CHANGE, "api-key"): _alert("U", USER_SECURITY_ATTRIBUTES_CHANGED),
    (Action.PERMISSION_CHANGE, ""): _alert("U", SECURITY_ROLES_CHANGED),
    (Action.ACCESS, ""): _alert("E", USE_OF_RESTRICTED_FUNCTION),
    (Action.ACCESS, "association"): _alert("E", NODE_AUTHENTICATION),
}
"""By action and kind of resource; empty: of any other kind."""


def coding_of(entry: Entry) -> Coding:
    """Total: an entry of a kind that is not known here is an application activity."""
    coding = _CODINGS.get((entry.action, entry.resource_kind)) or _CODINGS.get((entry.action, ""), _OTHER)
    if coding is _ACCESSED["R"] and '"part":"objects"' in entry.details:
        return _TRANSFERRED_ON if '"destination":' in entry.details else _TRANSFERRED_AWAY
    return coding


def identifier_kind(entry: Entry) -> Coded:
    """What kind of identifier the resource's is."""
    if entry.action == Action.SEARCH and not entry.resource_id:
        return SOP_CLASS_UID
    return {
        "study": STUDY_UID,
        "series": SERIES_UID,
        "instance": INSTANCE_UID,
        "patient": PATIENT_NUMBER,
        "user": USER_IDENTIFIER,
    }.get(entry.resource_kind, URI)


STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""The SOP class that a search's keys belong to, QIDO-RS being the same search (PS3.15 A.5.3.10)."""

_FINDS = {
    "worklist": "1.2.840.10008.5.1.4.31",  # Modality Worklist - FIND
    "workitem": "1.2.840.10008.5.1.4.34.6.5",  # Unified Procedure Step - Query
}


def identifier(entry: Entry) -> str:
    """Never empty, as ParticipantObjectID has to be."""
    if entry.resource_id:
        return entry.resource_id
    if entry.action == Action.SEARCH:
        return _FINDS.get(entry.resource_kind, STUDY_ROOT_FIND)
    return entry.resource_kind or "isocenter"


def outcome_of(entry: Entry) -> str:
    """EventOutcomeIndicator."""
    return OUTCOMES.get(entry.outcome, "4")
