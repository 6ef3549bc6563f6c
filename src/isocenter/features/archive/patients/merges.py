"""Merging patients, and its undo; another Patient ID for a patient (MISSION A1, ADR 0021).

A merge says of one patient's row into whom it went. Whom a study's objects name never changes, and
``study.patient_pk`` is always the survivor of that, so that an undo has nothing to remember: it is computed
from what is there, with whatever came in since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from isocenter.dicom.json_model import text_fragment
from isocenter.features.archive import changes, queries
from isocenter.features.archive.merge import fragments_by_tag
from isocenter.features.archive.patients import queries as statements
from isocenter.features.archive.patients.finding import PATIENT_ID
from isocenter.features.archive.patients.identity import PatientIdentity, check_new
from isocenter.features.archive.said import Said, check_reason
from isocenter.features.archive.turns import Concerned, in_turn
from isocenter.features.archive.usage import Growth
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Conflict, InvalidInput, NotFound
from isocenter.platform.db import Database, Row, Work

CHANGED = "patient-changed"
"""What the change feed says of a study that has another patient now."""

_ISSUER = 0x00100021


@dataclass(frozen=True, slots=True)
class Moved:
    """The studies that have another patient now."""

    studies: tuple[str, ...]


class PatientMerges:
    """Of all organisations; each call is one transaction, and takes turns with whoever files objects."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def merge(
        self,
        organization_id: int,
        source: PatientIdentity,
        target: PatientIdentity,
        *,
        by: str = "",
        reason: str = "",
    ) -> Moved:
        """From now on ``source`` is ``target``: its studies, and whatever will be sent of it.

        Raises NotFound where one of them does not exist, InvalidInput where they are the same, Conflict where
        one was merged already or the target's ID was made up here.
        """
        if source == target:
            raise InvalidInput("A patient cannot be merged into itself.", code="same-patient")
        check_reason(reason)
        said = Said(by, reason, self._now_us())
        work = partial(_merge, source=source, target=target, said=said)
        return await self._in_turn(organization_id, (source, target), work)

    async def unmerge(self, organization_id: int, source: PatientIdentity) -> Moved:
        """Undo the merge of ``source``: its studies, those that came since and those of whom had been merged
        into it before are its own again. Raises NotFound, Conflict where it is not merged."""
        work = partial(_unmerge, source=source, now_us=self._now_us())
        return await self._in_turn(organization_id, (source,), work)

    async def change_id(
        self,
        organization_id: int,
        patient: PatientIdentity,
        to: PatientIdentity,
        *,
        by: str = "",
        reason: str = "",
    ) -> Moved:
        """Give the patient another ID; the old one goes on resolving. `unmerge` of the old one undoes it.

        Raises NotFound, InvalidInput for an ID that cannot be one, Conflict where it is somebody's.
        """
        check_new(to)
        check_reason(reason)
        said = Said(by, reason, self._now_us())
        work = partial(_change_id, patient=patient, to=to, said=said)
        return await self._in_turn(organization_id, (patient, to), work)

    async def _in_turn(
        self,
        organization_id: int,
        about: Sequence[PatientIdentity],
        work: Callable[[int], Work[Moved]],
    ) -> Moved:
        concerned = partial(_concerned, about=about)
        telling = partial(_telling, work=work, now_us=self._now_us())
        return await in_turn(self._database, organization_id, concerned, telling)

    def _now_us(self) -> int:
        return microseconds(self._clock.now())


def _telling(organization_id: int, work: Callable[[int], Work[Moved]], now_us: int) -> Work[Moved]:
    """With an entry of the change feed for each study that moves."""
    moved = yield from work(organization_id)
    if moved.studies:
        told = [changes.Told(CHANGED, study, "", "", {}) for study in moved.studies]
        yield from changes.append(organization_id, told, Growth(), now_us)
    return moved


def _concerned(organization_id: int, about: Iterable[PatientIdentity]) -> Work[Concerned]:
    """The IDs of everybody who stands behind these patients, and the studies that may move."""
    patient_ids = {one.patient_id for one in about}
    studies: set[str] = set()
    for one in about:
        row = yield from find(organization_id, one)
        if row is None:
            continue
        survivor_pk = row["survivor_pk"] or row["id"]
        for merged in (yield from behind(organization_id, survivor_pk)):
            patient_ids.add(merged["patient_id"])
        for study in (
            yield statements.FIND_STUDIES_OF_PATIENT(organization_id=organization_id, patient_pk=survivor_pk)
        ):
            studies.add(study["study_instance_uid"])
        survivors = yield statements.FIND_PATIENT_BY_PK(organization_id=organization_id, id=survivor_pk)
        patient_ids.update(survivor["patient_id"] for survivor in survivors)
    return Concerned(frozenset(patient_ids), frozenset(studies))


def _merge(
    organization_id: int,
    source: PatientIdentity,
    target: PatientIdentity,
    said: Said,
) -> Work[Moved]:
    gone = yield from living(organization_id, source, "source patient")
    left = yield from living(organization_id, target, "target patient")
    if left["generated"]:
        raise Conflict(
            "The target's Patient ID was made up here, since its objects tell none.",
            code="patient-id-made-up",
            remedy="Merge the other way round, or change its ID first.",
        )
    return (yield from _pass_over(organization_id, gone["id"], left["id"], said))


