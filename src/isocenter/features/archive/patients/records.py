"""One patient as a person sees it: who it is, whom merges and links join it with, what is to be decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from isocenter.features.archive import queries
from isocenter.features.archive.filing import stripes
from isocenter.features.archive.patients import queries as statements
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import behind, below, known, living
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work


@dataclass(frozen=True, slots=True)
class Merged:
    """``patient`` went into ``into``; ``survivor`` is who is left when merges follow one another."""

    patient: PatientIdentity
    into: PatientIdentity
    survivor: PatientIdentity
    at_us: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Linked:
    other: PatientIdentity
    at_us: int
    by: str


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """``attributes`` are DICOM JSON. ``merged`` is None for a living patient, whose studies are also those of
    ``behind``: who was merged into it. Links and conflicts are those of all of them."""

    identity: PatientIdentity
    attributes: dict[str, Any]
    generated: bool
    corrected: bool
    merged: Merged | None
    behind: tuple[Merged, ...]
    links: tuple[Linked, ...]
    open_conflicts: int
    studies: int


class PatientRecords:
    """Of all organisations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, organization_id: int, identity: PatientIdentity) -> PatientRecord:
        """Raises NotFound."""
        return await self._database.read(_get, organization_id, identity)

    async def link(
        self, organization_id: int, one: PatientIdentity, other: PatientIdentity, *, by: str = ""
    ) -> None:
        """Say that both are one person, whose studies stay where they are. Saying it again changes nothing.

        Raises NotFound, InvalidInput where they are the same, Conflict where one was merged away.
        """
        if one == other:
            raise InvalidInput("A patient cannot be linked to itself.", code="same-patient")
        now_us = microseconds(self._clock.now())
        await self._database.write(_link, organization_id, one, other, by, now_us)

    async def unlink(self, organization_id: int, one: PatientIdentity, other: PatientIdentity) -> None:
        """Take the link back, by whichever of their IDs it was made. Raises NotFound where there is none."""
        await self._database.write(_unlink, organization_id, one, other)


def _get(organization_id: int, identity: PatientIdentity) -> Work[PatientRecord]:
    rows = yield statements.FIND_RECORD(
        organization_id=organization_id, issuer=identity.issuer, patient_id=identity.patient_id
    )
    if not rows:
        raise NotFound("There is no such patient here.", code="no-such-patient")
    row: Row = rows[0]
    survivor_pk = row["survivor_pk"] or row["id"]
    members = yield from behind(organization_id, survivor_pk)
    [survivor] = yield statements.FIND_PATIENT_BY_PK(organization_id=organization_id, id=survivor_pk)
    names = {one["id"]: _identity(one) for one in (*members, survivor)}
    merges = {
        one["id"]: Merged(
            names[one["id"]],
            names[one["merged_into_pk"]],
            names[survivor_pk],
            one["merged_at_us"],
            one["merged_by"],
            one["merge_reason"],
        )
        for one in members
    }
    followers = [one["id"] for one in below(row["id"], members)]
    ids = [row["id"], *followers]
    links = yield statements.FIND_LINKED(organization_id=organization_id, ids=ids)
    counted = yield statements.COUNT_OPEN_CONFLICTS(organization_id=organization_id, ids=ids)
    return PatientRecord(
        identity=identity,
        attributes=orjson.loads("{" + ",".join(row["fragments"].splitlines()) + "}"),
        generated=bool(row["generated"]),
        corrected=bool(row["corrected"]),
        merged=merges.get(row["id"]),
        behind=tuple(merges[one] for one in followers),
        links=tuple(Linked(_identity(one), one["linked_at_us"], one["linked_by"]) for one in links),
        open_conflicts=counted[0][0],
        studies=row["studies"],
    )


def _link(
    organization_id: int, one: PatientIdentity, other: PatientIdentity, by: str, now_us: int
) -> Work[None]:
    yield from _lock(organization_id, one, other)
    first = yield from living(organization_id, one, "first patient")
    second = yield from living(organization_id, other, "second patient")
    pks = sorted([first["id"], second["id"]])
    for pk in pks:  # neither goes with its last study before the link is made
        rows = yield queries.LOCK_PATIENT_BY_PK(organization_id=organization_id, id=pk)
        if not rows:
            raise NotFound("There is no such patient here any more.", code="no-such-patient")
    yield statements.LINK_PATIENTS(
        organization_id=organization_id,
        patient_pk=pks[0],
        other_pk=pks[1],
        now_us=now_us,
        linked_by=by,
    )


def _unlink(organization_id: int, one: PatientIdentity, other: PatientIdentity) -> Work[None]:
    yield from _lock(organization_id, one, other)
    first = yield from _everybody(organization_id, one, "first patient")
    second = yield from _everybody(organization_id, other, "second patient")
    rows = yield statements.UNLINK_PATIENTS(organization_id=organization_id, ids=first, others=second)
    if not rows:
        raise NotFound("These patients are not linked.", code="no-such-link")


def _everybody(organization_id: int, identity: PatientIdentity, which: str) -> Work[Sequence[int]]:
    """The row of who is left of that patient, and of all who stand behind."""
    row = yield from known(organization_id, identity, which)
    survivor_pk = row["survivor_pk"] or row["id"]
    return [survivor_pk, *(one["id"] for one in (yield from behind(organization_id, survivor_pk)))]


def _lock(organization_id: int, *identities: PatientIdentity) -> Work[None]:
    patient_ids = {identity.patient_id for identity in identities}
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, set(), patient_ids))


def _identity(row: Row) -> PatientIdentity:
    return PatientIdentity(row["patient_id"], row["issuer"])
