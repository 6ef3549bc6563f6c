"""Who asked many archives what, when, and what came of it (MISSION B11).

For finding out why an answer was slow or incomplete, and how archives do over months: it has the keywords of
a question, never their values, which the audit trail keeps. Written down soon after, many at a time, so that
no answer waits for it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from isocenter.dicom.dictionary import keyword_of
from isocenter.features.spanner import queries_log
from isocenter.features.spanner.fan_out import Outcome
from isocenter.features.spanner.question import Question
from isocenter.kit.clock import DAY_US, Clock, now_us
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.telemetry import get_logger

WAITING_MAX = 10_000
_FLUSH_S = 1.0
_REMOVED_AT_ONCE = 5_000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asker:
    """``kind`` and ``id`` as `platform.security.Subject` has them."""

    kind: str
    id: str
    name: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class SourceOutcome:
    """``took_ms`` from its turn on."""

    id: int
    ended: str
    rows: int
    took_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class LoggedQuery:
    """``keywords``: what was matched on. ``outcome``: complete, partial, failed, cancelled. ``age_ms``: how
    old the answer was; 0: the sources were asked. Times: µs since 1970 UTC."""

    organization_id: int
    config_id: int
    asked_at_us: int
    asker: Asker
    level: str
    keywords: tuple[str, ...]
    answers: int
    outcome: str
    took_ms: int
    age_ms: int
    sources: tuple[SourceOutcome, ...]


def keywords_of(question: Question) -> tuple[str, ...]:
    return tuple(sorted(keyword_of(tag) or f"{tag:08X}" for tag, text in question.matches.items() if text))


def source_outcomes(outcomes: Sequence[Outcome]) -> tuple[SourceOutcome, ...]:
    return tuple(
        SourceOutcome(one.source.id, one.ended, one.rows, round(one.took_s * 1000), one.attempts)
        for one in outcomes
    )


class QueryLog:
    """Of all organisations. ``close`` writes what waits."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: list[LoggedQuery] = []
        self._lost = 0
        self._flushing: asyncio.Task[None] | None = None

    def note(self, query: LoggedQuery) -> None:
        """Bounded: while the database is away, what is too much is counted."""
        if len(self._waiting) >= WAITING_MAX:
            self._lost += 1
            return
        self._waiting.append(query)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later(), name="query-log")

    async def _flush_later(self) -> None:
        await asyncio.sleep(_FLUSH_S)
        await self.flush()

    async def flush(self) -> None:
        """Write what waits; what cannot be written now stays, within the bound."""
        waiting, self._waiting = self._waiting, []
        if self._lost:
            log.warning("Queries that were not logged", count=self._lost)
            self._lost = 0
        for organization_id in sorted({one.organization_id for one in waiting}):
            of_one = [one for one in waiting if one.organization_id == organization_id]
            try:
                await self._database.write(_write, organization_id, of_one)
            except IsocenterError as error:
                log.warning("Queries cannot be logged now", reason=error.detail)
                self._waiting = [*of_one, *self._waiting][:WAITING_MAX]

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
        await self.flush()

    async def find(
        self,
        organization_id: int,
        *,
        from_us: int = 0,
        before_us: int = 0,
        config_id: int = 0,
        limit: int = 100,
    ) -> list[LoggedQuery]:
        """The latest first. ``before_us`` and ``config_id`` 0: any."""
        await self.flush()
        return await self._database.read(
            _find, organization_id, from_us, before_us or 1 << 62, config_id, limit
        )

    async def forget(self, organization_id: int, *, days: int) -> int:
        """Remove what is older, some at a time; how many that were."""
        before_us = now_us(self._clock) - days * DAY_US
        removed = 0
        while True:
            count = await self._database.write(_forget, organization_id, before_us)
            removed += count
            if count < _REMOVED_AT_ONCE:
                return removed

    async def forget_of_all(self, *, days: int) -> int:
        """The same for every organisation that asked anything."""
        organizations = await self._database.read_across(_organizations)
        return sum([await self.forget(organization_id, days=days) for organization_id in organizations])


def _write(organization_id: int, logged: Sequence[LoggedQuery]) -> Work[None]:
    yield queries_log.LOG_QUERY.many([{"organization_id": organization_id, **_values(one)} for one in logged])


def _values(one: LoggedQuery) -> dict[str, Any]:
    return {
        "query_id": secrets.token_urlsafe(12),
        "config_id": one.config_id,
        "asked_at_us": one.asked_at_us,
        "asker_kind": one.asker.kind,
        "asker_id": one.asker.id,
        "asker_name": one.asker.name,
        "trace_id": one.asker.trace_id,
        "level": one.level,
        "keywords": ",".join(one.keywords),
        "answers": one.answers,
        "outcome": one.outcome,
        "took_ms": one.took_ms,
        "age_ms": one.age_ms,
        "sources": orjson.dumps([asdict(source) for source in one.sources]).decode(),
    }


def _find(
    organization_id: int, from_us: int, before_us: int, config_id: int, limit: int
) -> Work[list[LoggedQuery]]:
    rows = yield queries_log.FIND_LOGGED(
        organization_id=organization_id,
        from_us=from_us,
        before_us=before_us,
        config_id=config_id,
        limit=limit,
    )
    return [_logged(row) for row in rows]


def _forget(organization_id: int, before_us: int) -> Work[int]:
    rows = yield queries_log.FORGET_LOGGED(
        organization_id=organization_id, before_us=before_us, limit=_REMOVED_AT_ONCE
    )
    return len(rows)


def _organizations() -> Work[list[int]]:
    rows = yield queries_log.FIND_LOGGING_ORGANIZATIONS()
    return [row[0] for row in rows]


def _logged(row: Row) -> LoggedQuery:
    return LoggedQuery(
        row["organization_id"],
        row["config_id"],
        row["asked_at_us"],
        Asker(row["asker_kind"], row["asker_id"], row["asker_name"], row["trace_id"]),
        row["level"],
        tuple(word for word in row["keywords"].split(",") if word),
        row["answers"],
        row["outcome"],
        row["took_ms"],
        row["age_ms"],
        tuple(SourceOutcome(**one) for one in orjson.loads(row["sources"])),
    )
