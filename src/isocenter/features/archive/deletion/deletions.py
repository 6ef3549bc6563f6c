"""What was deleted waits outside the index until its grace is over (ADR 0022): look at it, purge it before
its time, or restore it (``restoring.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import orjson

from isocenter.features.archive.deletion import queries as statements
from isocenter.features.archive.deletion.deleting import Deleted, Scope, delete_rows
from isocenter.features.archive.patients import queries as queries_patients
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import behind, living
from isocenter.features.archive.said import Said, check_reason
from isocenter.features.archive.turns import Concerned, in_turn, lock_studies
from isocenter.features.archive.usage import Growth, advance
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, NotFound
from isocenter.platform.db import Database, Row, Work

State = Literal["waiting", "restored", "purged"]
STATES: tuple[State, ...] = ("waiting", "restored", "purged")

_DUE_AT_ONCE = 100
_ID_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Deletion:
    """What somebody deleted at once. ``id`` is random. UIDs are empty where it was a whole patient, or more
    than that level; ``known`` is DICOM JSON of whose it was, until it is settled: patient data. ``objects``
    and ``bytes`` wait still."""

    id: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    reason: str
    deleted_by: str
    known: dict[str, Any]
    objects: int
    bytes: int
    deleted_at_us: int
    purge_at_us: int
    state: State
    settled_at_us: int | None
    settled_by: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """All that can still be restored."""

    deletions: int
    objects: int
    bytes: int


class Deletions:
    """Of all organisations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def delete(self, organization_id: int, scope: Scope, *, by: str = "", reason: str = "") -> Deleted:
        """A study, one of its series or one instance. Raises NotFound, InvalidInput for the reason."""
        check_reason(reason)
        said = Said(by, reason, self._now_us())
        return await self._database.write(_delete, organization_id, scope, said)

    async def delete_patient(
        self, organization_id: int, patient: PatientIdentity, *, by: str = "", reason: str = ""
    ) -> Deleted:
        """All studies of the patient, those of whom were merged into it too, as one deletion.

        Raises NotFound where there is no such patient or no study of it, Conflict where it was merged into
        another one, InvalidInput for the reason.
        """
        check_reason(reason)
        concerned = partial(_concerned, patient=patient)
        work = partial(_delete_patient, patient=patient, said=Said(by, reason, self._now_us()))
        return await in_turn(self._database, organization_id, concerned, work)

    async def purge_due(self, organization_id: int, *, by: str = "") -> list[Deletion]:
        """All whose grace is over."""
        purged = []
        while due := await self._database.read(_due, organization_id, self._now_us(), _DUE_AT_ONCE):
            for deletion_id in due:
                try:
                    purged.append(await self.purge(organization_id, deletion_id, by=by))
                except Conflict:
                    continue  # somebody was faster
        return purged

    async def list(
        self, organization_id: int, *, state: State = "waiting", after: str = "", limit: int = 100
    ) -> list[Deletion]:
        """In the order they were made, after the one with id ``after``. Raises NotFound for another id."""
        return await self._database.read(_list, organization_id, state, after, limit)

    async def get(self, organization_id: int, deletion_id: str) -> Deletion:
        """Raises NotFound."""
        return await self._database.read(_get, organization_id, deletion_id)

    async def waiting(self, organization_id: int) -> Waiting:
        return await self._database.read(_waiting, organization_id)

    async def purge(self, organization_id: int, deletion_id: str, *, by: str = "") -> Deletion:
        """For good: nothing of it can be restored, the sweep takes the bytes. Raises NotFound, Conflict where
        it was settled before."""
        await self._database.write(_purge, organization_id, deletion_id, by, self._now_us())
        return await self.get(organization_id, deletion_id)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def find_deletion(organization_id: int, deletion_id: str) -> Work[Row]:
    rows = yield statements.FIND_DELETION(organization_id=organization_id, public_id=deletion_id)
    if not rows:
        raise NotFound(f"There is no deletion {deletion_id[:_ID_SHOWN]} here.", code="no-such-deletion")
    return rows[0]


