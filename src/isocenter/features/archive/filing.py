"""Filing objects in the index: one unit of database work for any number of them.

Everything that one transaction decides about an object is decided here: duplicate or conflict (A2), whose
patient it is (A1, ``patients.py``), where it goes (``placing.py``), what the change feed says of it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import orjson

from isocenter.dicom.validation import Problem
from isocenter.features.archive import queries
from isocenter.features.archive.entry import (
    Entry,
    Outcome,
    OutcomeKind,
    Received,
    Suspect,
    outcome_of,
)
from isocenter.features.archive.judging import NOT_ANNOUNCED
from isocenter.features.archive.placing import Place, Places
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.features.archive.recount import recount_series
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


@dataclass(slots=True)
class _Desk:
    """What the transaction has gathered so far and writes at its end, set-wise."""

    organization_id: int
    now_us: int
    instances: list[dict[str, Any]] = field(default_factory=list)
    feed: list[dict[str, Any]] = field(default_factory=list)
    added: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    places: dict[int, Place] = field(default_factory=dict)
    disturbed_series: set[int] = field(default_factory=set)

    def note(self, received: Received, kind: OutcomeKind, **detail: object) -> None:
        self.feed.append(
            {
                "organization_id": self.organization_id,
                "now_us": self.now_us,
                "kind": kind.value,
                "study_instance_uid": received.study_instance_uid,
                "series_instance_uid": received.series_instance_uid,
                "sop_instance_uid": received.sop_instance_uid,
                "detail": orjson.dumps(detail).decode() if detail else "{}",
            }
        )

    def insert(self, entry: Entry, place: Place, version: int) -> None:
        stored = entry.stored
        self.instances.append(
            {
                **entry.instance.columns,
                "organization_id": self.organization_id,
                "series_pk": place.series_pk,
                "transfer_syntax_uid": stored.transfer_syntax_uid,
                "fragments": entry.instance.text,
                "object_key": stored.key,
                "size": stored.size,
                "header_size": stored.header_size,
                "sha256": stored.sha256,
                "pixel_offset": entry.pixel_offset,
                "pixel_length": entry.pixel_length,
                "frame_offsets": entry.frame_offsets,
                "version": version,
                "door": entry.source.door,
                "peer": entry.source.peer,
                "received_at_us": self.now_us,
            }
        )
        self.places[place.series_pk] = place

    def flush_instances(self) -> Work[None]:
        if self.instances:
            yield queries.INSERT_INSTANCES.many(self.instances)
            self.instances = []


def file_objects(
    organization_id: int, received: Sequence[Received], policy: ConflictPolicy, now_us: int
) -> Work[list[Outcome]]:
    """File them all, in order; one outcome each. The transaction around it makes the whole appear at once."""
    yield from _refuse_swept(organization_id, received, now_us)
    desk = _Desk(organization_id, now_us)
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
    if desk.feed:
        yield queries.LOCK_FEED(organization_id=organization_id)
        yield queries.APPEND_TO_FEED.many(desk.feed)
    return outcomes


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


def _refuse_swept(organization_id: int, received: Sequence[Received], now_us: int) -> Work[None]:
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


def _find_earlier(organization_id: int, received: Sequence[Received]) -> Work[dict[str, _Earlier]]:
    rows = yield queries.FIND_CURRENT_INSTANCES(
        organization_id=organization_id, uids=[one.sop_instance_uid for one in received]
    )
    return {
        row["sop_instance_uid"]: _Earlier(
            row["id"], row["sha256"], row["transfer_syntax_uid"], row["version"], row["series_pk"]
        )
        for row in rows
    }


def _file(
    desk: _Desk, entry: Entry, earlier: dict[str, _Earlier], places: Places, policy: ConflictPolicy
) -> Work[Outcome]:
    found = earlier.get(entry.sop_instance_uid)
    if found is not None:
        if (
            found.sha256 == entry.stored.sha256
            and found.transfer_syntax_uid == entry.stored.transfer_syntax_uid
        ):
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
        suspect = _as_suspect(entry, place)
        return (yield from _quarantine(desk, suspect))
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


def _set_aside(desk: _Desk, suspect: Suspect, found: _Earlier | None) -> Work[Outcome]:
    """Into quarantine, unless a person has accepted this very object before."""
    if (
        found is not None
        and found.sha256 == suspect.stored.sha256
        and found.transfer_syntax_uid == suspect.stored.transfer_syntax_uid
        and all(problem.code != NOT_ANNOUNCED for problem in suspect.problems)
    ):
        return (yield from _count_duplicate(desk, suspect, found.pk))
    return (yield from _quarantine(desk, suspect))


def _count_duplicate(desk: _Desk, entry: Received, pk: int | None) -> Work[Outcome]:
    if pk is not None:
        yield queries.COUNT_DUPLICATE(organization_id=desk.organization_id, id=pk)
    else:
        yield from desk.flush_instances()
        yield queries.COUNT_DUPLICATE_OF_CURRENT(
            organization_id=desk.organization_id, sop_instance_uid=entry.sop_instance_uid
        )
    return outcome_of(entry, OutcomeKind.DUPLICATE)


def _refuse(desk: _Desk, entry: Entry) -> Outcome:
    desk.note(entry, OutcomeKind.REJECTED, other_sha256=entry.stored.sha256)
    problem = Problem(
        code="different-object-same-uid",
        tag=0x00080018,
        detail="Another object with this SOP Instance UID is already kept, and its bytes differ.",
        remedy="Give the changed object a new SOP Instance UID, or choose another conflict policy.",
    )
    return outcome_of(entry, OutcomeKind.REJECTED, (problem,))


def _supersede(desk: _Desk, entry: Entry, found: _Earlier, policy: ConflictPolicy) -> Work[OutcomeKind]:
    """Make room for the newer object under the same UID."""
    yield from desk.flush_instances()
    if found.pk is None:
        rows = yield queries.FIND_CURRENT_INSTANCES(
            organization_id=desk.organization_id, uids=[entry.sop_instance_uid]
        )
        found.pk = rows[0]["id"]
    statement = queries.REMOVE_INSTANCES if policy is ConflictPolicy.REPLACE else queries.RETIRE_INSTANCES
    yield statement(organization_id=desk.organization_id, ids=[found.pk])
    kind = OutcomeKind.REPLACED if policy is ConflictPolicy.REPLACE else OutcomeKind.KEPT_BOTH
    desk.note(entry, kind, earlier_sha256=found.sha256, earlier_version=found.version)
    return kind


def _as_suspect(entry: Entry, problem: Problem) -> Suspect:
    levels = entry.levels
    return Suspect(
        stored=entry.stored,
        source=entry.source,
        problems=(problem,),
        known=levels.patient.fragments
        | levels.study.fragments
        | levels.series.fragments
        | entry.instance.fragments,
        study_instance_uid=entry.study_instance_uid,
        series_instance_uid=entry.series_instance_uid,
        sop_class_uid=entry.sop_class_uid,
        sop_instance_uid=entry.sop_instance_uid,
    )


def _quarantine(desk: _Desk, suspect: Suspect) -> Work[Outcome]:
    yield queries.PUT_IN_QUARANTINE(
        organization_id=desk.organization_id,
        object_key=suspect.stored.key,
        size=suspect.stored.size,
        header_size=suspect.stored.header_size,
        sha256=suspect.stored.sha256,
        transfer_syntax_uid=suspect.stored.transfer_syntax_uid,
        problems=orjson.dumps([problem_json(problem) for problem in suspect.problems]).decode(),
        known="{" + ",".join(text for _, text in sorted(suspect.known.items())) + "}",
        door=suspect.source.door,
        peer=suspect.source.peer,
        now_us=desk.now_us,
    )
    desk.note(suspect, OutcomeKind.QUARANTINED, codes=[problem.code for problem in suspect.problems])
    return outcome_of(suspect, OutcomeKind.QUARANTINED, suspect.problems)


def problem_json(problem: Problem) -> dict[str, str | None]:
    """A problem as the API and the quarantine table show it."""
    return {
        "code": problem.code,
        "tag": f"{problem.tag:08X}" if problem.tag else None,
        "detail": problem.detail,
        "remedy": problem.remedy,
    }


def _count(desk: _Desk) -> Work[None]:
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
