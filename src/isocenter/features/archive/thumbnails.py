"""A small picture of each series: made when nothing was added to it for a while, kept in the store, made anew
when another instance stands for the series (``derived.py``)."""

from __future__ import annotations

from isocenter.features.archive.derived import DerivedObjects, MadeReport, Series
from isocenter.features.archive.image_reading import open_image
from isocenter.features.archive.images import Images
from isocenter.features.archive.representative import find_representative
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.spare_time import SpareTime
from isocenter.imaging.rendering import work
from isocenter.imaging.rendering.request import JPEG, REVISION, Rendering, Viewport
from isocenter.imaging.rendering.timing import representative_frame
from isocenter.kit.clock import Clock
from isocenter.platform.db import Database
from isocenter.platform.storage.interface import ObjectStore

SIDE = 256
"""Of a kept thumbnail, in pixels."""

RENDERING = Rendering(JPEG, Viewport(SIDE, SIDE), quality=80)


class Thumbnails:
    """``settled_s``: after how long without a change a series counts as complete."""

    def __init__(
        self, database: Database, store: ObjectStore, images: Images, clock: Clock, *, settled_s: float
    ) -> None:
        self._database = database
        self._store = store
        self._images = images
        self._derived = DerivedObjects(
            database, store, clock, "thumbnails", extension="jpg", settled_s=settled_s
        )

    async def of_series(self, organization_id: int, instance: StoredInstance) -> bytes:
        """The JPEG file for the series that ``instance`` stands for; the kept one where it still fits.

        Raises what rendering raises.
        """
        series = Series(organization_id, instance.study_instance_uid, instance.series_instance_uid)
        kept = await self._derived.get(series, made_of(instance))
        if kept is not None:
            return kept
        picture = await self._render(instance)
        await self._derived.keep(series, made_of(instance), picture)
        return picture

    async def make_settled(self, spare_time: SpareTime) -> MadeReport:
        """Make what is missing for series that have settled, of all organisations. An object that cannot be
        rendered is passed over: it has an icon. Raises Unavailable, Busy when it cannot go on now."""
        return await self._derived.make_settled(self._make, spare_time)

    async def _make(self, series: Series) -> None:
        instance = await find_representative(
            self._database,
            self._store,
            *(series.organization_id, series.study_instance_uid, series.series_instance_uid),
        )
        await self.of_series(series.organization_id, instance)

    async def _render(self, instance: StoredInstance) -> bytes:
        image = await open_image(self._store, self._images.pixels, instance)
        frame = await image.frame(representative_frame(image.attributes, image.number_of_frames) + 1)
        return await self._images.workers.run(work.render, frame, RENDERING)


def made_of(instance: StoredInstance) -> str:
    """What a thumbnail of this instance is made of: another one's is another thumbnail."""
    return f"{instance.object_key}:{REVISION}"