def lock_waiting(organization_id: int, deletion_id: str) -> Work[int]:
    """The key of a deletion that nobody else settles meanwhile. Raises NotFound, Conflict."""
    row = yield from find_deletion(organization_id, deletion_id)
    [locked] = yield statements.LOCK_DELETION(organization_id=organization_id, id=row["id"])
    if locked["state"] != "waiting":
        raise Conflict(
            f"Deletion {deletion_id} was {locked['state']} before.",
            code="already-settled",
            remedy="What was purged cannot come back; what was restored can be deleted again.",
        )
    pk: int = row["id"]
    return pk


def _delete(organization_id: int, scope: Scope, said: Said) -> Work[Deleted]:
    yield from lock_studies(organization_id, [scope.study])
    return (yield from delete_rows(organization_id, [scope], said))


def _concerned(organization_id: int, patient: PatientIdentity) -> Work[Concerned]:
    row = yield from living(organization_id, patient)
    ids = {one["patient_id"] for one in (yield from behind(organization_id, row["id"]))}
    studies = yield from _studies_of(organization_id, row["id"])
    return Concerned(frozenset(ids | {row["patient_id"]}), frozenset(studies))


def _delete_patient(organization_id: int, patient: PatientIdentity, said: Said) -> Work[Deleted]:
    row = yield from living(organization_id, patient)
    studies = yield from _studies_of(organization_id, row["id"])
    if not studies:
        raise NotFound("There is no study of this patient here.", code="no-such-study")
    return (yield from delete_rows(organization_id, [Scope(study) for study in studies], said))


def _studies_of(organization_id: int, patient_pk: int) -> Work[list[str]]:
    rows = yield queries_patients.FIND_STUDIES_OF_PATIENT(
        organization_id=organization_id, patient_pk=patient_pk
    )
    return [one["study_instance_uid"] for one in rows]


def _purge(organization_id: int, deletion_id: str, by: str, now_us: int) -> Work[None]:
    pk = yield from lock_waiting(organization_id, deletion_id)
    growth = Growth()
    for row in (yield statements.REMOVE_OBJECTS(organization_id=organization_id, deletion_pk=pk)):
        growth.take(row["size"])
    yield from settle(organization_id, pk, "purged", by, now_us)
    yield from advance(organization_id, 0, growth)


def settle(organization_id: int, deletion_pk: int, state: State, by: str, now_us: int) -> Work[None]:
    """Nothing of whose it was is kept any longer."""
    yield statements.SETTLE_DELETION(
        organization_id=organization_id, id=deletion_pk, state=state, settled_by=by, now_us=now_us
    )


def _list(organization_id: int, state: str, after: str, limit: int) -> Work[list[Deletion]]:
    place = 0
    if after:
        place = (yield from find_deletion(organization_id, after))["id"]
    rows = yield statements.LIST_DELETIONS(
        organization_id=organization_id, state=state, after=place, limit=limit
    )
    return [_deletion(row) for row in rows]


def _get(organization_id: int, deletion_id: str) -> Work[Deletion]:
    return _deletion((yield from find_deletion(organization_id, deletion_id)))


def _waiting(organization_id: int) -> Work[Waiting]:
    [row] = yield statements.COUNT_WAITING(organization_id=organization_id)
    return Waiting(row["deletions"], int(row["objects"]), int(row["bytes"]))


def _due(organization_id: int, now_us: int, limit: int) -> Work[list[str]]:
    rows = yield statements.FIND_DUE(organization_id=organization_id, now_us=now_us, limit=limit)
    return [row["public_id"] for row in rows]


def _deletion(row: Row) -> Deletion:
    return Deletion(
        id=row["public_id"],
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        reason=row["reason"],
        deleted_by=row["deleted_by"],
        known=orjson.loads(row["known"]),
        objects=row["objects"],
        bytes=row["bytes"],
        deleted_at_us=row["deleted_at_us"],
        purge_at_us=row["purge_at_us"],
        state=row["state"],
        settled_at_us=row["settled_at_us"],
        settled_by=row["settled_by"],
    )
