"""What is known of each commitment, durable before anybody is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from isocenter.dicom.uids import generate_uid
from isocenter.features.commitment import queries
from isocenter.features.commitment.entries import (
    Commitment,
    FailureReason,
    Judged,
    Reference,
    Role,
    State,
)
from isocenter.features.commitment.messages import Report
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work

ATTEMPTS_MAX = 60
_PAUSE_S_MAX = 3600
LEASE_S = 15
"""Whoever works on one says so again before that; after a crash somebody else takes it up then."""
REFERENCES_MAX = 100_000


class Due(NamedTuple):
    organization_id: int
    id: int
    next_attempt_at_us: int


class Ledger:
    """Of all organisations; ``due`` alone looks across them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def take_on(
        self,
        organization_id: int,
        *,
        ae_title: str,
        own_ae_title: str,
        transaction_uid: str,
        references: Sequence[Reference],
        lease_s: int = LEASE_S,
    ) -> Commitment:
        """Note that we were asked; when this returns it survives a crash. The caller works on it for
        ``lease_s``; later anybody does. Asked again for the same, it is done again.

        Raises Conflict for other objects under a Transaction UID that the same AE title used before.
        """
        now_us = self._now_us()
        return await self._database.write(
            _take_on,
            organization_id,
            _New(Role.SCP, ae_title, own_ae_title, transaction_uid, tuple(references)),
            now_us,
            now_us + lease_s * 1_000_000,
        )

    async def ask(
        self, organization_id: int, *, ae_title: str, own_ae_title: str, references: Sequence[Reference]
    ) -> Commitment:
        """Note what is to be asked of ``ae_title``; it will be. Raises InvalidInput for none, or too many."""
        if not 0 < len(references) <= REFERENCES_MAX:
            raise InvalidInput(
                f"{len(references)} objects cannot be asked for at once.",
                code="nothing-to-commit",
                remedy=f"Name between 1 and {REFERENCES_MAX}.",
            )
        now_us = self._now_us()
        new = _New(Role.SCU, ae_title, own_ae_title, generate_uid(), tuple(dict.fromkeys(references)))
        return await self._database.write(_take_on, organization_id, new, now_us, now_us)

    async def get(self, organization_id: int, commitment_id: int) -> Commitment:
        """Raises NotFound."""
        found = await self._database.read(_find, organization_id, commitment_id)
        if found is None:
            raise NotFound("There is no such commitment.", code="no-such-commitment")
        return found

    async def instances(self, organization_id: int, commitment_id: int) -> list[Judged]:
        return await self._database.read(_instances, organization_id, commitment_id)

    async def find(
        self,
        organization_id: int,
        *,
        role: Role | None = None,
        state: State | None = None,
        before: int = 0,
        limit: int = 100,
    ) -> list[Commitment]:
        """The latest first; ``before``: the id after which to go on."""
        return await self._database.read(
            _list, organization_id, role or "", state or "", before or 2**63 - 1, limit
        )

    async def due(self, limit: int = 100) -> list[Due]:
        """Of all organisations, those that somebody has to work on now, the longest due first."""
        return await self._database.read_across(_due, self._now_us(), limit)

    async def claim(self, due: Due) -> bool:
        """Whether it is ours to work on now, for ``LEASE_S``."""
        until_us = self._now_us() + LEASE_S * 1_000_000
        return await self._database.write(
            _claim, due.organization_id, due.id, due.next_attempt_at_us, until_us
        )

    async def keep(self, organization_id: int, commitment_id: int) -> None:
        """It is still being worked on."""
        until_us = self._now_us() + LEASE_S * 1_000_000
        await self._database.write(_keep, organization_id, commitment_id, until_us)

    async def settle(self, organization_id: int, commitment_id: int, judged: Sequence[Judged]) -> None:
        """The other has taken our report, or we have its."""
        await self._database.write(_settle, organization_id, commitment_id, tuple(judged), self._now_us())

    async def asked(self, organization_id: int, commitment_id: int) -> None:
        """The other has taken it on; its report is awaited, unless it has come already."""
        await self._database.write(_asked, organization_id, commitment_id)

    async def refused(self, organization_id: int, commitment_id: int, error: str) -> None:
        await self._database.write(_refused, organization_id, commitment_id, error[:500], self._now_us())

    async def failed(self, commitment: Commitment, organization_id: int, error: str) -> State:
        """An attempt came to nothing: the next one is due in 2^n seconds, up to an hour, until enough is
        enough. Its state then."""
        attempts = commitment.attempts + 1
        given_up = attempts >= ATTEMPTS_MAX
        pause_s = min(2 ** min(attempts, 20), _PAUSE_S_MAX)
        next_us = None if given_up else self._now_us() + pause_s * 1_000_000
        await self._database.write(
            _failed, organization_id, commitment.id, error[:500], next_us, int(given_up)
        )
        return State.GIVEN_UP if given_up else commitment.state

    async def answered(self, organization_id: int, report: Report) -> Commitment:
        """A report has come. Raises NotFound where nothing was asked under its Transaction UID."""
        found = await self._database.write(_answered, organization_id, report, self._now_us())
        if found is None:
            raise NotFound("Nothing was asked under this Transaction UID", code="no-such-commitment")
        return found

    async def try_again(self, organization_id: int, commitment_id: int) -> None:
        """Now, whatever became of it before. Raises NotFound."""
        if not await self._database.write(_try_again, organization_id, commitment_id, self._now_us()):
            raise NotFound("There is no such commitment.", code="no-such-commitment")

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


