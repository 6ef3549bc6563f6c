"""What DICOMweb tells the audit trail (PS3.15 A.5): one event a request, with what was asked and given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from isocenter.doors.http.witness import caller
from isocenter.kit.errors import IsocenterError
from isocenter.platform.security import Action, EventOutcome, Permission, Recorder, event_of

_ACTIONS = {
    Permission.STUDIES_SEARCH: Action.SEARCH,
    Permission.STUDIES_RETRIEVE: Action.READ,
    Permission.SPANNER_RETRIEVE: Action.READ,
    Permission.STUDIES_STORE: Action.STORE,
    Permission.STUDIES_DELETE: Action.DELETE,
}
_SEARCHED = {"patients": "patient", "studies": "study", "series": "series", "instances": "instance"}
_LEVELS = ("study", "series", "instance")


def tell(request: Request, details: Mapping[str, str | int]) -> None:
    """Add to what the request's event will say."""
    request.state.told |= details


async def witnessed(
    recorder: Recorder,
    request: Request,
    permission: Permission,
    answer: Callable[[Request], Awaitable[Response]],
) -> Response:
    """The endpoint's answer; what it was is recorded before any of it leaves, whatever came of it. The answer
    to a deletion waits until that is durable."""
    action = _ACTIONS[permission]
    # The keys that were asked for are told also where they cannot be read as a search.
    request.state.told = searched_keys(request) if action is Action.SEARCH else {}
    try:
        response = await answer(request)
    except Exception as error:
        tell(request, {"reason": error.code if isinstance(error, IsocenterError) else type(error).__name__})
        _record(recorder, request, action, EventOutcome.FAILED)
        raise
    _record(
        recorder,
        request,
        action,
        EventOutcome.FAILED if response.status_code >= 400 else EventOutcome.SUCCESS,
    )
    if action is Action.DELETE:
        await recorder.settled()
    return response


def _record(recorder: Recorder, request: Request, action: Action, outcome: EventOutcome) -> None:
    path: dict[str, str] = request.path_params
    told: dict[str, str | int] = request.state.told
    if action is Action.SEARCH:
        kind, uid = _SEARCHED[request.scope["path"].removesuffix("/count").rpartition("/")[2]], ""
        told |= path
    else:
        kind = next((level for level in reversed(_LEVELS) if level in path), "study")
        uid = path.get(kind) or str(told.pop("study", ""))
        told |= {level: path[level] for level in _LEVELS if level in path and level != kind}
    recorder.record(
        event_of(
            caller(request),
            action,
            outcome=outcome,
            resource_kind=kind,
            resource_id=uid,
            details=told,
            trace_id=request.state.trace_id,
        )
    )


def searched_keys(request: Request) -> dict[str, str | int]:
    """The query string as the trail tells it."""
    keys: dict[str, str | int] = {}
    for name, value in request.query_params.multi_items():
        keys[name] = f"{keys[name]}\\{value}" if name in keys else value
    return keys
