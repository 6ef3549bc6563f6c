"""Filing objects in the index: one unit of database work for any number of them.

Everything that one transaction decides about an object is decided here: duplicate or conflict (A2), whose
patient it is (A1, ``patients/finding.py``), where it goes (``placing.py``), what the change feed says of it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass

from isocenter.dicom.validation import Problem
from isocenter.features.archive import changes, queries
from isocenter.features.archive.desk import Desk
from isocenter.features.archive.entry import (
    Entry,
    Outcome,
    OutcomeKind,
    Received,
    StoredObject,
    Suspect,
    outcome_of,
    suspect_of,
)
from isocenter.features.archive.judging import NOT_ANNOUNCED
from isocenter.features.archive.placing import Places
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.features.archive.recount import recount_series
from isocenter.features.archive.usage import Growth, Usage
from isocenter.kit.errors import Busy
from isocenter.platform.db import Work

_STRIPES = 256
MARKS_KEPT_US = 30 * 60 * 1_000_000
"""How long the orphan sweep's marks count; whatever lies between a put and its commit takes less."""


@dataclass(slots=True)
class _Earlier:
    """The object that is current under a SOP Instance UID. ``pk`` is None for one of this transaction."""

    pk: int | None
    sha256: str
    transfer_syntax_uid: str
    version: int
    series_pk: int
    received_sha256: str = ""
    received_transfer_syntax_uid: str = ""

    def is_of(self, stored: StoredObject) -> bool:
        """Whether it is these bytes, or was when it was received."""
        return (stored.sha256, stored.transfer_syntax_uid) in {
            (self.sha256, self.transfer_syntax_uid),
            (self.received_sha256, self.received_transfer_syntax_uid),
        }


@dataclass(frozen=True, slots=True)
class Filed:
    """``usage`` is what the organisation keeps with ``growth``; None where nothing changed."""

    outcomes: list[Outcome]
    growth: Growth
    usage: Usage | None


def file_objects(
    organization_id: int, received: Sequence[Received], policy: ConflictPolicy, now_us: int
) -> Work[Filed]:
    """File them all, in order; one outcome each. The transaction around it makes the whole appear at once."""
    yield from refuse_swept(organization_id, received, now_us)
    desk = Desk(organization_id, now_us)
    entries = [one for one in received if isinstance(one, Entry)]
    if entries:
        yield queries.LOCK_ENTITIES(
            stripes=stripes(
                organization_id,
                {entry.study_instance_uid for entry in entries},
                {entry.patient_id for entry in entries if entry.patient_id},
            )
        )
    earlier = yield from _find_earlier(organization_id, received)
    places = Places(organization_id, now_us)
    if entries:
        yield from places.look_up(entries)
    outcomes: list[Outcome] = []
    for one in received:
        if isinstance(one, Suspect):
            outcomes.append((yield from _set_aside(desk, one, earlier.get(one.sop_instance_uid))))
        else:
            outcomes.append((yield from _file(desk, one, earlier, places, policy)))
    yield from desk.flush_instances()
    yield from places.flush()
    yield from _count(desk)
    usage = None
    if desk.feed:
        usage = yield from changes.append(organization_id, desk.feed, desk.growth, now_us)
    return Filed(outcomes, desk.growth, usage)


def stripes(organization_id: int, study_instance_uids: Set[str], patient_ids: Set[str]) -> list[int]:
    """What to lock, in the order that everybody keeps to.

    Without it two processes that file objects of the same patients in different orders wait for each
    other's rows until PostgreSQL ends one of them; and one could settle whose study it is by what it read
    before the other's commit (MISSION A1). Stripes rather than a lock each: PostgreSQL's table of locks
    is small, and two that share one only wait. The organisation is in the name: else one could hold up
    another by sending objects with its UIDs.
    """
    names = {f"{organization_id} study {uid}" for uid in study_instance_uids}
    names |= {f"{organization_id} patient {patient_id}" for patient_id in patient_ids}
    return sorted({zlib.crc32(name.encode()) % _STRIPES for name in names})


