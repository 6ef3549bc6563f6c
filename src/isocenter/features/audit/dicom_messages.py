"""An entry as a DICOM audit message (PS3.15 A.5.1): the XML that an audit record repository takes."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element, SubElement, tostring

import orjson

from isocenter.features.audit.coding import (
    DESTINATION,
    INSTANCES_TRANSFERRED,
    Coded,
    coding_of,
    identifier,
    identifier_kind,
    outcome_of,
)
from isocenter.features.audit.entries import Entry
from isocenter.platform.security import Action

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What XML 1.0 cannot hold even as a reference (§2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def dicom_message(entry: Entry, source: str) -> bytes:
    """One ``AuditMessage`` element in UTF-8, without declaration. ``source`` names this archive."""
    coding = coding_of(entry)
    message = Element("AuditMessage")
    event = SubElement(
        message,
        "EventIdentification",
        EventActionCode=coding.action,
        EventDateTime=instant(entry).isoformat(timespec="microseconds"),
        EventOutcomeIndicator=outcome_of(entry),
    )
    _coded(event, "EventID", coding.event)
    for kind in coding.types:
        _coded(event, "EventTypeCode", kind)
    if entry.outcome != "success":
        SubElement(event, "EventOutcomeDescription").text = _clean(_reason(entry))
    _asker(message, entry, coding.asker)
    archive = SubElement(message, "ActiveParticipant", UserID=_clean(source), UserIsRequestor="false")
    if coding.archive is not None:
        _coded(archive, "RoleIDCode", coding.archive)
    if coding.event is INSTANCES_TRANSFERRED:
        _third_party(message, entry)
    origin = SubElement(
        message,
        "AuditSourceIdentification",
        AuditEnterpriseSiteID=str(entry.organization_id),
        AuditSourceID=_clean(source),
    )
    SubElement(origin, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server
    if entry.resource_kind or entry.resource_id:
        _object(message, entry)
    rendered: bytes = tostring(message, encoding="utf-8", xml_declaration=False)
    return rendered


def instant(entry: Entry) -> datetime:
    return _EPOCH + timedelta(microseconds=entry.at_us)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _asker(message: Element, entry: Entry, role: Coded | None) -> None:
    who = {"UserID": _clean(entry.subject_id) or "unknown", "UserIsRequestor": "true"}
    who["AlternativeUserID"] = f"{_clean(entry.subject_kind)}:{_clean(entry.subject_id)}"
    if entry.subject_name:
        who["UserName"] = _clean(entry.subject_name)
    if entry.address:
        who["NetworkAccessPointID"] = _clean(entry.address)
        who["NetworkAccessPointTypeCode"] = "2" if is_address(entry.address) else "1"
    asker = SubElement(message, "ActiveParticipant", who)
    if role is not None:
        _coded(asker, "RoleIDCode", role)


def _third_party(message: Element, entry: Entry) -> None:
    """Where one system had objects sent to another (C-MOVE), that one is their destination."""
    details = details_of(entry)
    title, host = details.get("destination", ""), details.get("destination_host", "")
    if not title:
        return
    who = {"UserID": _clean(title), "UserIsRequestor": "false"}
    if host:
        who["NetworkAccessPointID"] = _clean(host)
        who["NetworkAccessPointTypeCode"] = "2" if is_address(host) else "1"
    _coded(SubElement(message, "ActiveParticipant", who), "RoleIDCode", DESTINATION)


def _object(message: Element, entry: Entry) -> None:
    query = entry.action == Action.SEARCH
    person = entry.resource_kind in {"user", "patient"}
    about = SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(identifier(entry)),
        ParticipantObjectTypeCode="1" if person else "2",
        ParticipantObjectTypeCodeRole=role_of(entry),
    )
    _coded(about, "ParticipantObjectIDTypeCode", identifier_kind(entry))
    if query:
        SubElement(about, "ParticipantObjectQuery").text = _base64(entry.details)
    else:
        name = "Security Audit Log" if entry.resource_kind == "audit" else identifier(entry)
        SubElement(about, "ParticipantObjectName").text = _clean(name)
        for detail, value in details_of(entry).items():
            SubElement(about, "ParticipantObjectDetail", type=_clean(detail), value=_base64(value))
    ours = {"trace_id": entry.trace_id, "sequence": str(entry.sequence), "hash": entry.hash}
    for detail, value in ours.items():
        SubElement(about, "ParticipantObjectDetail", type=detail, value=_base64(value))


def role_of(entry: Entry) -> str:
    """ParticipantObjectTypeCodeRole: query, report, user, or security resource."""
    if entry.action == Action.SEARCH:
        return "24"
    roles = {"study": "3", "series": "3", "instance": "3", "quarantine": "3", "patient": "1", "user": "11"}
    return roles.get(entry.resource_kind, "13")


def details_of(entry: Entry) -> dict[str, str]:
    """Each detail as text; what somebody put there who should not have been at the table is one of them."""
    try:
        details = orjson.loads(entry.details)
    except orjson.JSONDecodeError:
        details = None
    if not isinstance(details, dict):
        return {"details": entry.details}
    return {
        str(name): value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in details.items()
    }


def _reason(entry: Entry) -> str:
    return details_of(entry).get("reason") or entry.outcome


def _coded(parent: Element, name: str, coded: Coded) -> None:
    attributes = {"csd-code": coded.code, "codeSystemName": coded.system, "originalText": coded.meaning}
    SubElement(parent, name, attributes)


def _base64(text: str) -> str:
    return b64encode(text.encode("utf-8", "replace")).decode()


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
