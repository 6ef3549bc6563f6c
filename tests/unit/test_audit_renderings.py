"""Entries as DICOM audit messages and FHIR resources: every kind of event, and hostile text."""

from __future__ import annotations

import itertools
import re
from base64 import b64decode
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.features.audit.chain import BEFORE_THE_FIRST
from isocenter.features.audit.dicom_messages import dicom_message
from isocenter.features.audit.entries import Entry
from isocenter.features.audit.fhir import audit_event
from isocenter.features.audit.spreadsheet import defused
from isocenter.platform.security import Action, EventOutcome, SubjectKind

_KINDS = (
    "",
    "study",
    "series",
    "instance",
    "audit",
    "user",
    "ae-title",
    "quarantine",
    "patient",
    "association",
    "x",
)


def entry(action: str = "read", **changes: Any) -> Entry:
    told: dict[str, Any] = {
        "outcome": "success",
        "subject_kind": "user",
        "subject_id": "7",
        "subject_name": "Dr. Grey",
        "address": "192.0.2.7",
        "resource_kind": "study",
        "resource_id": "1.2.3",
        "details": "{}",
        "trace_id": "ab" * 16,
        "previous_hash": BEFORE_THE_FIRST.hash,
        "hash": "cd" * 32,
    }
    return Entry(1, 4711, 1_767_225_600_123_456, action, **told | changes)


# PS3.15 A.5.1 as far as these messages go: elements in the order of the schema with how often they may come,
# attributes with what they may hold (None: must not be empty).
_CODED = {"csd-code": None, "codeSystemName": None, "originalText": None}
_OPTIONAL, _MANY, _ONE, _SOME = "?", "*", "1", "+"
_ELEMENTS: dict[str, list[tuple[tuple[str, ...], str]]] = {
    "AuditMessage": [
        (("EventIdentification",), _ONE),
        (("ActiveParticipant",), _SOME),
        (("AuditSourceIdentification",), _ONE),
        (("ParticipantObjectIdentification",), _MANY),
    ],
    "EventIdentification": [
        (("EventID",), _ONE),
        (("EventTypeCode",), _MANY),
        (("EventOutcomeDescription",), _OPTIONAL),
    ],
    "ActiveParticipant": [(("RoleIDCode",), _MANY), (("MediaIdentifier",), _OPTIONAL)],
    "AuditSourceIdentification": [(("AuditSourceTypeCode",), _MANY)],
    "ParticipantObjectIdentification": [
        (("ParticipantObjectIDTypeCode",), _ONE),
        (("ParticipantObjectName", "ParticipantObjectQuery"), _ONE),
        (("ParticipantObjectDetail",), _MANY),
    ],
}
_ATTRIBUTES: dict[str, tuple[dict[str, str | None], dict[str, str | None]]] = {
    "AuditMessage": ({}, {}),
    "EventIdentification": (
        {
            "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
            "EventOutcomeIndicator": "0|4|8|12",
        },
        {"EventActionCode": "C|R|U|D|E"},
    ),
    "EventID": (_CODED, {"displayName": None}),
    "EventTypeCode": (_CODED, {"displayName": None}),
    "RoleIDCode": (_CODED, {"displayName": None}),
    "ParticipantObjectIDTypeCode": (_CODED, {"displayName": None}),
    "EventOutcomeDescription": ({}, {}),
    "ActiveParticipant": (
        {"UserID": None, "UserIsRequestor": "true|false"},
        {
            "AlternativeUserID": None,
            "UserName": None,
            "NetworkAccessPointID": None,
            "NetworkAccessPointTypeCode": "[1-5]",
        },
    ),
    "AuditSourceIdentification": ({"AuditSourceID": None}, {"AuditEnterpriseSiteID": None}),
    "AuditSourceTypeCode": ({"csd-code": "[1-9]"}, {}),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID": None},
        {
            "ParticipantObjectTypeCode": "[1-4]",
            "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]",
            "ParticipantObjectDataLifeCycle": "[1-9]|1[0-5]",
            "ParticipantObjectSensitivity": None,
        },
    ),
    "ParticipantObjectName": ({}, {}),
    "ParticipantObjectQuery": ({}, {}),
    "ParticipantObjectDetail": ({"type": None, "value": "[A-Za-z0-9+/=]*"}, {}),
}


def check(element: Element) -> None:
    """Raises AssertionError for what the schema does not allow."""
    required, optional = _ATTRIBUTES[element.tag]
    assert required.keys() <= element.attrib.keys() <= required.keys() | optional.keys(), element.attrib
    for name, value in element.attrib.items():
        pattern = (required | optional)[name]
        assert value if pattern is None else re.fullmatch(pattern, value), (element.tag, name, value)
    runs = [(tag, len(list(group))) for tag, group in itertools.groupby(child.tag for child in element)]
    for names, times in _ELEMENTS.get(element.tag, []):
        count = runs.pop(0)[1] if runs and runs[0][0] in names else 0
        assert {_OPTIONAL: count <= 1, _MANY: True, _ONE: count == 1, _SOME: count >= 1}[times], (
            element.tag,
            names,
        )
    assert not runs, (element.tag, runs)
    for child in element:
        check(child)


def message(of: Entry) -> Element:
    root = fromstring(dicom_message(of, "ISOCENTER"))
    check(root)
    return root


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda root: root.remove(root[0]), "no event"),
        (lambda root: root.insert(0, root[2]), "out of order"),
        (lambda root: root[0].set("EventOutcomeIndicator", "5"), "no such outcome"),
        (lambda root: root[1].attrib.pop("UserID"), "nobody"),
        (lambda root: root[0][0].set("code", "1"), "no such attribute"),
        (lambda root: root[4].remove(root[4][1]), "neither name nor query"),
    ],
)
def test_the_check_refuses(spoil: Any, where: str) -> None:
    root = message(entry())
    spoil(root)
    with pytest.raises(AssertionError):
        check(root)