def refuse_swept(organization_id: int, received: Sequence[Received], now_us: int) -> Work[None]:
    """An object may have come into the hands of the orphan sweep before it was filed: see ``sweep.py``."""
    yield queries.LOCK_OUT_SWEEP(organization_id=organization_id)
    marks = yield queries.FIND_MARKED(
        organization_id=organization_id,
        keys=[one.stored.key for one in received],
        after_us=now_us - MARKS_KEPT_US,
    )
    if not marks:
        return
    marked_at_us = {row["object_key"]: row["marked_at_us"] for row in marks}
    rows = yield queries.FIND_REFERENCED(organization_id=organization_id, keys=list(marked_at_us))
    for row in rows:
        del marked_at_us[row[0]]
    for one in received:
        marked = marked_at_us.get(one.stored.key)
        # What was created after the mark is not what the sweep had found; what existed may be.
        if marked is not None and (one.put_existed or marked > one.put_at_us):
            raise Busy("The object's old copy is just being swept away; send it again.", retry_after_s=1)
    if marked_at_us:  # of old copies that are gone: whoever sends these bytes again has nothing to wait for
        yield queries.UNMARK_FOR_SWEEP(organization_id=organization_id, keys=list(marked_at_us))


def _find_earlier(organization_id: int, received: Sequence[Received]) -> Work[dict[str, _Earlier]]:
    rows = yield queries.FIND_CURRENT_INSTANCES(
        organization_id=organization_id, uids=[one.sop_instance_uid for one in received]
    )
    return {
        row["sop_instance_uid"]: _Earlier(
            row["id"],
            row["sha256"],
            row["transfer_syntax_uid"],
            row["version"],
            row["series_pk"],
            row["received_sha256"],
            row["received_transfer_syntax_uid"],
        )
        for row in rows
    }


def _file(
    desk: Desk, entry: Entry, earlier: dict[str, _Earlier], places: Places, policy: ConflictPolicy
) -> Work[Outcome]:
    found = earlier.get(entry.sop_instance_uid)
    if found is not None:
        if found.is_of(entry.stored):
            return (yield from _count_duplicate(desk, entry, found.pk))
        retired = yield queries.FIND_RETIRED_INSTANCE(
            organization_id=desk.organization_id,
            sop_instance_uid=entry.sop_instance_uid,
            sha256=entry.stored.sha256,
            transfer_syntax_uid=entry.stored.transfer_syntax_uid,
        )
        if retired:
            # Else two senders that repeat themselves would push each other's version aside for ever.
            return (yield from _count_duplicate(desk, entry, retired[0]["id"]))
        if policy is ConflictPolicy.REJECT:
            return _refuse(desk, entry)
        if policy is ConflictPolicy.KEEP_FIRST:
            desk.note(entry, OutcomeKind.KEPT_FIRST, other_sha256=entry.stored.sha256)
            return outcome_of(entry, OutcomeKind.KEPT_FIRST)
    place = yield from places.settle(entry)
    if isinstance(place, Problem):
        return (yield from _quarantine(desk, suspect_of(entry, place)))
    kind, version = OutcomeKind.STORED, 1
    if found is not None:
        kind = yield from _supersede(desk, entry, found, policy)
        version = found.version + 1
        desk.disturbed_series |= {found.series_pk, place.series_pk}
    else:
        desk.added[place.series_pk] += 1
        desk.note(entry, kind)
    desk.insert(entry, place, version)
    places.note(entry, place)
    earlier[entry.sop_instance_uid] = _Earlier(
        None, entry.stored.sha256, entry.stored.transfer_syntax_uid, version, place.series_pk
    )
    return outcome_of(entry, kind)


def _set_aside(desk: Desk, suspect: Suspect, found: _Earlier | None) -> Work[Outcome]:
    """Into quarantine, unless a person has accepted this very object before."""
    if (
        found is not None
        and found.is_of(suspect.stored)
        and all(problem.code != NOT_ANNOUNCED for problem in suspect.problems)
    ):
        return (yield from _count_duplicate(desk, suspect, found.pk))
    return (yield from _quarantine(desk, suspect))


