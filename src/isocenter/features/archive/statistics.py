"""What an organisation keeps, counted: by modality, SOP class, transfer syntax and day of arrival.

Nothing of it is counted along while objects come in but what the quota needs anyway (``usage.py``): this
is asked for rarely. It costs one pass of an index over the objects and one of the series, on one snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, timedelta

from isocenter.dicom.sop_classes import sop_class_name
from isocenter.dicom.transfer_syntaxes import TRANSFER_SYNTAXES
from isocenter.features.archive.queries_statistics import (
    COUNT_DELETED,
    COUNT_INSTANCES,
    COUNT_SERIES,
    COUNT_STUDIES,
    COUNT_WAITING,
)
from isocenter.features.archive.usage import Usage, find_usage
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database, Row, Work

DAYS = 30
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class OfModality:
    modality: str
    studies: int  # that have a series of it: a study of two modalities counts under both
    series: int
    instances: int


@dataclass(frozen=True, slots=True)
class OfUid:
    """``name`` is the standard's; the UID again where that has none."""

    uid: str
    name: str
    instances: int
    bytes: int


@dataclass(frozen=True, slots=True)
class OfDay:
    """``day`` in UTC. Of what is still kept, earlier versions included."""

    day: date
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Instances are current ones; ``kept`` is also earlier versions, what waits in quarantine,
    and what was ``deleted`` and can be restored.

    Study dates are DA (PS3.5 §6.2), empty where no study tells one. Lists: the most first; days ascending.
    """

    patients: int
    studies: int
    series: int
    instances: int
    bytes: int
    earlier_versions: Usage
    quarantine: Usage
    deleted: Usage
    kept: Usage
    oldest_study_date: str
    newest_study_date: str
    modalities: tuple[OfModality, ...]
    sop_classes: tuple[OfUid, ...]
    transfer_syntaxes: tuple[OfUid, ...]
    received: tuple[OfDay, ...]


async def count_all(database: Database, clock: Clock, organization_id: int) -> Statistics:
    """As of one moment; the last of the 30 days is today, in UTC."""
    return await database.read(_count, organization_id, clock.now().astimezone(UTC).date())


def _count(organization_id: int, today: date) -> Work[Statistics]:
    first = today - timedelta(days=DAYS - 1)
    groups = yield COUNT_INSTANCES(
        organization_id=organization_id, since_us=(first - _EPOCH).days * _DAY_US, day_us=_DAY_US
    )
    current = [row for row in groups if row["current"]]
    [held] = yield COUNT_STUDIES(organization_id=organization_id)
    [waiting] = yield COUNT_WAITING(organization_id=organization_id)
    [deleted] = yield COUNT_DELETED(organization_id=organization_id)
    modalities = [
        OfModality(row["modality"], row["studies"], row["series"], row["instances"])
        for row in (yield COUNT_SERIES(organization_id=organization_id))
    ]
    instances = _sum(current)
    return Statistics(
        patients=held["patients"],
        studies=held["studies"],
        series=sum(one.series for one in modalities),
        instances=instances.objects,
        bytes=instances.bytes,
        earlier_versions=_sum(row for row in groups if not row["current"]),
        quarantine=Usage(waiting["entries"], waiting["bytes"]),
        deleted=Usage(deleted["objects"], deleted["bytes"]),
        kept=(yield from find_usage(organization_id)),
        oldest_study_date=held["oldest"] or "",
        newest_study_date=held["newest"] or "",
        modalities=tuple(sorted(modalities, key=lambda one: (-one.instances, one.modality))),
        sop_classes=tuple(
            OfUid(uid, sop_class_name(uid), found.objects, found.bytes)
            for uid, found in _by(current, "sop_class_uid")
        ),
        transfer_syntaxes=tuple(
            OfUid(uid, _syntax_name(uid), found.objects, found.bytes)
            for uid, found in _by(current, "transfer_syntax_uid")
        ),
        received=_received(groups, first),
    )


def _sum(rows: Iterable[Row]) -> Usage:
    objects = size = 0
    for row in rows:
        objects += row["objects"]
        size += row["bytes"]
    return Usage(objects, size)


def _by(rows: Iterable[Row], column: str) -> list[tuple[str, Usage]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    found = [(value, _sum(members)) for value, members in groups.items()]
    return sorted(found, key=lambda one: (-one[1].objects, one[0]))


def _received(rows: Iterable[Row], first: date) -> tuple[OfDay, ...]:
    """Days on which nothing came are zero. Days after today, as of a clock that went back, are not told."""
    of_day: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row["day"] is not None:
            of_day[row["day"]].append(row)
    days = []
    for number in range(DAYS):
        day = first + timedelta(days=number)
        found = _sum(of_day.get((day - _EPOCH).days, ()))
        days.append(OfDay(day, found.objects, found.bytes))
    return tuple(days)


def _syntax_name(uid: str) -> str:
    known = TRANSFER_SYNTAXES.get(uid)
    return known.name if known else uid