@pytest.mark.parametrize("action", [*Action, "unheard-of"])
@pytest.mark.parametrize("kind", _KINDS)
def test_every_event_has_a_message_and_a_resource(action: str, kind: str) -> None:
    for outcome, resource in itertools.product(EventOutcome, ("", "1.2.3")):
        one = entry(action, outcome=outcome, resource_kind=kind, resource_id=resource)
        root = message(one)
        assert root[0].get("EventOutcomeIndicator") == {"success": "0", "failed": "4", "denied": "8"}[outcome]
        resource_of = audit_event(one, "ISOCENTER")
        assert resource_of["type"]["code"] == root[0][0].get("csd-code")
        assert resource_of["action"] == root[0].get("EventActionCode")
        for entity in resource_of.get("entity", ()):
            assert ("name" in entity) != ("query" in entity)
        assert {"type", "recorded", "agent", "source"} <= resource_of.keys()


@pytest.mark.parametrize(
    ("action", "kind", "details", "event_id", "event_type", "letter"),
    [
        ("login", "user", "{}", "110114", "110122", "E"),
        ("logout", "user", "{}", "110114", "110123", "E"),
        ("search", "study", "{}", "110112", None, "E"),
        ("read", "study", '{"part":"objects"}', "110104", None, "R"),
        ("read", "study", '{"part":"objects","destination":"PACS"}', "110104", None, "R"),
        ("read", "study", '{"part":"metadata"}', "110103", None, "R"),
        ("store", "study", "{}", "110104", None, "C"),
        ("store", "folder", "{}", "110107", None, "C"),
        ("delete", "study", "{}", "110105", None, "D"),
        ("delete", "series", "{}", "110103", None, "D"),
        ("delete", "ae-title", "{}", "110113", "110128", "D"),
        ("change", "quarantine", "{}", "110103", None, "U"),
        ("export", "study", "{}", "110106", None, "R"),
        ("export", "audit", "{}", "110106", None, "R"),
        ("read", "audit", "{}", "110101", None, "R"),
        ("permission-change", "user", "{}", "110113", "110136", "U"),
        ("access", "association", "{}", "110113", "110126", "E"),
        ("access", "permission", "{}", "110113", "110132", "E"),
        ("read", "changes", "{}", "110100", None, "R"),
    ],
)
def test_codes(
    action: str, kind: str, details: str, event_id: str, event_type: str | None, letter: str
) -> None:
    event = message(entry(action, resource_kind=kind, details=details))[0]
    assert event[0].get("csd-code") == event_id and event[0].get("codeSystemName") == "DCM"
    assert [one.get("csd-code") for one in event[1:]] == ([event_type] if event_type else [])
    assert event.get("EventActionCode") == letter


def test_a_query_tells_its_keys_and_its_sides() -> None:
    root = message(entry("search", resource_id="", details='{"PatientName":"DOE*"}'))
    about = root.find("ParticipantObjectIdentification")
    assert about is not None and about.get("ParticipantObjectTypeCodeRole") == "24"
    query = about.findtext("ParticipantObjectQuery") or ""
    assert orjson.loads(b64decode(query)) == {"PatientName": "DOE*"}
    roles = {one.get("UserIsRequestor"): one[0].get("csd-code") for one in root.findall("ActiveParticipant")}
    assert roles == {"true": "110153", "false": "110152"}


def test_time_person_and_place() -> None:
    root = message(entry())
    assert root[0].get("EventDateTime") == "2026-01-01T00:00:00.123456+00:00"
    person = root[1]
    assert (person.get("UserName"), person.get("NetworkAccessPointTypeCode")) == ("Dr. Grey", "2")
    assert message(entry(address="ct1.example"))[1].get("NetworkAccessPointTypeCode") == "1"


@given(
    st.text(), st.text(), st.sampled_from([*Action]), st.sampled_from(_KINDS), st.sampled_from([*SubjectKind])
)
def test_any_text_makes_well_formed_xml(text: str, other: str, action: str, kind: str, who: str) -> None:
    details = orjson.dumps(
        {other.encode("utf-8", "replace").decode(): text.encode("utf-8", "replace").decode()}
    )
    one = entry(
        action,
        subject_kind=who,
        subject_id=text,
        subject_name=other,
        address=text,
        resource_kind=kind,
        resource_id=other,
        details=details.decode(),
    )
    root = fromstring(dicom_message(one, "ISOCENTER"))
    assert [child.tag for child in root][:2] == ["EventIdentification", "ActiveParticipant"]
    orjson.dumps(audit_event(one, "ISOCENTER"))


def test_markup_stays_text() -> None:
    nasty = '"><evil a="b">&lol;<!--\x00\x1b\ufffe'
    root = message(entry(subject_name=nasty, resource_id=nasty, details='{"<":"<!DOCTYPE"}'))
    assert root.find(".//evil") is None
    assert root[1].get("UserName") == '"><evil a="b">&lol;<!--\ufffd\ufffd\ufffd'


def test_details_that_are_not_json_are_told_all_the_same() -> None:
    assert audit_event(entry(details="no JSON"), "X")["entity"][0]["detail"][0]["valueString"] == "no JSON"
    message(entry(details="[1]"))


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@A1", "\t1", "\r1", "\n1", "  =1"])
def test_formulas_are_defused(cell: str) -> None:
    assert defused(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "DOE^JANE", "1.2.3", "a=b", "'=1"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert defused(cell) == cell
