"""DIMSE status codes (PS3.7 Annex C; PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4, F, H), families."""

from __future__ import annotations

from enum import StrEnum

SUCCESS = 0x0000
CANCEL = 0xFE00
PENDING = 0xFF00
PENDING_WITH_WARNINGS = 0xFF01  # one or more optional keys were not supported for matching

WARNING_REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = 0x0001
WARNING_ATTRIBUTE_LIST_ERROR = 0x0107
WARNING_ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
WARNING_COERCION_OF_DATA_ELEMENTS = 0xB000
WARNING_SUB_OPERATIONS_FAILED = 0xB000
WARNING_ELEMENTS_DISCARDED = 0xB006
WARNING_DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xB007

NO_SUCH_ATTRIBUTE = 0x0105
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
NO_SUCH_ARGUMENT = 0x0114
INVALID_ARGUMENT_VALUE = 0x0115
INVALID_SOP_INSTANCE = 0x0117
NO_SUCH_SOP_CLASS = 0x0118
CLASS_INSTANCE_CONFLICT = 0x0119
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION_TYPE = 0x0123
NOT_AUTHORIZED = 0x0124
DUPLICATE_INVOCATION = 0x0210
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
RESOURCE_LIMITATION = 0x0213

OUT_OF_RESOURCES = 0xA700  # C-STORE, C-FIND
OUT_OF_RESOURCES_UNABLE_TO_CALCULATE_MATCHES = 0xA701  # C-MOVE, C-GET
OUT_OF_RESOURCES_UNABLE_TO_PERFORM_SUB_OPERATIONS = 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
UNABLE_TO_PROCESS = 0xC000

_NAMES = {
    SUCCESS: "success",
    CANCEL: "cancelled",
    PENDING: "pending",
    PENDING_WITH_WARNINGS: "pending, some optional keys were not used for matching",
    WARNING_REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED: "requested optional attributes are not supported",
    WARNING_ATTRIBUTE_LIST_ERROR: "attribute list error",
    WARNING_ATTRIBUTE_VALUE_OUT_OF_RANGE: "attribute value out of range",
    WARNING_COERCION_OF_DATA_ELEMENTS: "data elements were coerced, or some sub-operations failed",
    WARNING_ELEMENTS_DISCARDED: "elements were discarded",
    WARNING_DATA_SET_DOES_NOT_MATCH_SOP_CLASS: "the data set does not match its SOP class",
    NO_SUCH_ATTRIBUTE: "no such attribute",
    INVALID_ATTRIBUTE_VALUE: "invalid attribute value",
    PROCESSING_FAILURE: "processing failure",
    DUPLICATE_SOP_INSTANCE: "the SOP instance is there already",
    NO_SUCH_SOP_INSTANCE: "no such SOP instance",
    NO_SUCH_EVENT_TYPE: "no such event type",
    NO_SUCH_ARGUMENT: "no such argument",
    INVALID_ARGUMENT_VALUE: "invalid argument value",
    INVALID_SOP_INSTANCE: "the SOP instance UID is not a valid UID",
    NO_SUCH_SOP_CLASS: "no such SOP class",
    CLASS_INSTANCE_CONFLICT: "the SOP instance is of another SOP class",
    MISSING_ATTRIBUTE: "a required attribute is missing",
    MISSING_ATTRIBUTE_VALUE: "a required attribute has no value",
    SOP_CLASS_NOT_SUPPORTED: "the SOP class is not supported",
    NO_SUCH_ACTION_TYPE: "no such action type",
    NOT_AUTHORIZED: "not authorized",
    DUPLICATE_INVOCATION: "the message ID is in use",
    UNRECOGNIZED_OPERATION: "unrecognized operation",
    MISTYPED_ARGUMENT: "mistyped argument",
    RESOURCE_LIMITATION: "resource limitation",
    OUT_OF_RESOURCES: "out of resources",
    OUT_OF_RESOURCES_UNABLE_TO_CALCULATE_MATCHES: "out of resources: unable to calculate matches",
    OUT_OF_RESOURCES_UNABLE_TO_PERFORM_SUB_OPERATIONS: "out of resources: unable to perform sub-operations",
    MOVE_DESTINATION_UNKNOWN: "the move destination is unknown",
}


class Family(StrEnum):
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    CANCEL = "cancel"
    PENDING = "pending"


def family(status: int) -> Family:
    """The family of any status, known or not (PS3.7 Annex C)."""
    if status == SUCCESS:
        return Family.SUCCESS
    if status in (PENDING, PENDING_WITH_WARNINGS):
        return Family.PENDING
    if status == CANCEL:
        return Family.CANCEL
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return Family.WARNING
    return Family.FAILURE


def describe(status: int) -> str:
    """Words for people: ``"A700H, failure: out of resources"``."""
    name = _NAMES.get(status)
    if name is None:
        name = _RANGES.get(status >> 8) or _RANGES.get(status >> 12 << 4) or "no standard meaning"
    return f"{status:04X}H, {family(status)}: {name}"


_RANGES = {
    0xA7: "out of resources",
    0xA9: "the data set or identifier does not match the SOP class",
    0xC0: "cannot be understood or processed",
}
