"""Retention: studies that got no new object for longer than their organisation keeps them are removed.

``retention_days`` of an organisation; nothing is removed where it is not set. What counts is when the newest
object was received: one that is sent again is no new one. Whether a study is due is decided by the very
transaction that deletes it, by the setting as it is then.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from isocenter.features.archive.deletion.deleting import Scope, delete_rows
from isocenter.features.archive.policies import FIND_SETTINGS
from isocenter.features.archive.queries_retention import COUNT_DUE, FIND_DUE, FIND_NEWEST
from isocenter.features.archive.rounds import ClockJumps, all_organizations, to_its_end
from isocenter.features.archive.said import Said
from isocenter.features.archive.turns import lock_studies
from isocenter.kit.clock import DAY_US, Clock, microseconds
from isocenter.kit.errors import Busy, IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.db import Database, Work
from isocenter.platform.security import Action, Recorder, Subject, SubjectKind, event_of
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_BATCH = 100
_BATCHES_MAX = 20
"""Of one organisation in one round: what is more waits for the next."""


@dataclass(frozen=True, slots=True)
class DueStudy:
    pk: int
    study_instance_uid: str
    study_date: str
    instances: int
    newest_at_us: int


@dataclass(slots=True)
class RetentionReport:
    studies: int = 0
    instances: int = 0
    held_off: bool = False


class Retention:
    def __init__(self, database: Database, clock: Clock, recorder: Recorder) -> None:
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._jumps = ClockJumps(clock, "retention")

    async def due(
        self, organization_id: int, *, days: int | None = None, limit: int = 1000
    ) -> list[DueStudy] | None:
        """The studies that are due now, at most ``limit``, oldest rows first; ``days`` instead of the
        organisation's own. None where neither says how long to keep them."""
        return await self._database.read(_due, organization_id, days, self._now_us(), 0, limit)

    async def run(self) -> RetentionReport:
        """One round over all organisations. Holds off when the clock has jumped: a wrong date would remove
        everything. Raises Unavailable, OutOfSpace or Busy; what was removed by then is in the audit trail."""
        report = RetentionReport()
        if self._jumps.happened():
            report.held_off = True
            return report
        now_us = self._now_us()
        for organization_id in await all_organizations(self._database):
            await self._run_for(organization_id, now_us, report)
        return report

    async def _run_for(self, organization_id: int, now_us: int, report: RetentionReport) -> None:
        after = 0
        for _ in range(_BATCHES_MAX):
            due = await self._database.read(_due, organization_id, None, now_us, after, _BATCH)
            for study in due or []:
                await to_its_end(self._remove(organization_id, study.study_instance_uid, now_us, report))
            if not due:
                return
            await self._recorder.settled()
            after = due[-1].pk

    async def _remove(self, organization_id: int, study: str, now_us: int, report: RetentionReport) -> None:
        try:
            removed = await self._database.write(_remove, organization_id, study, now_us)
        except (Unavailable, OutOfSpace, Busy):
            raise
        except IsocenterError as error:  # one study must not keep all others for ever
            log.error("Retention cannot remove a study", organization_id=organization_id, code=error.code)
            return
        if removed is None:
            return  # something new came, or somebody has changed the setting
        days, instances = removed
        report.studies += 1
        report.instances += instances
        self._recorder.record(
            event_of(
                Subject(SubjectKind.SERVICE, "retention", organization_id, frozenset(), "retention"),
                Action.DELETE,
                resource_kind="study",
                resource_id=study,
                details={"reason": "retention", "retention_days": days, "instances": instances},
            )
        )

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def count_due(organization_id: int, days: int, now_us: int) -> Work[int]:
    rows = yield COUNT_DUE(organization_id=organization_id, before_us=now_us - days * DAY_US)
    count: int = rows[0][0]
    return count


def _due(
    organization_id: int, days: int | None, now_us: int, after: int, limit: int
) -> Work[list[DueStudy] | None]:
    if days is None:
        days = yield from _retention_days(organization_id)
    if days is None:
        return None
    rows = yield FIND_DUE(
        organization_id=organization_id, before_us=now_us - days * DAY_US, after=after, limit=limit
    )
    return [
        DueStudy(
            row["id"],
            row["study_instance_uid"],
            row["study_date"],
            row["instance_count"],
            row["newest_at_us"] or 0,
        )
        for row in rows
    ]


def _remove(organization_id: int, study: str, now_us: int) -> Work[tuple[int, int] | None]:
    """The days after which it went, and how many instances; None where it is not due (any more)."""
    yield from lock_studies(organization_id, [study])
    days = yield from _retention_days(organization_id)
    if days is None:
        return None
    [newest] = yield FIND_NEWEST(organization_id=organization_id, study_instance_uid=study)
    if newest["newest_at_us"] is None or newest["newest_at_us"] >= now_us - days * DAY_US:
        return None
    said = Said("retention", "retention", now_us)
    deleted = yield from delete_rows(organization_id, [Scope(study)], said)
    return days, deleted.instances


def _retention_days(organization_id: int) -> Work[int | None]:
    rows = yield FIND_SETTINGS(organization_id=organization_id)
    days: int | None = orjson.loads(rows[0]["settings"]).get("retention_days") if rows else None
    return days
