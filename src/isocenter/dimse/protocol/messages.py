"""The DIMSE messages of PS3.7 §9.3 and §10.3: one class each, its fields named as the standard names them.

A message holds its command set only; its data set follows as fragments. ``None`` stands for an element
that is not there. What each class carries on the wire is its ``LAYOUT``, in the order of the tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, NamedTuple


class Kind(Enum):
    """How a command element is encoded (PS3.7 Annex E; always implicit VR little endian)."""

    UID = auto()
    NUMBER = auto()  # US
    TEXT = auto()  # AE or LO
    TAGS = auto()  # AT, any number


class Field(NamedTuple):
    name: str
    element: int  # of group 0000
    kind: Kind
    required: bool = False


RESPONSE = 0x8000  # the bit that tells a response's command field from its request's

MEDIUM, HIGH, LOW = 0, 1, 2  # values of priority

_AFFECTED_CLASS = Field("affected_sop_class_uid", 0x0002, Kind.UID)
_REQUESTED_CLASS = Field("requested_sop_class_uid", 0x0003, Kind.UID, required=True)
_MESSAGE_ID = Field("message_id", 0x0110, Kind.NUMBER, required=True)
_RESPONDED = Field("message_id_being_responded_to", 0x0120, Kind.NUMBER, required=True)
_DESTINATION = Field("move_destination", 0x0600, Kind.TEXT, required=True)
_PRIORITY = Field("priority", 0x0700, Kind.NUMBER)
_STATUS = Field("status", 0x0900, Kind.NUMBER, required=True)
_OFFENDING = Field("offending_element", 0x0901, Kind.TAGS)
_COMMENT = Field("error_comment", 0x0902, Kind.TEXT)
_ERROR_ID = Field("error_id", 0x0903, Kind.NUMBER)
_AFFECTED_INSTANCE = Field("affected_sop_instance_uid", 0x1000, Kind.UID)
_REQUESTED_INSTANCE = Field("requested_sop_instance_uid", 0x1001, Kind.UID, required=True)
_EVENT_TYPE = Field("event_type_id", 0x1002, Kind.NUMBER)
_ATTRIBUTES = Field("attribute_identifier_list", 0x1005, Kind.TAGS)
_ACTION_TYPE = Field("action_type_id", 0x1008, Kind.NUMBER)
_REMAINING = Field("remaining_sub_operations", 0x1020, Kind.NUMBER)
_COMPLETED = Field("completed_sub_operations", 0x1021, Kind.NUMBER)
_FAILED = Field("failed_sub_operations", 0x1022, Kind.NUMBER)
_WARNING = Field("warning_sub_operations", 0x1023, Kind.NUMBER)
_ORIGINATOR = Field("move_originator_ae_title", 0x1030, Kind.TEXT)
_ORIGINATOR_ID = Field("move_originator_message_id", 0x1031, Kind.NUMBER)

_SUB_OPERATIONS = (_REMAINING, _COMPLETED, _FAILED, _WARNING)


def _needed(field: Field) -> Field:
    return field._replace(required=True)


@dataclass(slots=True, kw_only=True)
class Message:
    COMMAND_FIELD: ClassVar[int]
    LAYOUT: ClassVar[tuple[Field, ...]]


@dataclass(slots=True, kw_only=True)
class Request(Message):
    """Everything that wants a response: all but C-CANCEL."""

    message_id: int


@dataclass(slots=True, kw_only=True)
class Response(Message):
    message_id_being_responded_to: int
    status: int
    affected_sop_class_uid: str | None = None
    offending_element: tuple[int, ...] | None = None
    error_comment: str | None = None


@dataclass(slots=True, kw_only=True)
class CEchoRequest(Request):
    COMMAND_FIELD = 0x0030
    LAYOUT = (_AFFECTED_CLASS, _MESSAGE_ID)
    affected_sop_class_uid: str | None = "1.2.840.10008.1.1"


@dataclass(slots=True, kw_only=True)
class CEchoResponse(Response):
    COMMAND_FIELD = 0x8030
    LAYOUT = (_AFFECTED_CLASS, _RESPONDED, _STATUS, _OFFENDING, _COMMENT)


@dataclass(slots=True, kw_only=True)
class CStoreRequest(Request):
    COMMAND_FIELD = 0x0001
    LAYOUT = (
        _needed(_AFFECTED_CLASS),
        _MESSAGE_ID,
        _PRIORITY,
        _needed(_AFFECTED_INSTANCE),
        _ORIGINATOR,
        _ORIGINATOR_ID,
    )
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    priority: int | None = MEDIUM
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None


@dataclass(slots=True, kw_only=True)
class CStoreResponse(Response):
    COMMAND_FIELD = 0x8001
    LAYOUT = (_AFFECTED_CLASS, _RESPONDED, _STATUS, _OFFENDING, _COMMENT, _AFFECTED_INSTANCE)
    affected_sop_instance_uid: str | None = None


@dataclass(slots=True, kw_only=True)
class CFindRequest(Request):
    COMMAND_FIELD = 0x0020
    LAYOUT = (_needed(_AFFECTED_CLASS), _MESSAGE_ID, _PRIORITY)
    affected_sop_class_uid: str
    priority: int | None = MEDIUM


@dataclass(slots=True, kw_only=True)
class CFindResponse(Response):
    COMMAND_FIELD = 0x8020
    LAYOUT = (_AFFECTED_CLASS, _RESPONDED, _STATUS, _OFFENDING, _COMMENT)


@dataclass(slots=True, kw_only=True)
class CGetRequest(Request):
    COMMAND_FIELD = 0x0010
    LAYOUT = (_needed(_AFFECTED_CLASS), _MESSAGE_ID, _PRIORITY)
    affected_sop_class_uid: str
    priority: int | None = MEDIUM


@dataclass(slots=True, kw_only=True)
class CGetResponse(Response):
    COMMAND_FIELD = 0x8010
    LAYOUT = (_AFFECTED_CLASS, _RESPONDED, _STATUS, _OFFENDING, _COMMENT, *_SUB_OPERATIONS)
    remaining_sub_operations: int | None = None
    completed_sub_operations: int | None = None
    failed_sub_operations: int | None = None
    warning_sub_operations: int | None = None


@dataclass(slots=True, kw_only=True)
class CMoveRequest(Request):
    COMMAND_FIELD = 0x0021
    LAYOUT = (_needed(_AFFECTED_CLASS), _MESSAGE_ID, _DESTINATION, _PRIORITY)
    affected_sop_class_uid: str
    move_destination: str
    priority: int | None = MEDIUM


@dataclass(slots=True, kw_only=True)
class CMoveResponse(Response):
    COMMAND_FIELD = 0x8021
    LAYOUT = (_AFFECTED_CLASS, _RESPONDED, _STATUS, _OFFENDING, _COMMENT, *_SUB_OPERATIONS)
    remaining_sub_operations: int | None = None
    completed_sub_operations: int | None = None
    failed_sub_operations: int | None = None
    warning_sub_operations: int | None = None


@dataclass(slots=True, kw_only=True)
class CCancelRequest(Message):
    """Stops a C-FIND, C-GET or C-MOVE; it has no response of its own (PS3.7 §9.3.2.3)."""

    COMMAND_FIELD = 0x0FFF
    LAYOUT = (_RESPONDED,)
    message_id_being_responded_to: int


@dataclass(slots=True, kw_only=True)
class NResponse(Response):
    """What all N- responses share (PS3.7 §10.3)."""

    affected_sop_instance_uid: str | None = None
    error_id: int | None = None


@dataclass(slots=True, kw_only=True)
class NEventReportRequest(Request):
    COMMAND_FIELD = 0x0100
    LAYOUT = (_needed(_AFFECTED_CLASS), _MESSAGE_ID, _needed(_AFFECTED_INSTANCE), _needed(_EVENT_TYPE))
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    event_type_id: int


@dataclass(slots=True, kw_only=True)
class NEventReportResponse(NResponse):
    COMMAND_FIELD = 0x8100
    LAYOUT = (
        _AFFECTED_CLASS,
        _RESPONDED,
        _STATUS,
        _OFFENDING,
        _COMMENT,
        _ERROR_ID,
        _AFFECTED_INSTANCE,
        _EVENT_TYPE,
    )
    event_type_id: int | None = None


@dataclass(slots=True, kw_only=True)
class NGetRequest(Request):
    COMMAND_FIELD = 0x0110
    LAYOUT = (_REQUESTED_CLASS, _MESSAGE_ID, _REQUESTED_INSTANCE, _ATTRIBUTES)
    requested_sop_class_uid: str
    requested_sop_instance_uid: str
    attribute_identifier_list: tuple[int, ...] | None = None


_N_RESPONSE = (_AFFECTED_CLASS, _RESPONDED, _STATUS, _OFFENDING, _COMMENT, _ERROR_ID, _AFFECTED_INSTANCE)


@dataclass(slots=True, kw_only=True)
class NGetResponse(NResponse):
    COMMAND_FIELD = 0x8110
    LAYOUT = (*_N_RESPONSE, _ATTRIBUTES)
    attribute_identifier_list: tuple[int, ...] | None = None


@dataclass(slots=True, kw_only=True)
class NSetRequest(Request):
    COMMAND_FIELD = 0x0120
    LAYOUT = (_REQUESTED_CLASS, _MESSAGE_ID, _REQUESTED_INSTANCE)
    requested_sop_class_uid: str
    requested_sop_instance_uid: str


@dataclass(slots=True, kw_only=True)
class NSetResponse(NResponse):
    COMMAND_FIELD = 0x8120
    LAYOUT = (*_N_RESPONSE, _ATTRIBUTES)
    attribute_identifier_list: tuple[int, ...] | None = None


@dataclass(slots=True, kw_only=True)
class NActionRequest(Request):
    COMMAND_FIELD = 0x0130
    LAYOUT = (_REQUESTED_CLASS, _MESSAGE_ID, _REQUESTED_INSTANCE, _needed(_ACTION_TYPE))
    requested_sop_class_uid: str
    requested_sop_instance_uid: str
    action_type_id: int


@dataclass(slots=True, kw_only=True)
class NActionResponse(NResponse):
    COMMAND_FIELD = 0x8130
    LAYOUT = (*_N_RESPONSE, _ACTION_TYPE)
    action_type_id: int | None = None


@dataclass(slots=True, kw_only=True)
class NCreateRequest(Request):
    """Without an instance UID, the performer makes one (PS3.7 §10.1.5.1.3)."""

    COMMAND_FIELD = 0x0140
    LAYOUT = (_needed(_AFFECTED_CLASS), _MESSAGE_ID, _AFFECTED_INSTANCE)
    affected_sop_class_uid: str
    affected_sop_instance_uid: str | None = None


@dataclass(slots=True, kw_only=True)
class NCreateResponse(NResponse):
    COMMAND_FIELD = 0x8140
    LAYOUT = _N_RESPONSE


@dataclass(slots=True, kw_only=True)
class NDeleteRequest(Request):
    COMMAND_FIELD = 0x0150
    LAYOUT = (_REQUESTED_CLASS, _MESSAGE_ID, _REQUESTED_INSTANCE)
    requested_sop_class_uid: str
    requested_sop_instance_uid: str


@dataclass(slots=True, kw_only=True)
class NDeleteResponse(NResponse):
    COMMAND_FIELD = 0x8150
    LAYOUT = _N_RESPONSE


NRequest = NEventReportRequest | NGetRequest | NSetRequest | NActionRequest | NCreateRequest | NDeleteRequest

MESSAGES: tuple[type[Message], ...] = (
    CEchoRequest,
    CEchoResponse,
    CStoreRequest,
    CStoreResponse,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CGetResponse,
    CMoveRequest,
    CMoveResponse,
    CCancelRequest,
    NEventReportRequest,
    NEventReportResponse,
    NGetRequest,
    NGetResponse,
    NSetRequest,
    NSetResponse,
    NActionRequest,
    NActionResponse,
    NCreateRequest,
    NCreateResponse,
    NDeleteRequest,
    NDeleteResponse,
)


def sop_class_uid(request: Message) -> str:
    """The SOP class that a request speaks of, whether the standard calls it affected or requested."""
    uid: str | None = getattr(request, "affected_sop_class_uid", None)
    return uid or getattr(request, "requested_sop_class_uid", None) or ""


def sop_instance_uid(request: Message) -> str | None:
    """The SOP instance that a request speaks of; None where it names none."""
    uid: str | None = getattr(request, "affected_sop_instance_uid", None)
    return uid or getattr(request, "requested_sop_instance_uid", None)
