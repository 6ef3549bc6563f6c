"""``/api/v1/audit``: the trail, for those who watch over it. Looking at it is itself recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from isocenter.doors.http.filenames import attachment
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import Instant
from isocenter.doors.http.witness import caller
from isocenter.features.audit.entries import Entry
from isocenter.features.audit.fhir import bundle
from isocenter.features.audit.reading import Filter, find_entries
from isocenter.features.audit.spreadsheet import csv_lines
from isocenter.features.audit.verifying import Break, parse_head, verify
from isocenter.platform.db import Database
from isocenter.platform.security import Action, EventOutcome, Permission, Recorder, Subject, event_of

_LIMIT_MAX = 5000
_FHIR = "application/fhir+json; fhirVersion=4.0"
_BUNDLE: dict[int | str, dict[str, Any]] = {200: {"content": {_FHIR: {"schema": {"type": "object"}}}}}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Number = Annotated[int | None, Query(ge=0, le=2**62)]
_Text = Annotated[str, Query(max_length=200)]
_Limit = Annotated[int, Query(ge=1, le=_LIMIT_MAX)]


class EventModel(BaseModel):
    """``at_us``: µs since 1970 UTC, the very number that is in the hash."""

    sequence: int
    at: datetime
    at_us: int
    action: str
    outcome: str
    subject_kind: str
    subject_id: str
    subject_name: str
    address: str
    resource_kind: str
    resource_id: str
    details: dict[str, Any]
    trace_id: str
    previous_hash: str
    hash: str


class EventsModel(BaseModel):
    """Newest first. ``next_before``: the next page's cursor, null after the last."""

    events: list[EventModel]
    next_before: int | None


class BreakModel(BaseModel):
    """``damage``: changed, removed, inserted, reordered or truncated; ``sequence``: the first such entry."""

    damage: str
    sequence: int
    detail: str


class VerdictModel(BaseModel):
    """``entries`` were found in order, the last of them is ``head``: note it where nobody can change it, and
    give it as ``expect`` later."""

    intact: bool
    entries: int
    head: str
    broken: BreakModel | None


def audit_router(database: Database, gate: Gate, recorder: Recorder) -> APIRouter:
    """The routes over the trail of the subject's own organisation."""
    router = APIRouter(prefix="/api/v1/audit", tags=["audit"])
    reads = gate.needs(Permission.AUDIT_READ)

    def looked_at(request: Request, details: dict[str, str | int | bool]) -> None:
        recorder.record(
            event_of(
                caller(request),
                Action.READ,
                resource_kind="audit",
                details=details,
                trace_id=request.state.trace_id,
            )
        )

    @router.get("", response_model=EventsModel, responses={200: {"content": {"text/csv": {}}}})
    async def list_events(
        request: Request,
        *,
        action: Action | None = None,
        outcome: EventOutcome | None = None,
        who: Annotated[str, Query(alias="subject", max_length=200)] = "",
        resource: _Text = "",
        resource_kind: _Text = "",
        begin: Annotated[Instant | None, Query(alias="from")] = None,
        end: Annotated[Instant | None, Query(alias="to")] = None,
        text: _Text = "",
        before: _Number = None,
        after: _Number = None,
        limit: _Limit = 100,
        subject: Subject = reads,
    ) -> Any:
        """``subject``: id or name. ``from`` is included, ``to`` is not. ``Accept: text/csv`` gives CSV."""
        wanted = Filter(
            action=action,
            outcome=outcome,
            subject=who,
            resource=resource,
            resource_kind=resource_kind,
            from_us=_us(begin),
            to_us=_us(end),
            text=text,
            before=before,
            after=after,
        )
        entries = await find_entries(database, subject.organization_id, wanted, limit=limit)
        as_csv = request.headers.get("accept", "").lower().startswith("text/csv")
        told: dict[str, str | int | bool] = dict(request.query_params)
        looked_at(request, told | {"how": "csv" if as_csv else "json", "entries": len(entries)})
        if as_csv:
            return _csv(entries)
        return EventsModel(
            events=[event_model(entry) for entry in entries],
            next_before=entries[-1].sequence if len(entries) == limit else None,
        )

    @router.get("/verify")
    async def verify_chain(
        request: Request, expect: Annotated[str, Query(max_length=100)] = "", subject: Subject = reads
    ) -> VerdictModel:
        """Reads the whole chain. ``expect`` is ``SEQ:HASH``, noted earlier and elsewhere."""
        expected = parse_head(expect) if expect else None
        verdict = await verify(database, subject.organization_id, expected=expected)
        told: dict[str, str | int | bool] = {"how": "verify"}
        told |= {"intact": verdict.intact, "entries": verdict.entries}
        looked_at(request, told)
        broken = verdict.broken
        return VerdictModel(
            intact=verdict.intact,
            entries=verdict.entries,
            head=str(verdict.head),
            broken=None if broken is None else _break_model(broken),
        )

    @router.get("/fhir", response_class=Response, responses=_BUNDLE)
    async def list_fhir(
        request: Request,
        before: _Number = None,
        after: _Number = None,
        limit: _Limit = 100,
        subject: Subject = reads,
    ) -> Response:
        """A FHIR R4 Bundle of AuditEvents, newest first."""
        wanted = Filter(before=before, after=after)
        entries = await find_entries(database, subject.organization_id, wanted, limit=limit)
        looked_at(request, {"how": "fhir", "entries": len(entries)})
        return Response(orjson.dumps(bundle(entries, "Isocenter")), media_type=_FHIR)

    return router


def event_model(entry: Entry) -> EventModel:
    return EventModel(
        sequence=entry.sequence,
        at=_EPOCH + timedelta(microseconds=entry.at_us),
        at_us=entry.at_us,
        action=entry.action,
        outcome=entry.outcome,
        subject_kind=entry.subject_kind,
        subject_id=entry.subject_id,
        subject_name=entry.subject_name,
        address=entry.address,
        resource_kind=entry.resource_kind,
        resource_id=entry.resource_id,
        details=orjson.loads(entry.details),
        trace_id=entry.trace_id,
        previous_hash=entry.previous_hash,
        hash=entry.hash,
    )


def _break_model(broken: Break) -> BreakModel:
    return BreakModel(damage=broken.damage, sequence=broken.sequence, detail=broken.detail)


def _csv(entries: list[Entry]) -> Response:
    return Response(
        csv_lines(entries),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"content-disposition": attachment("audit.csv")},
    )


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