def _pass_over(organization_id: int, gone: int, left: int, said: Said) -> Work[Moved]:
    yield statements.FOLLOW_SURVIVOR(organization_id=organization_id, survivor_pk=gone, into_pk=left)
    yield statements.MERGE_PATIENT(
        organization_id=organization_id,
        id=gone,
        into_pk=left,
        merged_by=said.by,
        reason=said.reason,
        now_us=said.now_us,
    )
    rows = yield statements.MOVE_STUDIES(
        organization_id=organization_id, patient_pk=gone, into_pk=left, now_us=said.now_us
    )
    return _moved(rows)


def _unmerge(organization_id: int, source: PatientIdentity, now_us: int) -> Work[Moved]:
    row = yield from known(organization_id, source, "source patient")
    if row["merged_into_pk"] is None:
        raise Conflict("This patient is not merged into another one.", code="patient-not-merged")
    pk, survivor_pk = row["id"], row["survivor_pk"]
    own = [pk]  # and everybody who was merged into it
    own += [one["id"] for one in below(pk, (yield from behind(organization_id, survivor_pk)))]
    yield statements.SET_SURVIVOR(organization_id=organization_id, ids=own, survivor_pk=pk)
    yield statements.UNMERGE_PATIENT(organization_id=organization_id, id=pk, now_us=now_us)
    rows = yield statements.GIVE_STUDIES_BACK(
        organization_id=organization_id,
        patient_pk=pk,
        survivor_pk=survivor_pk,
        told_pks=own,
        now_us=now_us,
    )
    for left in (survivor_pk, pk):  # who was only made by a change of IDs, or has lost all studies since
        yield queries.REMOVE_PATIENT_WITHOUT_STUDY(organization_id=organization_id, id=left)
    return _moved(rows)


def _change_id(
    organization_id: int,
    patient: PatientIdentity,
    to: PatientIdentity,
    said: Said,
) -> Work[Moved]:
    row = yield from living(organization_id, patient)
    [kept] = yield statements.FIND_FRAGMENTS(organization_id=organization_id, id=row["id"])
    copies = yield statements.COPY_PATIENT(
        organization_id=organization_id,
        id=row["id"],
        patient_id=to.patient_id,
        issuer=to.issuer,
        fragments=_with_identity(kept["fragments"], to),
        now_us=said.now_us,
    )
    if not copies:
        raise (yield from _taken(organization_id, row, to))
    copy_pk = copies[0]["id"]
    yield statements.COPY_PATIENT_VALUES(organization_id=organization_id, id=row["id"], copy_pk=copy_pk)
    return (yield from _pass_over(organization_id, row["id"], copy_pk, said))


def _taken(organization_id: int, patient: Row, to: PatientIdentity) -> Work[Conflict]:
    """Whose that ID is: another patient's, or one that this one had before."""
    other = yield from known(organization_id, to, "other patient")
    remedy = "If both are one person, merge the two."
    if other["id"] == patient["id"]:
        remedy = "It is this patient's already."
    elif other["survivor_pk"] == patient["id"]:
        remedy = (
            "This patient had it before: undo the merge of that ID, then merge this one into it if need be."
        )
    elif other["survivor_pk"] is not None:
        remedy = "That patient was merged into another one: undo that merge, or choose another ID."
    return Conflict("A patient has that ID already.", code="patient-id-taken", remedy=remedy)


def _with_identity(fragments: str, identity: PatientIdentity) -> str:
    by_tag = fragments_by_tag(fragments)
    by_tag[PATIENT_ID] = text_fragment(PATIENT_ID, "LO", [identity.patient_id])
    by_tag.pop(_ISSUER, None)
    if identity.issuer:
        by_tag[_ISSUER] = text_fragment(_ISSUER, "LO", [identity.issuer])
    return "\n".join(line for _, line in sorted(by_tag.items()))


def below(pk: int, merged: Iterable[Row]) -> list[Row]:
    """Those of ``merged`` who were merged into the patient ``pk``, one after the other."""
    found: list[Row] = []
    reached, left = {pk}, list(merged)
    while more := [one for one in left if one["merged_into_pk"] in reached]:
        found += more
        reached = {one["id"] for one in more}
        left = [one for one in left if one not in more]
    return found


def living(organization_id: int, identity: PatientIdentity, which: str = "patient") -> Work[Row]:
    """``which``: what a message calls it. Raises NotFound, Conflict where it was merged away."""
    row = yield from known(organization_id, identity, which)
    if row["merged_into_pk"] is not None:
        raise Conflict(
            f"The {which} was merged into another patient already.",
            code="patient-merged",
            remedy="Name the patient that is left, or undo that merge first.",
        )
    return row


def known(organization_id: int, identity: PatientIdentity, which: str = "patient") -> Work[Row]:
    row = yield from find(organization_id, identity)
    if row is None:
        raise NotFound(f"There is no such {which} here.", code="no-such-patient")
    return row


def find(organization_id: int, identity: PatientIdentity) -> Work[Row | None]:
    rows = yield statements.FIND_PATIENT(
        organization_id=organization_id, issuer=identity.issuer, patient_id=identity.patient_id
    )
    return rows[0] if rows else None


def behind(organization_id: int, survivor_pk: int) -> Work[list[Row]]:
    return (yield statements.FIND_MERGED_INTO(organization_id=organization_id, survivor_pk=survivor_pk))


def _moved(rows: Iterable[Row]) -> Moved:
    return Moved(tuple(sorted(row["study_instance_uid"] for row in rows)))
