"""The data sets of storage commitment: the request (N-ACTION) and the report (N-EVENT-REPORT), PS3.4 J.3."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from isocenter.dicom.charsets import DEFAULT_REPERTOIRE
from isocenter.dicom.dataset import read_dataset, write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.scan_limits import ScanLimits
from isocenter.dicom.uids import UID_CHARS_MAX
from isocenter.features.commitment.entries import FailureReason, Judged, Reference
from isocenter.kit.errors import InvalidInput

REQUEST_STORAGE_COMMITMENT = 1  # action type
COMPLETE, FAILURES_EXIST = 1, 2  # event types

_TRANSACTION_UID = 0x00081195
_REFERENCED_SOP_SEQUENCE = 0x00081199
_FAILED_SOP_SEQUENCE = 0x00081198
_FAILURE_REASON = 0x00081197
_REFERENCED_SOP_CLASS_UID = 0x00081150
_REFERENCED_SOP_INSTANCE_UID = 0x00081155
_RETRIEVE_AE_TITLE = 0x00080054
_UID_CHARACTERS = frozenset("0123456789.")
_LIMITS = ScanLimits(elements_max=400_000, inflated_bytes_max=16 << 20)


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody committed to, and what not and why."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[Judged, ...]


def request_of(transaction_uid: str, references: Sequence[Reference], transfer_syntax_uid: str) -> bytes:
    """The data set of an N-ACTION request."""
    elements = [
        _uid(_TRANSACTION_UID, transaction_uid),
        Element(_REFERENCED_SOP_SEQUENCE, "SQ", [_item(one) for one in references]),
    ]
    return write_dataset(elements, transfer_syntax_uid)


def read_request(data_set: bytes, transfer_syntax_uid: str) -> tuple[str, list[Reference]]:
    """Transaction UID and references, each once. Raises InvalidInput, ScanError."""
    elements = _elements(data_set, transfer_syntax_uid)
    transaction_uid = _checked_uid(elements.get(_TRANSACTION_UID), "Transaction UID")
    references = _references(elements.get(_REFERENCED_SOP_SEQUENCE))
    if not references:
        raise InvalidInput("Referenced SOP Sequence is missing or empty")
    return transaction_uid, list(dict.fromkeys(one for one, _ in references))


def report_of(
    transaction_uid: str, judged: Sequence[Judged], transfer_syntax_uid: str, retrieve_ae_title: str
) -> tuple[int, bytes]:
    """Event type and data set of an N-EVENT-REPORT request."""
    committed = [_item(one.reference) for one in judged if one.reason == FailureReason.COMMITTED]
    failed = [
        [*_item(one.reference), Element(_FAILURE_REASON, "US", struct.pack("<H", one.reason))]
        for one in judged
        if one.reason
    ]
    elements = [
        _uid(_TRANSACTION_UID, transaction_uid),
        Element(_RETRIEVE_AE_TITLE, "AE", DEFAULT_REPERTOIRE.encode(retrieve_ae_title, "AE")),
    ]
    if committed:
        elements.append(Element(_REFERENCED_SOP_SEQUENCE, "SQ", committed))
    if failed:
        elements.append(Element(_FAILED_SOP_SEQUENCE, "SQ", failed))
    return FAILURES_EXIST if failed else COMPLETE, write_dataset(elements, transfer_syntax_uid)


def read_report(data_set: bytes, transfer_syntax_uid: str) -> Report:
    """Raises InvalidInput, ScanError."""
    elements = _elements(data_set, transfer_syntax_uid)
    return Report(
        _checked_uid(elements.get(_TRANSACTION_UID), "Transaction UID"),
        tuple(one for one, _ in _references(elements.get(_REFERENCED_SOP_SEQUENCE))),
        tuple(
            Judged(one, reason or FailureReason.PROCESSING_FAILURE)
            for one, reason in _references(elements.get(_FAILED_SOP_SEQUENCE))
        ),
    )


def _elements(data_set: bytes, transfer_syntax_uid: str) -> dict[int, Element]:
    return {one.tag: one for one in read_dataset(data_set, transfer_syntax_uid, limits=_LIMITS)}


def _references(sequence: Element | None) -> list[tuple[Reference, int]]:
    """Each item's reference, and its failure reason where it has one."""
    if sequence is None or not isinstance(sequence.value, list):
        return []
    found = []
    for item in sequence.value:
        elements = {one.tag: one for one in item}
        reference = Reference(
            _checked_uid(elements.get(_REFERENCED_SOP_CLASS_UID), "Referenced SOP Class UID"),
            _checked_uid(elements.get(_REFERENCED_SOP_INSTANCE_UID), "Referenced SOP Instance UID"),
        )
        reason = elements.get(_FAILURE_REASON)
        value = reason.value if reason is not None and isinstance(reason.value, bytes) else b""
        found.append((reference, struct.unpack("<H", value)[0] if len(value) == 2 else 0))
    return found


def _checked_uid(element: Element | None, name: str) -> str:
    value = element.value if element is not None and isinstance(element.value, bytes) else b""
    uid = value.decode("ascii", "replace").strip(" \0")
    if not 0 < len(uid) <= UID_CHARS_MAX or not set(uid) <= _UID_CHARACTERS:
        raise InvalidInput(f"{name} is missing or no UID")
    return uid


def _item(reference: Reference) -> list[Element]:
    return [
        _uid(_REFERENCED_SOP_CLASS_UID, reference.sop_class_uid),
        _uid(_REFERENCED_SOP_INSTANCE_UID, reference.sop_instance_uid),
    ]


def _uid(tag: int, uid: str) -> Element:
    value = uid.encode("ascii")
    return Element(tag, "UI", value + b"\0" * (len(value) % 2))