def _count_duplicate(desk: Desk, entry: Received, pk: int | None) -> Work[Outcome]:
    if pk is not None:
        yield queries.COUNT_DUPLICATE(organization_id=desk.organization_id, id=pk)
    else:
        yield from desk.flush_instances()
        yield queries.COUNT_DUPLICATE_OF_CURRENT(
            organization_id=desk.organization_id, sop_instance_uid=entry.sop_instance_uid
        )
    return outcome_of(entry, OutcomeKind.DUPLICATE)


def _refuse(desk: Desk, entry: Entry) -> Outcome:
    desk.note(entry, OutcomeKind.REJECTED, other_sha256=entry.stored.sha256)
    problem = Problem(
        code="different-object-same-uid",
        tag=0x00080018,
        detail="Another object with this SOP Instance UID is already kept, and its bytes differ.",
        remedy="Give the changed object a new SOP Instance UID, or choose another conflict policy.",
    )
    return outcome_of(entry, OutcomeKind.REJECTED, (problem,))


def _supersede(desk: Desk, entry: Entry, found: _Earlier, policy: ConflictPolicy) -> Work[OutcomeKind]:
    """Make room for the newer object under the same UID."""
    yield from desk.flush_instances()
    if found.pk is None:
        rows = yield queries.FIND_CURRENT_INSTANCES(
            organization_id=desk.organization_id, uids=[entry.sop_instance_uid]
        )
        found.pk = rows[0]["id"]
    kind = OutcomeKind.REPLACED if policy is ConflictPolicy.REPLACE else OutcomeKind.KEPT_BOTH
    if kind is OutcomeKind.REPLACED:
        for removed in (yield queries.REMOVE_INSTANCES(organization_id=desk.organization_id, ids=[found.pk])):
            desk.growth.take(removed["size"])
    else:
        yield queries.RETIRE_INSTANCES(organization_id=desk.organization_id, ids=[found.pk])
    desk.note(entry, kind, earlier_sha256=found.sha256, earlier_version=found.version)
    return kind


def _quarantine(desk: Desk, suspect: Suspect) -> Work[Outcome]:
    yield from desk.set_aside(suspect)
    return outcome_of(suspect, OutcomeKind.QUARANTINED, suspect.problems)


def _count(desk: Desk) -> Work[None]:
    """Bring the counters of series and studies up to date with what was inserted."""
    touched = {
        series_pk: place
        for series_pk, place in desk.places.items()
        if desk.added.get(series_pk) or place.is_new_series
    }
    by_study: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for series_pk, place in sorted(touched.items()):
        added, is_new = desk.added.get(series_pk, 0), int(place.is_new_series)
        instances, new_series = by_study[place.study_pk]
        by_study[place.study_pk] = (instances + added, new_series + is_new)
        yield queries.COUNT_INTO_SERIES(
            organization_id=desk.organization_id, id=series_pk, added=added, now_us=desk.now_us
        )
        place.is_new_series = False
    for study_pk, (added, new_series) in sorted(by_study.items()):
        yield queries.COUNT_INTO_STUDY(
            organization_id=desk.organization_id,
            id=study_pk,
            added=added,
            series_added=new_series,
            now_us=desk.now_us,
        )
        if new_series:
            yield from _gather_modalities(desk.organization_id, study_pk)
    if desk.disturbed_series:
        yield from recount_series(desk.organization_id, sorted(desk.disturbed_series), desk.now_us)


def _gather_modalities(organization_id: int, study_pk: int) -> Work[None]:
    rows = yield queries.FIND_STUDY_MODALITIES(organization_id=organization_id, study_pk=study_pk)
    yield queries.SET_STUDY_MODALITIES(
        organization_id=organization_id, id=study_pk, modalities="\\".join(row[0] for row in rows)
    )
