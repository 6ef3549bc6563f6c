"""Taking turns with whoever files objects: nothing that a transaction is about comes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from isocenter.features.archive import queries
from isocenter.features.archive.filing import stripes
from isocenter.kit.errors import Busy
from isocenter.platform.db import Database, Work

T = TypeVar("T")

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Concerned:
    patient_ids: frozenset[str]
    studies: frozenset[str]

    def __le__(self, other: Concerned) -> bool:
        return self.patient_ids <= other.patient_ids and self.studies <= other.studies


class _Outrun(Exception):
    """Something came that was not locked: look again."""


async def in_turn(
    database: Database,
    organization_id: int,
    concerned: Callable[[int], Work[Concerned]],
    work: Callable[[int], Work[T]],
) -> T:
    """``work`` as one transaction, with everybody locked out who files objects of what is ``concerned``.

    That is read before, and once more behind the locks: PostgreSQL's are taken in one order by everybody, so
    none can be added later. Raises Busy where more keeps coming in, and what the two raise.
    """
    for _ in range(_ATTEMPTS):
        known = await database.read(concerned, organization_id)
        try:
            return await database.write(_locked, organization_id, concerned, known, work)
        except _Outrun:
            continue
    raise Busy("Objects of this patient keep coming in; try again.", retry_after_s=2)


def lock_studies(organization_id: int, studies: Sequence[str]) -> Work[None]:
    """The same within a transaction that knows its studies: what is deleted is what was there."""
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, set(studies), frozenset()))


def _locked(
    organization_id: int,
    concerned: Callable[[int], Work[Concerned]],
    known: Concerned,
    work: Callable[[int], Work[T]],
) -> Work[T]:
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, known.studies, known.patient_ids))
    if not (yield from concerned(organization_id)) <= known:
        raise _Outrun
    return (yield from work(organization_id))