class _New(NamedTuple):
    role: Role
    ae_title: str
    own_ae_title: str
    transaction_uid: str
    references: tuple[Reference, ...]


def _take_on(organization_id: int, new: _New, now_us: int, next_attempt_at_us: int) -> Work[Commitment]:
    added = yield queries.ADD(
        organization_id=organization_id,
        role=new.role,
        ae_title=new.ae_title,
        own_ae_title=new.own_ae_title,
        transaction_uid=new.transaction_uid,
        instance_count=len(new.references),
        next_attempt_at_us=next_attempt_at_us,
        now_us=now_us,
    )
    if added:
        commitment_pk = added[0]["id"]
        yield queries.ADD_INSTANCE.many(
            [
                {"organization_id": organization_id, "commitment_pk": commitment_pk, **one._asdict()}
                for one in new.references
            ]
        )
    else:
        known = yield queries.FIND_TRANSACTION(
            organization_id=organization_id,
            role=new.role,
            ae_title=new.ae_title,
            transaction_uid=new.transaction_uid,
        )
        commitment_pk = known[0]["id"]
        rows = yield queries.INSTANCES(organization_id=organization_id, commitment_pk=commitment_pk)
        if {Reference(row[0], row[1]) for row in rows} != set(new.references):
            raise Conflict(
                "The Transaction UID was used for other objects before", code="transaction-uid-used"
            )
        yield queries.TRY_AGAIN(organization_id=organization_id, id=commitment_pk, now_us=next_attempt_at_us)
    rows = yield queries.FIND(organization_id=organization_id, id=commitment_pk)
    return _commitment(rows[0])


def _find(organization_id: int, commitment_id: int) -> Work[Commitment | None]:
    rows = yield queries.FIND(organization_id=organization_id, id=commitment_id)
    return _commitment(rows[0]) if rows else None


def _instances(organization_id: int, commitment_id: int) -> Work[list[Judged]]:
    rows = yield queries.INSTANCES(organization_id=organization_id, commitment_pk=commitment_id)
    return [Judged(Reference(row[0], row[1]), row[2]) for row in rows]


def _list(organization_id: int, role: str, state: str, before: int, limit: int) -> Work[list[Commitment]]:
    rows = yield queries.LIST(
        organization_id=organization_id, role=role, state=state, before=before, limit=limit
    )
    return [_commitment(row) for row in rows]


def _due(now_us: int, limit: int) -> Work[list[Due]]:
    rows = yield queries.DUE(now_us=now_us, limit=limit)
    return [Due(row["organization_id"], row["id"], row["next_attempt_at_us"]) for row in rows]


def _claim(organization_id: int, commitment_id: int, seen_us: int, until_us: int) -> Work[bool]:
    rows = yield queries.CLAIM(
        organization_id=organization_id, id=commitment_id, seen_us=seen_us, until_us=until_us
    )
    return bool(rows)


def _keep(organization_id: int, commitment_id: int, until_us: int) -> Work[None]:
    yield queries.KEEP(organization_id=organization_id, id=commitment_id, until_us=until_us)


def _settle(organization_id: int, commitment_id: int, judged: tuple[Judged, ...], now_us: int) -> Work[None]:
    if judged:
        yield queries.SET_REASON.many(
            [
                {
                    "organization_id": organization_id,
                    "commitment_pk": commitment_id,
                    "sop_instance_uid": one.reference.sop_instance_uid,
                    "reason": one.reason,
                }
                for one in judged
            ]
        )
    rows = yield queries.INSTANCES(organization_id=organization_id, commitment_pk=commitment_id)
    failed = sum(row["failure_reason"] != FailureReason.COMMITTED for row in rows)
    yield queries.SETTLE(
        organization_id=organization_id, id=commitment_id, failed_count=failed, now_us=now_us
    )


def _asked(organization_id: int, commitment_id: int) -> Work[None]:
    yield queries.ASKED(organization_id=organization_id, id=commitment_id)


def _refused(organization_id: int, commitment_id: int, error: str, now_us: int) -> Work[None]:
    yield queries.REFUSED(organization_id=organization_id, id=commitment_id, error=error, now_us=now_us)


def _failed(
    organization_id: int, commitment_id: int, error: str, next_us: int | None, given_up: int
) -> Work[None]:
    yield queries.FAILED_ATTEMPT(
        organization_id=organization_id,
        id=commitment_id,
        error=error,
        next_attempt_at_us=next_us,
        given_up=given_up,
    )


def _answered(organization_id: int, report: Report, now_us: int) -> Work[Commitment | None]:
    rows = yield queries.FIND_ASKED_BY_US(
        organization_id=organization_id, transaction_uid=report.transaction_uid
    )
    if not rows:
        return None
    committed = tuple(Judged(one, FailureReason.COMMITTED) for one in report.committed)
    yield from _settle(organization_id, rows[0]["id"], committed + report.failed, now_us)
    rows = yield queries.FIND(organization_id=organization_id, id=rows[0]["id"])
    return _commitment(rows[0])


def _try_again(organization_id: int, commitment_id: int, now_us: int) -> Work[bool]:
    rows = yield queries.TRY_AGAIN(organization_id=organization_id, id=commitment_id, now_us=now_us)
    return bool(rows)


def _commitment(row: Row) -> Commitment:
    return Commitment(
        row["id"],
        Role(row["role"]),
        row["ae_title"],
        row["own_ae_title"],
        row["transaction_uid"],
        State(row["state"]),
        row["instance_count"],
        row["failed_count"],
        row["attempts"],
        row["next_attempt_at_us"],
        row["last_error"],
        row["created_at_us"],
        row["settled_at_us"],
    )
