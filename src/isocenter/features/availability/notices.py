"""Which studies are to be told to whom, and when; durable, so that a restart forgets none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from isocenter.features.availability import queries
from isocenter.kit.clock import Clock, microseconds
from isocenter.platform.db import Database, Work

ATTEMPTS_MAX = 60
LEASE_S = 120
"""Whoever tells a notice has so long; after a crash it is told again then."""
_PAUSE_S_MAX = 3600


class NoticeState(StrEnum):
    WAITING = "waiting"
    TOLD = "told"
    GONE = "gone"  # there is no such study any more
    GIVEN_UP = "given-up"


class Due(NamedTuple):
    """``until_us``: what its row says while it is ours to tell."""

    organization_id: int
    id: int
    ae_title: str
    study_instance_uid: str
    attempts: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Times: µs since 1970 UTC. ``due_at_us`` None: nothing is left to do."""

    id: int
    ae_title: str
    study_instance_uid: str
    state: NoticeState
    due_at_us: int | None
    attempts: int
    last_error: str
    changed_at_us: int
    told_at_us: int | None


class Notices:
    """Of all organisations; ``claim_due`` alone looks across them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def cursor(self, organization_id: int, ae_title: str) -> int | None:
        """How far the change feed was read for it; None: never yet."""
        return await self._database.read(_cursor, organization_id, ae_title)

    async def expect(
        self,
        organization_id: int,
        ae_title: str,
        *,
        read_to: int,
        changed_at_us: Mapping[str, int],
        after_s: int,
    ) -> None:
        """The feed was read to there and told of these studies: each is due when it has rested so long."""
        await self._database.write(_expect, organization_id, ae_title, read_to, dict(changed_at_us), after_s)

    async def claim_due(self, limit: int = 100) -> list[Due]:
        """What is to be told now; nobody else gets it for ``LEASE_S``."""
        now_us = self._now_us()
        return await self._database.write_across(_claim_due, now_us, now_us + LEASE_S * 1_000_000, limit)

    async def told(self, due: Due) -> None:
        await self._end(due, NoticeState.TOLD, "", self._now_us())

    async def gone(self, due: Due) -> None:
        await self._end(due, NoticeState.GONE, "", None)

    async def failed(self, due: Due, error: str) -> NoticeState:
        """It could not be told: again in 2^n seconds, up to an hour, until enough is enough."""
        attempts = due.attempts + 1
        if attempts >= ATTEMPTS_MAX:
            await self._end(due, NoticeState.GIVEN_UP, error, None)
            return NoticeState.GIVEN_UP
        pause_s = min(2 ** min(attempts, 20), _PAUSE_S_MAX)
        due_at_us = self._now_us() + pause_s * 1_000_000
        await self._database.write(_put_off, due.organization_id, due, due_at_us, error[:500])
        return NoticeState.WAITING

    async def give_up(self, due: Due, error: str) -> None:
        await self._end(due, NoticeState.GIVEN_UP, error, None)

    async def find(self, organization_id: int, *, limit: int = 100) -> list[Notice]:
        """The latest first."""
        return await self._database.read(_list, organization_id, limit)

    async def _end(self, due: Due, state: NoticeState, error: str, told_at_us: int | None) -> None:
        await self._database.write(_end, due.organization_id, due, state, error[:500], told_at_us)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def _cursor(organization_id: int, ae_title: str) -> Work[int | None]:
    rows = yield queries.FIND_CURSOR(organization_id=organization_id, ae_title=ae_title)
    return rows[0]["change_number"] if rows else None


def _expect(
    organization_id: int, ae_title: str, read_to: int, changed_at_us: dict[str, int], after_s: int
) -> Work[None]:
    if changed_at_us:
        yield queries.EXPECT.many(
            [
                {
                    "organization_id": organization_id,
                    "ae_title": ae_title,
                    "study_instance_uid": study,
                    "due_at_us": at_us + after_s * 1_000_000,
                    "changed_at_us": at_us,
                }
                for study, at_us in sorted(changed_at_us.items())
            ]
        )
    yield queries.SET_CURSOR(organization_id=organization_id, ae_title=ae_title, change_number=read_to)


def _claim_due(now_us: int, until_us: int, limit: int) -> Work[list[Due]]:
    rows = yield queries.DUE(now_us=now_us, limit=limit)
    claimed = []
    for row in rows:
        got = yield queries.CLAIM(
            organization_id=row["organization_id"],
            id=row["id"],
            seen_us=row["due_at_us"],
            until_us=until_us,
        )
        if got:
            claimed.append(
                Due(
                    row["organization_id"],
                    row["id"],
                    row["ae_title"],
                    row["study_instance_uid"],
                    row["attempts"],
                    until_us,
                )
            )
    return claimed


def _end(
    organization_id: int, due: Due, state: NoticeState, error: str, told_at_us: int | None
) -> Work[None]:
    yield queries.END(
        organization_id=organization_id,
        id=due.id,
        until_us=due.until_us,
        state=state,
        error=error,
        told_at_us=told_at_us,
    )


def _put_off(organization_id: int, due: Due, due_at_us: int, error: str) -> Work[None]:
    yield queries.PUT_OFF(
        organization_id=organization_id,
        id=due.id,
        until_us=due.until_us,
        due_at_us=due_at_us,
        error=error,
    )


def _list(organization_id: int, limit: int) -> Work[list[Notice]]:
    rows = yield queries.LIST(organization_id=organization_id, limit=limit)
    return [
        Notice(
            row["id"],
            row["ae_title"],
            row["study_instance_uid"],
            NoticeState(row["state"]),
            row["due_at_us"],
            row["attempts"],
            row["last_error"],
            row["changed_at_us"],
            row["told_at_us"],
        )
        for row in rows
    ]
