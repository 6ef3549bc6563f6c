"""The metadata of a series (PS3.18 §10.4.1.1.2) as one compressed object, kept (``derived.py``).

It is the DICOM JSON of its instances in their order, separated by commas. BulkDataURIs are absolute,
and who asks decides what they begin with, so a NUL stands there: a byte that no JSON text contains (RFC 8259
§7), and that no border between two pieces can divide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from itertools import groupby, islice

import orjson
import zstandard

from isocenter.dicom.element import BulkRange
from isocenter.dicom.json_dataset import BulkPath, dataset_json
from isocenter.features.archive.derived import DerivedObjects, MadeReport, Series
from isocenter.features.archive.object_elements import BULK_THRESHOLD_BYTES, read_elements
from isocenter.features.archive.presented import find_instances
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.spare_time import SpareTime
from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import Database
from isocenter.platform.storage.encrypted import KeyDestroyed
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

EDITION = "2"
"""Of how metadata is written: a new one makes clients fetch it again, and objects to be made again."""

_AHEAD = 4  # headers read while the one before is written
_KEPT_BYTES_MAX = 16 << 20  # compressed; it is read whole, and what is larger is rare and not kept
_STEP_BYTES = 256 << 10  # of decompressing: well under a millisecond
_COMPRESSED_INLINE_BYTES_MAX = 256 << 10

_BASE = b"\0"
_URI = b'"BulkDataURI":"'  # quotes within strings are escaped: only the name itself and its value look so
_ESCAPED_BASE = _URI + b"\\u0000"


class SeriesMetadata:
    """``settled_s``: after how long without a change a series counts as complete."""

    def __init__(self, database: Database, store: ObjectStore, clock: Clock, *, settled_s: float) -> None:
        self._database = database
        self._store = store
        self._derived = DerivedObjects(
            database, store, clock, "metadata", extension="zst", settled_s=settled_s
        )

    async def json(
        self, organization_id: int, instances: Sequence[StoredInstance], base: str
    ) -> AsyncIterator[bytes]:
        """Pieces of the DICOM JSON objects of ``instances``, all that their series have, separated by commas.

        ``base``: what BulkDataURIs begin with. Raises what `read_elements` raises, with the first piece where
        it can.
        """
        separator = b""
        for _, group in groupby(instances, key=lambda instance: instance.series_instance_uid):
            async for piece in self._of_series(organization_id, list(group)):
                yield separator + with_base(piece, base)
                separator = b""
            separator = b","

    async def make_settled(self, spare_time: SpareTime) -> MadeReport:
        """Make what is missing for series that have settled, of all organisations. Raises Unavailable, Busy
        when it cannot go on now."""
        return await self._derived.make_settled(self._make, spare_time)

    async def _of_series(
        self, organization_id: int, instances: Sequence[StoredInstance]
    ) -> AsyncIterator[bytes]:
        series = Series(organization_id, instances[0].study_instance_uid, instances[0].series_instance_uid)
        kept = await self._kept(series, instances)
        pieces = self._made(series, instances) if kept is None else _decompressed(kept)
        async for piece in pieces:
            yield piece

    async def _kept(self, series: Series, instances: Sequence[StoredInstance]) -> bytes | None:
        try:
            return await self._derived.get(series, made_of(instances))
        except KeyDestroyed:
            return None  # the objects say better what is no longer readable: maybe not all of them

    async def _made(self, series: Series, instances: Sequence[StoredInstance]) -> AsyncIterator[bytes]:
        """As the objects have it; kept when it is complete."""
        compressed = _Compressed()
        separator = b""
        async for data_set in data_sets(self._store, instances):
            piece = separator + data_set
            separator = b","
            await compressed.add(piece)
            yield piece
        if content := compressed.finish():
            await self._keep(series, instances, content)

    async def _keep(
        self, series: Series, instances: Sequence[StoredInstance], content: Sequence[bytes]
    ) -> None:
        """What cannot be kept is answered all the same."""
        try:
            await self._derived.keep(series, made_of(instances), *content)
        except IsocenterError as error:
            log.warning("Metadata not kept", series=series.series_instance_uid, code=error.code)

    async def _make(self, series: Series) -> None:
        instances = await find_instances(
            self._database,
            self._store,
            *(series.organization_id, series.study_instance_uid, series.series_instance_uid),
        )
        if await self._kept(series, instances) is None:
            async for _ in self._made(series, instances):
                pass


async def data_sets(store: ObjectStore, instances: Sequence[StoredInstance]) -> AsyncIterator[bytes]:
    """DICOM JSON of each, out of the object itself, for `with_base`; a few headers are read ahead.

    Raises what `read_elements` raises.
    """
    waiting = iter(instances)
    reading = deque(
        (instance, asyncio.ensure_future(read_elements(store, instance)))
        for instance in islice(waiting, _AHEAD)
    )
    try:
        while reading:
            instance, task = reading.popleft()
            elements = await task
            if (following := next(waiting, None)) is not None:
                reading.append((following, asyncio.ensure_future(read_elements(store, following))))
            text = dataset_json(
                elements, bulk_uri=_value_address(instance), inline_limit_bytes=BULK_THRESHOLD_BYTES
            )
            yield text.replace(_ESCAPED_BASE, _URI + _BASE)
    finally:
        for _, task in reading:
            task.cancel()
        await asyncio.gather(*(task for _, task in reading), return_exceptions=True)


def with_base(piece: bytes, base: str) -> bytes:
    """Any piece of the text, with absolute addresses."""
    return piece.replace(_BASE, orjson.dumps(base)[1:-1])


def made_of(instances: Sequence[StoredInstance]) -> str:
    """What the metadata of a series is made of; objects never change, so other metadata is of other keys."""
    digest = blake2b(EDITION.encode(), digest_size=24)
    for instance in instances:
        line = (instance.series_instance_uid, instance.sop_instance_uid, instance.object_key)
        digest.update(("\n" + " ".join(line)).encode())
    return digest.hexdigest()


def instance_path(study: str, series: str, instance: str) -> str:
    """Of an instance, below the base of DICOM's services (PS3.18 §10.4.1)."""
    return f"/studies/{study}/series/{series}/instances/{instance}"


