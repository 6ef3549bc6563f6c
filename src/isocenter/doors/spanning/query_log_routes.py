"""``/api/v1/spanner/log``: who asked many archives, when, and what came of it (MISSION B11)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from isocenter.doors.http.gate import Gate
from isocenter.doors.http.instants import Instant, instant
from isocenter.doors.http.witness import Witness
from isocenter.features.spanner.query_log import LoggedQuery, QueryLog
from isocenter.kit.clock import microseconds
from isocenter.platform.security import Action, NoRecorder, Permission, Recorder, Subject


class SourceOutcomeModel(BaseModel):
    id: int
    ended: str
    rows: int
    took_ms: int
    attempts: int


class LoggedQueryModel(BaseModel):
    """``keywords``: what was matched on; the values are in the audit trail. ``outcome``: complete, partial,
    failed, cancelled. ``age_ms``: how old the answer was, 0: the sources were asked."""

    asked_at: datetime
    asker_kind: str
    asker_id: str
    asker_name: str
    trace_id: str
    config_id: int
    level: str
    keywords: list[str]
    answers: int
    outcome: str
    took_ms: int
    age_ms: int
    sources: list[SourceOutcomeModel]


class QueryLogModel(BaseModel):
    queries: list[LoggedQueryModel]


def query_log_router(query_log: QueryLog, gate: Gate, recorder: Recorder | None = None) -> APIRouter:
    router = APIRouter(prefix="/api/v1/spanner/log", tags=["spanner"])
    witness = Witness(recorder or NoRecorder(), "spanner-log")
    reads = gate.needs(Permission.AUDIT_READ)

    @router.get("")
    async def find(
        request: Request,
        *,
        since: Annotated[Instant | None, Query(alias="from")] = None,
        before: Instant | None = None,
        spanner_config_id: Annotated[int, Query(ge=0, lt=1 << 62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        subject: Subject = reads,
    ) -> QueryLogModel:
        """The latest first; go on with ``before``, the time of the last one."""
        async with witness.of(request, Action.READ):
            found = await query_log.find(
                subject.organization_id,
                from_us=microseconds(since) if since else 0,
                before_us=microseconds(before) if before else 0,
                config_id=spanner_config_id,
                limit=limit,
            )
            return QueryLogModel(queries=[_model(one) for one in found])

    return router


def _model(one: LoggedQuery) -> LoggedQueryModel:
    return LoggedQueryModel(
        asked_at=instant(one.asked_at_us),
        asker_kind=one.asker.kind,
        asker_id=one.asker.id,
        asker_name=one.asker.name,
        trace_id=one.asker.trace_id,
        config_id=one.config_id,
        level=one.level,
        keywords=list(one.keywords),
        answers=one.answers,
        outcome=one.outcome,
        took_ms=one.took_ms,
        age_ms=one.age_ms,
        sources=[
            SourceOutcomeModel(
                id=source.id,
                ended=source.ended,
                rows=source.rows,
                took_ms=source.took_ms,
                attempts=source.attempts,
            )
            for source in one.sources
        ],
    )
