"""An entry as a FHIR R4 AuditEvent, and many as a Bundle."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from isocenter.features.audit.coding import Coded, coding_of, identifier, identifier_kind, outcome_of
from isocenter.features.audit.dicom_messages import details_of, instant, is_address, role_of
from isocenter.features.audit.entries import Entry
from isocenter.platform.security import Action

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_SYSTEMS = {"DCM": _DCM, "RFC-3881": "http://terminology.hl7.org/CodeSystem/rfc-3881"}
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCES = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PERSON, _SYSTEM_OBJECT = "1", "2"


def bundle(entries: Sequence[Entry], source: str) -> dict[str, Any]:
    """A Bundle of type ``collection``, in the order given."""
    resources = [audit_event(entry, source) for entry in entries]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": resource} for resource in resources],
    }


def audit_event(entry: Entry, source: str) -> dict[str, Any]:
    """One AuditEvent. ``source`` names this archive."""
    coding = coding_of(entry)
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": f"{entry.organization_id}-{entry.sequence}",
        "type": _coded(coding.event),
        "action": coding.action,
        "recorded": instant(entry).isoformat(timespec="milliseconds"),
        "outcome": outcome_of(entry),
        "agent": [_asker(entry, coding.asker)],
        "source": {
            "site": str(entry.organization_id),
            "observer": {"display": source},
            "type": [{"system": _SOURCES, "code": "4", "display": "Application Server"}],
        },
    }
    if coding.types:
        event["subtype"] = [_coded(kind) for kind in coding.types]
    if entry.outcome != "success":
        event["outcomeDesc"] = details_of(entry).get("reason") or entry.outcome
    if entry.resource_kind or entry.resource_id:
        event["entity"] = [_entity(entry)]
    return event


def _asker(entry: Entry, role: Coded | None) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "who": {"identifier": {"value": entry.subject_id or "unknown"}},
        "altId": f"{entry.subject_kind}:{entry.subject_id}",
        "requestor": True,
    }
    if entry.subject_name:
        agent["name"] = entry.subject_name
    if role is not None:
        agent["type"] = {"coding": [_coded(role)]}
    if entry.address:
        agent["network"] = {"address": entry.address, "type": "2" if is_address(entry.address) else "1"}
    return agent


def _entity(entry: Entry) -> dict[str, Any]:
    """Either a name or a query (constraint sev-1)."""
    person = entry.resource_kind in {"user", "patient"}
    entity: dict[str, Any] = {
        "what": {
            "identifier": {
                "type": {"coding": [_coded(identifier_kind(entry))]},
                "value": identifier(entry),
            }
        },
        "type": {"system": _TYPES, "code": _PERSON if person else _SYSTEM_OBJECT},
        "role": {"system": _ROLES, "code": role_of(entry)},
    }
    details = details_of(entry)
    if entry.action == Action.SEARCH:
        entity["query"] = b64encode(entry.details.encode("utf-8", "replace")).decode()
        details = {}
    elif entry.resource_id or entry.resource_kind:
        entity["name"] = entry.resource_id or entry.resource_kind
    details |= {"sequence": str(entry.sequence), "hash": entry.hash, "trace_id": entry.trace_id}
    entity["detail"] = [
        {"type": name, "valueString": value} for name, value in details.items() if name and value
    ]
    return entity


def _coded(coded: Coded) -> dict[str, str]:
    return {"system": _SYSTEMS[coded.system], "code": coded.code, "display": coded.meaning}