def value_path(path: BulkPath) -> str:
    """Of a large value, below its instance: ``/bulkdata/00409096/0/00280030``, tags, and between them the
    numbers of items from 0."""
    return "/bulkdata/" + "/".join(
        str(step) if depth % 2 else f"{step:08X}" for depth, step in enumerate(path)
    )


def _value_address(instance: StoredInstance) -> Callable[[BulkPath, BulkRange | bytes], str]:
    address = _BASE.decode() + instance_path(
        instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid
    )
    return lambda path, _: address + value_path(path)


class _Compressed:
    """A text that is compressed as it comes (zstd, RFC 8878); nothing where it grows too large to keep."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor().compressobj()
        self._pieces: list[bytes] = []
        self._size = 0

    async def add(self, text: bytes) -> None:
        if self._size > _KEPT_BYTES_MAX:
            return
        if len(text) > _COMPRESSED_INLINE_BYTES_MAX:
            self._append(await asyncio.to_thread(self._compressor.compress, text))
        else:
            self._append(self._compressor.compress(text))

    def finish(self) -> list[bytes]:
        self._append(self._compressor.flush())
        return self._pieces if self._size <= _KEPT_BYTES_MAX else []

    def _append(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > _KEPT_BYTES_MAX:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)


async def _decompressed(content: bytes) -> AsyncIterator[bytes]:
    """The text in pieces; others get their turn between two of them."""
    with zstandard.ZstdDecompressor().stream_reader(content) as text:
        while piece := text.read(_STEP_BYTES):
            yield piece
            await asyncio.sleep(0)
