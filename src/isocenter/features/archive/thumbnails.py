"""A small picture of each series: made when nothing was added to it for a while, kept in the store, made anew
when another instance stands for the series.

It is an object like others (content address, encrypted where objects are), under ``{organisation}/derived/``;
the row ``series_thumbnail`` refers to it, so that the sweep takes it when nothing does any longer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from isocenter.features.archive import queries
from isocenter.features.archive.image_reading import open_image
from isocenter.features.archive.images import Images
from isocenter.features.archive.representative import find_representative
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.sweep import microseconds
from isocenter.imaging.rendering import work
from isocenter.imaging.rendering.request import JPEG, REVISION, Rendering, Viewport
from isocenter.imaging.rendering.timing import representative_frame
from isocenter.kit.clock import Clock
from isocenter.kit.errors import Busy, IsocenterError, NotFound, Unavailable
from isocenter.platform.db import Database, Sql, Work
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.interface import InMemory, ObjectStore
from isocenter.platform.storage.sealing import ObjectDamaged

SETTLED_S = 60.0

SIDE = 256
"""Of a kept thumbnail, in pixels."""

RENDERING = Rendering(JPEG, Viewport(SIDE, SIDE), quality=80)

_READER = "thumbnails"
_CHANGES_AT_ONCE = 500
_NEW = frozenset(("stored", "replaced", "versioned", "restored"))

FIND_THUMBNAIL = Sql("""
    SELECT kept.object_key, kept.made_of FROM series_thumbnail AS kept
    JOIN series ON series.id = kept.series_pk
    JOIN study ON study.id = series.study_pk
    WHERE kept.organization_id = :organization_id AND study.organization_id = :organization_id
      AND study.study_instance_uid = :study AND series.series_instance_uid = :series
""")

KEEP_THUMBNAIL = Sql("""
    INSERT INTO series_thumbnail (organization_id, series_pk, made_of, object_key, made_at_us)
    SELECT series.organization_id, series.id, :made_of, :object_key, :now_us
    FROM series JOIN study ON study.id = series.study_pk
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study
      AND series.series_instance_uid = :series
    ON CONFLICT (organization_id, series_pk) DO UPDATE SET made_of = excluded.made_of,
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
class MadeReport:
    made: int = 0
    failed: int = 0


class Thumbnails:
    """``settled_s``: after how long without a change a series counts as complete."""

    def __init__(
        self, database: Database, store: ObjectStore, images: Images, clock: Clock, *, settled_s: float
    ) -> None:
        self._database = database
        self._store = store
        self._images = images
        self._clock = clock
        self._settled_s = settled_s

    async def of_series(self, organization_id: int, instance: StoredInstance) -> bytes:
        """The JPEG file for the series that ``instance`` stands for; the kept one where it still fits.

        Raises what rendering raises.
        """
        rows = await self._database.read(
            _find_kept, organization_id, instance.study_instance_uid, instance.series_instance_uid
        )
        if rows and rows[1] == made_of(instance):
            try:
                return await self._store.get(rows[0])
            except KeyDestroyed:
                raise
            except (NotFound, ObjectDamaged):
                pass  # made anew, under the same name
        picture = await self._render(instance)
        await self._keep(organization_id, instance, picture)
        return picture

    async def make_settled(self) -> MadeReport:
        """Make what is missing for series that have settled, of all organisations. An object that cannot be
        rendered is passed over: it has an icon. Raises Unavailable, Busy when it cannot go on now."""
        made = failed = 0
        for organization_id in await self._database.read_across(_find_organizations):
            while True:
                after, up_to, series = await self._database.read(
                    _find_settled, organization_id, self._settled_before_us()
                )
                for study_uid, series_uid in series:
                    if await self._make(organization_id, study_uid, series_uid):
                        made += 1
                    else:
                        failed += 1
                if up_to == after:
                    break
                await self._database.write(_move_cursor, organization_id, up_to)
        return MadeReport(made, failed)

    async def _make(self, organization_id: int, study: str, series: str) -> bool:
        try:
            instance = await find_representative(self._database, organization_id, study, series)
            await self.of_series(organization_id, instance)
        except (Busy, Unavailable):
            raise
        except IsocenterError:
            return False
        return True

    async def _render(self, instance: StoredInstance) -> bytes:
        image = await open_image(self._store, self._images.pixels, instance)
        frame = await image.frame(representative_frame(image.attributes, image.number_of_frames) + 1)
        return await self._images.workers.run(work.render, frame, RENDERING)

    async def _keep(self, organization_id: int, instance: StoredInstance, picture: bytes) -> None:
        digest = hashlib.sha256(picture).hexdigest()
        key = f"{organization_id}/derived/{digest[:2]}/{digest}.jpg"
        await self._store.put(key, InMemory((picture,)))
        await self._database.write(_keep, organization_id, instance, key, microseconds(self._clock.now()))

    def _settled_before_us(self) -> int:
        return microseconds(self._clock.now()) - int(self._settled_s * 1_000_000)


def made_of(instance: StoredInstance) -> str:
    """What a thumbnail of this instance is made of: another one's is another thumbnail."""
    return f"{instance.object_key}:{REVISION}"


def _find_kept(organization_id: int, study: str, series: str) -> Work[tuple[str, str] | None]:
    rows = yield FIND_THUMBNAIL(organization_id=organization_id, study=study, series=series)
    return (rows[0]["object_key"], rows[0]["made_of"]) if rows else None


def _keep(organization_id: int, instance: StoredInstance, key: str, now_us: int) -> Work[None]:
    """Unless the sweep has the object in its hands (``sweep.py``): the next who asks makes it again."""
    yield queries.LOCK_OUT_SWEEP(organization_id=organization_id)
    marks = yield queries.FIND_MARKED(organization_id=organization_id, keys=[key], after_us=0)
    if marks:
        return
    yield KEEP_THUMBNAIL(
        organization_id=organization_id,
        study=instance.study_instance_uid,
        series=instance.series_instance_uid,
        made_of=made_of(instance),
        object_key=key,
        now_us=now_us,
    )


def _find_settled(organization_id: int, before_us: int) -> Work[tuple[int, int, list[tuple[str, str]]]]:
    """Where the cursor is, where it can go, and the series that changed in between."""
    rows = yield FIND_CURSOR(organization_id=organization_id, reader=_READER)
    after = rows[0]["change_number"] if rows else 0
    changes = yield queries.READ_FEED(organization_id=organization_id, after=after, limit=_CHANGES_AT_ONCE)
    up_to = after
    series: dict[tuple[str, str], None] = {}
    for change in changes:
        if change["at_us"] > before_us:
            break
        up_to = change["number"]
        if change["series_instance_uid"]:
            series[change["study_instance_uid"], change["series_instance_uid"]] = None
    return after, up_to, list(series)


def _move_cursor(organization_id: int, change_number: int) -> Work[None]:
    yield MOVE_CURSOR(organization_id=organization_id, reader=_READER, change_number=change_number)


def _find_organizations() -> Work[list[int]]:
    rows = yield queries.FIND_ORGANIZATIONS()
    return [row[0] for row in rows]
