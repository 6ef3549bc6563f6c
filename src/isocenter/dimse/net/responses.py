"""Which response answers which request, and what it takes over from it."""

from __future__ import annotations

from typing import Any

from isocenter.dimse.net.service import Answer, SubOperations
from isocenter.dimse.protocol import messages as m
from isocenter.dimse.protocol import statuses

RESPONSES: dict[type[m.Request], type[m.Response]] = {
    m.CEchoRequest: m.CEchoResponse,
    m.CStoreRequest: m.CStoreResponse,
    m.CFindRequest: m.CFindResponse,
    m.CGetRequest: m.CGetResponse,
    m.CMoveRequest: m.CMoveResponse,
    m.NEventReportRequest: m.NEventReportResponse,
    m.NGetRequest: m.NGetResponse,
    m.NSetRequest: m.NSetResponse,
    m.NActionRequest: m.NActionResponse,
    m.NCreateRequest: m.NCreateResponse,
    m.NDeleteRequest: m.NDeleteResponse,
}

NAMES: dict[type[m.Message], str] = {
    m.CEchoRequest: "C-ECHO",
    m.CStoreRequest: "C-STORE",
    m.CFindRequest: "C-FIND",
    m.CGetRequest: "C-GET",
    m.CMoveRequest: "C-MOVE",
    m.NEventReportRequest: "N-EVENT-REPORT",
    m.NGetRequest: "N-GET",
    m.NSetRequest: "N-SET",
    m.NActionRequest: "N-ACTION",
    m.NCreateRequest: "N-CREATE",
    m.NDeleteRequest: "N-DELETE",
}

N_METHODS: dict[type[m.Message], str] = {
    message: name.lower().replace("-", "_") for message, name in NAMES.items() if name.startswith("N-")
}

_US_MAX = 0xFFFF

_WITH_INSTANCE = frozenset((m.CStoreRequest, *N_METHODS))


def response_to(request: m.Request, answer: Answer, **fields: Any) -> m.Response:
    """``fields`` override what is taken over from the request."""
    kind = type(request)
    values: dict[str, Any] = {
        "message_id_being_responded_to": request.message_id,
        "status": answer.status,
        "affected_sop_class_uid": m.sop_class_uid(request) or None,
        "offending_element": answer.offending_elements or None,
        "error_comment": answer.comment or None,
    }
    if kind in _WITH_INSTANCE:
        values["affected_sop_instance_uid"] = m.sop_instance_uid(request)
    if isinstance(request, m.NActionRequest):
        values["action_type_id"] = request.action_type_id
    elif isinstance(request, m.NEventReportRequest):
        values["event_type_id"] = request.event_type_id
    values.update(fields)
    return RESPONSES[kind](**values)


def sub_operation_fields(progress: SubOperations, *, final: bool) -> dict[str, int | None]:
    """The number of remaining sub-operations has no place in a final response (PS3.4 C.4.2.1.6). The fields
    are US: of more than 65535 the standard has no way to tell."""
    return {
        "remaining_sub_operations": None if final else min(progress.remaining, _US_MAX),
        "completed_sub_operations": min(progress.completed, _US_MAX),
        "failed_sub_operations": min(progress.failed, _US_MAX),
        "warning_sub_operations": min(progress.warning, _US_MAX),
    }


def final_of_sub_operations(last: SubOperations) -> Answer:
    """PS3.4 C.4.2.1.5: all done, some failed or warned, or none done."""
    if not last.failed and not last.warning:
        return Answer()
    if last.completed or last.warning:
        return Answer(statuses.WARNING_SUB_OPERATIONS_FAILED, last.comment)
    return Answer(statuses.OUT_OF_RESOURCES_UNABLE_TO_PERFORM_SUB_OPERATIONS, last.comment)
