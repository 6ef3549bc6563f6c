"""What is made of a series and kept: once nothing was added to it for a while, and anew when it changes.

It is an object like others (content address, encrypted where objects are), under ``{organisation}/derived/``;
the row ``series_derived`` refers to it, so that the sweep takes it when nothing does any longer. The row says
what it was made of: what was made of anything else than what the index holds now is never given.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from isocenter.features.archive import queries
from isocenter.features.archive.rounds import all_organizations
from isocenter.features.archive.spare_time import SpareTime
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Busy, IsocenterError, NotFound, Unavailable
from isocenter.platform.db import Database, Sql, Work
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.interface import InMemory, ObjectStore
from isocenter.platform.storage.sealing import ObjectDamaged

SETTLED_S = 60.0

_CHANGES_AT_ONCE = 500
_HASHED_INLINE_BYTES_MAX = 256 << 10

FIND_DERIVED = Sql("""
    SELECT kept.object_key FROM series_derived AS kept
    JOIN series ON series.id = kept.series_pk
    JOIN study ON study.id = series.study_pk
    WHERE kept.organization_id = :organization_id AND study.organization_id = :organization_id
      AND study.study_instance_uid = :study AND series.series_instance_uid = :series
      AND kept.kind = :kind AND kept.made_of = :made_of
""")

KEEP_DERIVED = Sql("""
    INSERT INTO series_derived (organization_id, series_pk, kind, made_of, object_key, made_at_us)
    SELECT series.organization_id, series.id, :kind, :made_of, :object_key, :now_us
    FROM series JOIN study ON study.id = series.study_pk
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study
      AND series.series_instance_uid = :series
    ON CONFLICT (organization_id, series_pk, kind) DO UPDATE SET made_of = excluded.made_of,
        object_key = excluded.object_key, made_at_us = excluded.made_at_us
""")

FIND_CURSOR = Sql("""
    SELECT change_number FROM feed_cursor WHERE organization_id = :organization_id AND reader = :reader
""")

MOVE_CURSOR = Sql("""
    INSERT INTO feed_cursor (organization_id, reader, change_number)
    VALUES (:organization_id, :reader, :change_number)
    ON CONFLICT (organization_id, reader) DO UPDATE SET change_number = excluded.change_number
""")


@dataclass(frozen=True, slots=True)
class Series:
    organization_id: int
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class _Derived:
    series: Series
    kind: str
    made_of: str


@dataclass(frozen=True, slots=True)
class MadeReport:
    made: int = 0
    failed: int = 0


class DerivedObjects:
    """Of one ``kind`` (also what its reader of the change feed is called), one a series; names end in
    ``extension``. ``settled_s``: after how long without a change a series counts as complete."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        clock: Clock,
        kind: str,
        *,
        extension: str,
        settled_s: float,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._kind = kind
        self._extension = extension
        self._settled_s = settled_s

    async def get(self, series: Series, made_of: str) -> bytes | None:
        """The object, if it was made of that and is whole. Raises KeyDestroyed, Unavailable."""
        wanted = _Derived(series, self._kind, made_of)
        key = await self._database.read(_find, series.organization_id, wanted)
        if not key:
            return None
        try:
            content = await self._store.get(key)
        except KeyDestroyed:
            raise
        except (NotFound, ObjectDamaged):
            return None  # made anew, under the same name
        return content if key == await self._key(series.organization_id, (content,)) else None

    async def keep(self, series: Series, made_of: str, *content: bytes) -> None:
        """Raises what putting an object raises."""
        key = await self._key(series.organization_id, content)
        await self._store.put(key, InMemory(content))
        now_us = microseconds(self._clock.now())
        derived = _Derived(series, self._kind, made_of)
        await self._database.write(_keep, series.organization_id, derived, key, now_us)

    async def make_settled(
        self, make: Callable[[Series], Awaitable[object]], spare_time: SpareTime
    ) -> MadeReport:
        """``make`` what is missing for series that have settled, of all organisations. What cannot be made is
        passed over. Raises Unavailable, Busy when it cannot go on now."""
        made = failed = 0
        for organization_id in await all_organizations(self._database):
            while True:
                after, up_to, settled = await self._database.read(
                    _find_settled, organization_id, self._kind, self._settled_before_us()
                )
                for series in settled:
                    async with spare_time.turn():
                        succeeded = await _succeeds(make(series))
                    made += succeeded
                    failed += not succeeded
                if up_to == after:
                    break
                await self._database.write(_move_cursor, organization_id, self._kind, up_to)
        return MadeReport(made, failed)

    async def _key(self, organization_id: int, content: Sequence[bytes]) -> str:
        if sum(map(len, content)) > _HASHED_INLINE_BYTES_MAX:
            digest = await asyncio.to_thread(_digest, content)
        else:
            digest = _digest(content)
        return f"{organization_id}/derived/{digest[:2]}/{digest}.{self._extension}"

    def _settled_before_us(self) -> int:
        return microseconds(self._clock.now()) - int(self._settled_s * 1_000_000)


def _digest(content: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
    return digest.hexdigest()


async def _succeeds(making: Awaitable[object]) -> bool:
    try:
        await making
    except (Busy, Unavailable):
        raise
    except IsocenterError:
        return False
    return True


def _find(organization_id: int, wanted: _Derived) -> Work[str]:
    rows = yield FIND_DERIVED(
        organization_id=organization_id,
        study=wanted.series.study_instance_uid,
        series=wanted.series.series_instance_uid,
        kind=wanted.kind,
        made_of=wanted.made_of,
    )
    return rows[0]["object_key"] if rows else ""


def _keep(organization_id: int, derived: _Derived, key: str, now_us: int) -> Work[None]:
    """Unless the sweep has the object in its hands (``sweep.py``): the next who asks makes it again."""
    yield queries.LOCK_OUT_SWEEP(organization_id=organization_id)
    marks = yield queries.FIND_MARKED(organization_id=organization_id, keys=[key], after_us=0)
    if marks:
        return
    yield KEEP_DERIVED(
        organization_id=organization_id,
        study=derived.series.study_instance_uid,
        series=derived.series.series_instance_uid,
        kind=derived.kind,
        made_of=derived.made_of,
        object_key=key,
        now_us=now_us,
    )


def _find_settled(organization_id: int, reader: str, before_us: int) -> Work[tuple[int, int, list[Series]]]:
    """Where the cursor is, where it can go, and the series that changed in between."""
    rows = yield FIND_CURSOR(organization_id=organization_id, reader=reader)
    after = rows[0]["change_number"] if rows else 0
    changes = yield queries.READ_FEED(organization_id=organization_id, after=after, limit=_CHANGES_AT_ONCE)
    up_to = after
    series: dict[Series, None] = {}
    for change in changes:
        if change["at_us"] > before_us:
            break
        up_to = change["number"]
        if change["series_instance_uid"]:
            one = Series(organization_id, change["study_instance_uid"], change["series_instance_uid"])
            series[one] = None
    return after, up_to, list(series)


def _move_cursor(organization_id: int, reader: str, change_number: int) -> Work[None]:
    yield MOVE_CURSOR(organization_id=organization_id, reader=reader, change_number=change_number)
