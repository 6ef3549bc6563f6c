"""Compressing what is stored without loss (High-Throughput JPEG 2000), after its sender was answered.

One instance after the other, in the order they came: transcoded in a worker, each frame decoded again there
and compared with what it was; received like any object (hashed, scanned, put under its own address); its
attributes compared with those of the original; and only then its row is switched, in one transaction and
only if it still is the row of that original. The original becomes an orphan, which the sweep removes. A crash
at any moment leaves the row with one of both objects, and the other to the sweep.

Where to go on is nowhere written down: what is still uncompressed is looked for again after a start. What
cannot be compressed, or would not be smaller, is then tried again, and stays as it is again.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from isocenter.dicom.element import BulkRange, Element
from isocenter.dicom.json_dataset import dataset_json
from isocenter.dicom.tags import EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS
from isocenter.dicom.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K_LOSSLESS,
    IMPLICIT_VR_LITTLE_ENDIAN,
    RLE_LOSSLESS,
)
from isocenter.features.archive import queries
from isocenter.features.archive.entry import Entry, Source
from isocenter.features.archive.filing import refuse_swept
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.object_elements import read_elements
from isocenter.features.archive.retrieve import StoredInstance, find_stored
from isocenter.features.archive.rounds import all_organizations
from isocenter.features.archive.spare_time import SpareTime
from isocenter.features.archive.transcoding import Transcoder
from isocenter.features.archive.usage import Growth, advance
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from isocenter.imaging.pixel_description import PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import NotFound
from isocenter.platform.db import Database, Row, Work
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.telemetry import get_logger
from isocenter.platform.workers.errors import WorkFailed

_SOURCES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, RLE_LOSSLESS]
_BATCH = 100
_CHANGING = frozenset(
    (
        PHOTOMETRIC_INTERPRETATION,
        PLANAR_CONFIGURATION,
        EXTENDED_OFFSET_TABLE,
        EXTENDED_OFFSET_TABLE_LENGTHS,
        0x7FE00010,
        0xFFFCFFFC,
    )
)

log = get_logger(__name__)


@dataclass(slots=True)
class RecompressionReport:
    """``saved_bytes`` is what the store holds less once the sweep has been by."""

    examined: int = 0
    compressed: int = 0
    saved_bytes: int = 0


class Recompression:
    """``transcoder`` must verify (`TranscodedPieces`) and keep no copies."""

    def __init__(
        self, database: Database, store: ObjectStore, ingest: Ingest, transcoder: Transcoder, clock: Clock
    ) -> None:
        self._database = database
        self._store = store
        self._ingest = ingest
        self._transcoder = transcoder
        self._clock = clock
        self._seen: dict[int, int] = {}

    async def run(self, spare_time: SpareTime) -> RecompressionReport:
        """Everything that came since the last run (the first: everything). Raises Unavailable, OutOfSpace."""
        report = RecompressionReport()
        for organization_id in await all_organizations(self._database):
            while rows := await self._database.read(
                _find, organization_id, self._seen.get(organization_id, 0)
            ):
                for row in rows:
                    async with spare_time.turn():
                        await self._compress(organization_id, row, report)
                    self._seen[organization_id] = row["id"]
        return report

    async def _compress(self, organization_id: int, row: Row, report: RecompressionReport) -> None:
        report.examined += 1
        uids = (row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"])
        try:
            (instance,) = await find_stored(self._database, organization_id, *uids)
            entry = await self._received(organization_id, instance)
            if entry is None or entry.stored.size >= instance.size:
                return
            await self._check(instance, entry)
        except (NotFound, PixelDataBroken, PixelDataUnsupported, WorkFailed):
            return  # gone meanwhile, or one of those that stay as they are
        switched = await self._database.write(
            _switch, organization_id, row["id"], instance, entry, microseconds(self._clock.now())
        )
        if switched:
            report.compressed += 1
            report.saved_bytes += instance.size - entry.stored.size

    async def _received(self, organization_id: int, instance: StoredInstance) -> Entry | None:
        """The compressed object, durable in the store, and what the index must know of it."""
        given = await self._transcoder.given(instance, HTJ2K_LOSSLESS)
        received = await self._ingest.receive_all(organization_id, Source("recompression"), given.stream())
        return received if isinstance(received, Entry) else None

    async def _check(self, instance: StoredInstance, entry: Entry) -> None:
        """Raises PixelDataUnsupported where another attribute than those of the encoding has changed."""
        compressed = StoredInstance(
            instance.study_instance_uid,
            instance.series_instance_uid,
            instance.sop_instance_uid,
            instance.sop_class_uid,
            entry.stored.transfer_syntax_uid,
            entry.stored.key,
            entry.stored.size,
            entry.stored.header_size,
            entry.stored.sha256,
            instance.number_of_frames,
            entry.pixel_offset,
            entry.pixel_length,
            entry.frame_offsets,
        )
        before = _comparable(await read_elements(self._store, instance))
        if before != _comparable(await read_elements(self._store, compressed)):
            log.warning("An object would change by being compressed; it stays", uid=instance.sop_instance_uid)
            raise PixelDataUnsupported("its other attributes would change")


def _comparable(elements: list[Element]) -> object:
    kept = [element for element in elements if element.tag not in _CHANGING and element.tag & 0xFFFF]
    return orjson.loads(dataset_json(kept, bulk_uri=_length))


def _length(_: object, value: BulkRange | bytes) -> str:
    return str(value.length if isinstance(value, BulkRange) else len(value))


def _find(organization_id: int, after: int) -> Work[list[Row]]:
    rows = yield queries.FIND_COMPRESSIBLE(
        organization_id=organization_id, after=after, transfer_syntaxes=_SOURCES, limit=_BATCH
    )
    return list(rows)


def _switch(organization_id: int, pk: int, before: StoredInstance, entry: Entry, now_us: int) -> Work[bool]:
    yield from refuse_swept(organization_id, [entry], now_us)
    rows = yield queries.SWITCH_OBJECT(
        organization_id=organization_id,
        id=pk,
        before=before.object_key,
        object_key=entry.stored.key,
        size=entry.stored.size,
        header_size=entry.stored.header_size,
        sha256=entry.stored.sha256,
        transfer_syntax_uid=entry.stored.transfer_syntax_uid,
        pixel_offset=entry.pixel_offset,
        pixel_length=entry.pixel_length,
        frame_offsets=entry.frame_offsets,
    )
    if not rows:
        return False
    yield from advance(organization_id, 0, Growth(bytes=entry.stored.size - before.size))
    return True
