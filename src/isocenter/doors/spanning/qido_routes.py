"""``/api/v1/spanner/qido`` and ``/api/v1/spanner/queries``: one question to all archives of a configuration.

Asked with ``Accept: text/event-stream``, rows are told as they come (HTML Living Standard §9.2); with
``async=true`` the answer is fetched later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from isocenter.dicom.levels import Level
from isocenter.dicom.tags import SERIES_INSTANCE_UID, STUDY_INSTANCE_UID
from isocenter.doors.dicomweb.addresses import Addresses
from isocenter.doors.dicomweb.media_types import DICOM_JSON, JSON
from isocenter.doors.dicomweb.witness import searched_keys
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.services import HttpLimits
from isocenter.doors.http.witness import Told, Witness, caller
from isocenter.doors.spanning.answers import (
    DICOM_WEB,
    data_sets,
    envelope,
    headers_of,
    outcome_model,
    rows_json,
)
from isocenter.doors.spanning.questions import Asked, asked
from isocenter.features.spanner.asking import Asking, Came, Event, SpanningFailed
from isocenter.features.spanner.fan_out import Outcome
from isocenter.features.spanner.query_log import Asker
from isocenter.features.spanner.running import Running, RunningQueries
from isocenter.features.spanner.service import Spanned, Spanner
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject

_PREFIX = "/api/v1/spanner"
EVENT_STREAM = "text/event-stream"
_SILENCE_S = 15.0
"""Proxies hang up after a minute, some after half of one."""

_DATA_SETS: dict[int | str, dict[str, Any]] = {200: {"content": {DICOM_JSON: {}}}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {DICOM_JSON: {}, JSON: {}, EVENT_STREAM: {}}},
    202: {"description": "With async: the addresses of status, results and events.", "content": {JSON: {}}},
}
_RESOURCES = {
    "patients": Level.PATIENT,
    "studies": Level.STUDY,
    "series": Level.SERIES,
    "instances": Level.INSTANCE,
}
Resource = Annotated[str, Path(pattern="^(patients|studies|series|instances)$")]
ConfigId = Annotated[int, Query(ge=1, description="The spanner configuration to ask.")]
ConfigNumber = Annotated[int, Path(ge=1, lt=1 << 62)]
QueryId = Annotated[str, Path(max_length=64)]
Uid = Annotated[str, Path(pattern="^[0-9.]{1,64}$")]
Ask = Callable[..., Awaitable[Response]]
_UIDS = {"study": STUDY_INSTANCE_UID, "series": SERIES_INSTANCE_UID}


def qido_router(
    spanner: Spanner,
    running: RunningQueries,
    gate: Gate,
    limits: HttpLimits,
    recorder: Recorder | None = None,
    *,
    public_url: str = "",
) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["spanner"])
    witness = Witness(recorder or NoRecorder(), "spanner-query")
    searches = gate.needs(Permission.SPANNER_SEARCH)

    @router.get("/qido/{resource}", responses=_ANSWERS)
    async def search(
        request: Request,
        *,
        resource: Resource,
        spanner_config_id: ConfigId,
        later: Annotated[bool, Query(alias="async")] = False,
        in_envelope: Annotated[bool, Query(alias="envelope")] = False,
        subject: Subject = searches,
    ) -> Response:
        """Parameters are QIDO-RS's: DICOM keywords or tags, includefield, limit, offset. ``envelope``: an
        object that tells of each source, and of each value where it is from. ``async``: 202 at once; the
        answer is at the address in Location."""
        level = _RESOURCES[resource]
        if not later and not _wants_events(request):
            return await ask(request, level, spanner_config_id, in_envelope=in_envelope)
        async with witness.of(request, Action.SEARCH, str(spanner_config_id)) as told:
            told.update(searched_keys(request), level=level)
            if later:
                running.check_room(subject.organization_id)
            asking = await spanner.begin(
                subject.organization_id,
                spanner_config_id,
                asked(request, level, limits).question,
                asker=_asker(request),
            )
            if later:
                return _accepted(running.keep(subject.organization_id, subject.id, spanner_config_id, asking))
            return _event_stream(asking)

    async def ask(
        request: Request, level: Level, config_id: int, *, in_envelope: bool = False, **uids: str
    ) -> Response:
        """``uids``: of the study and series that the address names."""
        async with witness.of(request, Action.SEARCH, str(config_id)) as told:
            told.update(searched_keys(request), level=level, **uids)
            question = asked(request, level, limits, {_UIDS[name]: uid for name, uid in uids.items()})
            spanned = await spanner.ask(
                request.state.subject.organization_id,
                config_id,
                question.question,
                asker=_asker(request),
                fresh="no-cache" in request.headers.get("cache-control", "").lower(),
            )
            _tell(told, spanned)
            headers = _headers(request, spanned, question)
            if in_envelope:
                return Response(orjson.dumps(envelope(spanned)), headers=headers, media_type=JSON)
            base = Addresses(public_url, DICOM_WEB.format(config_id=config_id)).base(request)
            return Response(data_sets(spanned.result, base), headers=headers, media_type=DICOM_JSON)

    _add_archive_routes(router, ask, searches)

    @router.get("/queries/{query_id}/status")
    async def status(query_id: QueryId, subject: Subject = searches) -> dict[str, Any]:
        """``state``: running, finished, failed, cancelled."""
        return _status(running.get(subject.organization_id, subject.id, query_id))

    @router.get("/queries/{query_id}/results")
    async def results(
        request: Request,
        *,
        query_id: QueryId,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
        subject: Subject = searches,
    ) -> Response:
        """What has come, in the envelope; also while it runs."""
        found = running.get(subject.organization_id, subject.id, query_id)
        async with witness.of(request, Action.SEARCH, str(found.config_id)) as told:
            told["query"] = query_id
            if found.asking.is_over:
                found.asking.check()
            result = found.asking.so_far()
            page = result.answers[offset : offset + limit]
            told["answers"] = len(page)
            body = envelope(Spanned(result)) | {"state": _state(found), "total": len(result.answers)}
            body["results"] = body["results"][offset : offset + limit]
            return Response(orjson.dumps(body), media_type=JSON)

    @router.get("/queries/{query_id}/events", responses={200: {"content": {EVENT_STREAM: {}}}})
    async def follow(query_id: QueryId, subject: Subject = searches) -> Response:
        """From its beginning on, as they happened and happen."""
        return _event_stream(running.get(subject.organization_id, subject.id, query_id).asking)

    @router.delete("/queries/{query_id}")
    async def cancel(query_id: QueryId, subject: Subject = searches) -> dict[str, int]:
        """The sources are told to stop, unless somebody else waits for the same answer."""
        running.remove(subject.organization_id, subject.id, query_id)
        return {"removed": 1}

    return router


def _add_archive_routes(router: APIRouter, ask: Ask, searches: Any) -> None:
    """A configuration as a DICOMweb origin server (PS3.18 Table 10.6.1-1): what viewers are pointed at."""
    base = DICOM_WEB.removeprefix(_PREFIX)

    @router.get(base + "/{resource}", responses=_DATA_SETS)
    async def search_all(
        request: Request, *, config_id: ConfigNumber, resource: Resource, _: Subject = searches
    ) -> Response:
        return await ask(request, _RESOURCES[resource], config_id)

    @router.get(base + "/studies/{study}/series", responses=_DATA_SETS)
    async def search_series(
        request: Request, *, config_id: ConfigNumber, study: Uid, _: Subject = searches
    ) -> Response:
        return await ask(request, Level.SERIES, config_id, study=study)

    @router.get(base + "/studies/{study}/instances", responses=_DATA_SETS)
    async def search_instances_of_study(
        request: Request, *, config_id: ConfigNumber, study: Uid, _: Subject = searches
    ) -> Response:
        return await ask(request, Level.INSTANCE, config_id, study=study)

    @router.get(base + "/studies/{study}/series/{series}/instances", responses=_DATA_SETS)
    async def search_instances(
        request: Request, *, config_id: ConfigNumber, study: Uid, series: Uid, _: Subject = searches
    ) -> Response:
        return await ask(request, Level.INSTANCE, config_id, study=study, series=series)


def _headers(request: Request, spanned: Spanned, question: Asked) -> dict[str, str]:
    return headers_of(spanned, question.warnings, str(request.base_url).rstrip("/"))


def _accepted(found: Running) -> Response:
    base = f"/api/v1/spanner/queries/{found.id}"
    body = {
        "id": found.id,
        "status": f"{base}/status",
        "results": f"{base}/results",
        "events": f"{base}/events",
    }
    return Response(orjson.dumps(body), 202, {"location": f"{base}/status"}, JSON)


def _status(found: Running) -> dict[str, Any]:
    result = found.asking.so_far()
    return {
        "id": found.id,
        "state": _state(found),
        "results": len(result.answers),
        "sources": [outcome_model(one) for one in result.outcomes],
        "waiting_for": [{"id": source.id, "name": source.name} for source in found.asking.waiting_for],
    }


def _state(found: Running) -> str:
    if found.asking.is_cancelled:
        return "cancelled"
    if not found.asking.is_over:
        return "running"
    try:
        found.asking.check()
    except SpanningFailed:
        return "failed"
    return "finished"


def _event_stream(asking: Asking) -> Response:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(asking), headers=headers, media_type=EVENT_STREAM)


async def events(asking: Asking, *, silence_s: float = _SILENCE_S) -> AsyncGenerator[bytes, None]:
    """Of a question, to its end. After ``silence_s`` without one a comment, so that nobody on the way takes
    the connection for dead."""
    with asking.interest():
        watching = asking.watch()
        following = asyncio.ensure_future(anext(watching, None))
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=silence_s)
                if not done:
                    yield b": still asking\n\n"
                    continue
                happened = following.result()
                if happened is None:
                    break
                yield _told_event(happened)
                following = asyncio.ensure_future(anext(watching, None))
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        result = asking.so_far()
        yield _event("end", {"complete": result.is_complete, "results": len(result.answers)})


def _told_event(happened: Event) -> bytes:
    match happened:
        case Came(source, rows):
            return _event("rows", {"source": source.id, "name": source.name, "rows": rows_json(rows)})
        case Outcome():
            return _event("source", outcome_model(happened))


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


def _asker(request: Request) -> Asker:
    subject = caller(request)
    return Asker(subject.kind, subject.id, subject.name, request.state.trace_id)


def _wants_events(request: Request) -> bool:
    return EVENT_STREAM in request.headers.get("accept", "")


def _tell(told: Told, spanned: Spanned) -> None:
    result = spanned.result
    told["answers"] = len(result.answers)
    told["sources"] = len(result.outcomes)
    if result.missing:
        told["missing"] = ", ".join(f"{one.source.id} {one.ended}" for one in result.missing)
