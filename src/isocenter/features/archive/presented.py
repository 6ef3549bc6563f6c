"""Objects as they leave: those whose patient is another by a person's word have another header (ADR 0021).

The store keeps what was received. `presented` turns such an instance into one that a `PresentingStore` reads
under a name of its own: the header is made anew, all behind it stays where it lies. Whatever works on stored
instances works on these: frames, transcoding, metadata, ranges; and caches and ETags tell the two apart.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

from isocenter.dicom.dataset import encoding_of, is_deflated, read_dataset, write_dataset
from isocenter.dicom.element import BulkRange
from isocenter.dicom.encoding import Buffer
from isocenter.features.archive.data_set_pieces import Pieces, pieces_of
from isocenter.features.archive.object_elements import with_whole
from isocenter.features.archive.patients.reconciling import PatientInstead, reconciled
from isocenter.features.archive.retrieve import StoredInstance, find_stored, read_bytes
from isocenter.kit.errors import Conflict, InternalError, IsocenterError
from isocenter.platform.db import Database
from isocenter.platform.storage.interface import Body, ObjectInfo, ObjectStore, PutOutcome, StoreHealth
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

EDITION = "1"
"""Of how headers are rewritten: another one makes clients and caches fetch objects again."""

_AT_ONCE = 8
_INLINE_BYTES_MAX = 64 << 10
"""Of a header; more is rewritten in a thread."""
_COPIED_BYTES_MAX = 64 << 20
"""Of an object without Pixel Data whose large values cannot stay where they are."""
_KEPT_BYTES_MAX = 32 << 20
_PIXEL_HEADER_BYTES = {True: 8, False: 12}  # implicit and explicit VR (PS3.5 §7.1)


class PresentedKey(str):
    """What a presented object is called; it knows what it is made of, and why it cannot leave."""

    __slots__ = ("refusal", "stored")
    stored: StoredInstance
    refusal: Conflict | None


@dataclass(frozen=True, slots=True)
class _Made:
    """``pieces``: bytes, and ranges of the stored object. ``longer``: than that, in bytes."""

    pieces: Pieces
    size: int
    longer: int

    @property
    def kept_bytes(self) -> int:
        return sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))


class PresentingStore:
    """Another store's objects, and those that are presented."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._kept_bytes = 0

    async def present(self, instance: StoredInstance) -> StoredInstance:
        """The instance as it leaves. One that cannot be rewritten says so when it is read: never is it given
        out with the wrong patient."""
        key = _key_of(instance)
        try:
            made = await self._make(key)
        except Conflict as refusal:
            key.refusal = refusal
            return replace(instance, object_key=key)
        except IsocenterError:
            return replace(instance, object_key=key)
        return replace(
            instance,
            object_key=key,
            size=made.size,
            pixel_offset=None if instance.pixel_offset is None else instance.pixel_offset + made.longer,
        )

    async def get(self, key: str) -> bytes:
        if not isinstance(key, PresentedKey):
            return await self.inner.get(key)
        return b"".join([piece async for piece in self.stream(key)])

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        if not isinstance(key, PresentedKey):
            return await self.inner.read_range(key, start, length)
        return b"".join([piece async for piece in self.stream(key, start, length)])

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        if not isinstance(key, PresentedKey):
            async for content in self.inner.stream(key, start, length, chunk_bytes):
                yield content
            return
        made = await self._make(key)
        stop = made.size if length is None else min(start + length, made.size)
        at = 0
        for piece in made.pieces:
            size = len(piece) if isinstance(piece, bytes) else piece.length
            first, last = max(start - at, 0), min(stop - at, size)
            at += size
            if first >= last:
                continue
            if isinstance(piece, bytes):
                for part in range(first, last, chunk_bytes):
                    yield piece[part : min(part + chunk_bytes, last)]
                continue
            where, count = piece.offset + first, last - first
            async for content in self.inner.stream(key.stored.object_key, where, count, chunk_bytes):
                yield content

    async def _make(self, key: PresentedKey) -> _Made:
        """Raises what reading raises; Conflict where it cannot be rewritten."""
        known = self._made.get(key)
        if known is not None:
            self._made.move_to_end(key)
            return known
        stored = key.stored
        if stored.pixel_offset is None:
            made = await self._without_pixels(stored)
        else:
            made = await self._with_pixels(stored, stored.pixel_offset)
        self._keep(key, made)
        return made

    async def _with_pixels(self, stored: StoredInstance, pixel_offset: int) -> _Made:
        data = await read_bytes(self.inner, stored, 0, pixel_offset)
        if len(data) > _INLINE_BYTES_MAX:
            pieces = await asyncio.to_thread(_beginning, data, stored)
        else:
            pieces = _beginning(data, stored)
        return _made(stored, [*pieces, BulkRange(pixel_offset, stored.size - pixel_offset)])

    async def _without_pixels(self, stored: StoredInstance) -> _Made:
        file_header = await read_bytes(self.inner, stored, 0, stored.header_size)
        encoding = encoding_of(stored.transfer_syntax_uid)
        copied = is_deflated(stored.transfer_syntax_uid) or encoding.big_endian
        if copied and stored.size > _COPIED_BYTES_MAX:
            raise Conflict(
                f"SOP instance {stored.sop_instance_uid} is too large to be given the patient it has now.",
                code="patient-not-replaced",
                remedy="Undo the merge or the correction to get it as it was received.",
            )
        pieces = await with_whole(self.inner, stored, lambda data: _data_set(data, stored))
        return _made(stored, [file_header, *pieces])

    def _keep(self, key: PresentedKey, made: _Made) -> None:
        if key in self._made or made.kept_bytes > _KEPT_BYTES_MAX // 4:
            return
        self._made[key] = made
        self._kept_bytes += made.kept_bytes
        while self._kept_bytes > _KEPT_BYTES_MAX:
            _, oldest = self._made.popitem(last=False)
            self._kept_bytes -= oldest.kept_bytes

    # --- as the other store does it --------------------------------------------------------------------

    async def put(self, key: str, body: Body) -> PutOutcome:
        return await self.inner.put(key, body)

    async def stat(self, key: str) -> ObjectInfo | None:
        return await self.inner.stat(key)

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        return await self.inner.delete(key, unmodified_since=unmodified_since)

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self.inner.list(prefix)

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        return await self.inner.signed_url(key, expires_s=expires_s)

    def local_path(self, key: str) -> Path | None:
        return None if isinstance(key, PresentedKey) else self.inner.local_path(key)

    async def health(self) -> StoreHealth:
        return await self.inner.health()

    async def close(self) -> None:
        await self.inner.close()


async def find_instances(
    database: Database, store: ObjectStore, organization_id: int, *uids: str
) -> list[StoredInstance]:
    """As `find_stored` (``uids``: study, series, instance), as they leave: to be read from ``store``.

    For an answer that is all of them or none: raises Conflict where one of them cannot be given the patient
    it has now.
    """
    leaving = await presented(store, await find_stored(database, organization_id, *uids))
    for one in leaving:
        if isinstance(one.object_key, PresentedKey) and one.object_key.refusal:
            raise one.object_key.refusal
    return leaving


async def presented(store: ObjectStore, instances: Sequence[StoredInstance]) -> list[StoredInstance]:
    """The instances as they leave, in their order; what cannot be rewritten says so when it is read.
    ``store`` must be a `PresentingStore`."""
    if not any(one.patient for one in instances):
        return list(instances)
    if not isinstance(store, PresentingStore):
        raise InternalError("These objects must not leave with the patient whom they name.")
    places = asyncio.Semaphore(_AT_ONCE)

    async def present(one: StoredInstance) -> StoredInstance:
        if not one.patient:
            return one
        async with places:
            return await store.present(one)

    return await asyncio.gather(*map(present, instances))


def _key_of(instance: StoredInstance) -> PresentedKey:
    digest = blake2b(f"{EDITION}\n{instance.patient}".encode(), digest_size=8).hexdigest()
    key = PresentedKey(f"{instance.object_key}.{digest}")
    key.stored, key.refusal = instance, None
    return key


def _made(stored: StoredInstance, pieces: Pieces) -> _Made:
    size = sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)
    return _Made(pieces, size, size - stored.size)


def _beginning(data: bytes, stored: StoredInstance) -> Pieces:
    """File header and data set, with Pixel Data's own header. Raises Conflict."""
    return [data[: stored.header_size], *_data_set(data[stored.header_size :], stored)]


def _data_set(data: Buffer, stored: StoredInstance) -> Pieces:
    """All of the data set, or what stands before the pixels. Raises Conflict."""
    try:
        return _rewritten(data, stored)
    except (
        Exception
    ) as error:  # whatever a damaged header makes of our code, the others of its study must leave
        log.warning(
            "Patient not replaced: the object cannot leave",
            instance=stored.sop_instance_uid,
            reason=type(error).__name__,  # its text may quote the header
        )
        raise _unreadable(stored) from error.with_traceback(None)  # its frames point into a mapped file


def _rewritten(data: Buffer, stored: StoredInstance) -> Pieces:
    syntax = stored.transfer_syntax_uid
    patient = PatientInstead.read(stored.patient)
    if is_deflated(syntax):
        return [write_dataset(reconciled(read_dataset(data, syntax), patient), syntax)]
    pieces = pieces_of(
        data,
        syntax,
        syntax,
        before_pixel_data=stored.pixel_offset is not None,
        change=lambda elements: reconciled(elements, patient),
    )
    within = [
        piece if isinstance(piece, bytes) else replace(piece, offset=stored.header_size + piece.offset)
        for piece in pieces
    ]
    return within if stored.pixel_offset is None else [*within, _pixel_header(data, syntax)]


def _pixel_header(data_set: Buffer, syntax: str) -> bytes:
    """Tag, VR and length, as they stand right before the pixels."""
    encoding = encoding_of(syntax)
    order = "big" if encoding.big_endian else "little"
    for size in (_PIXEL_HEADER_BYTES[encoding.implicit_vr], 12, 8):
        header = bytes(data_set[-size:])
        group, number = (int.from_bytes(header[at : at + 2], order) for at in (0, 2))  # type: ignore[arg-type]
        if group == 0x7FE0 and number in {0x0008, 0x0009, 0x0010}:
            return header
    raise InternalError("Pixel Data does not begin where the index says.")


def _unreadable(stored: StoredInstance) -> Conflict:
    return Conflict(
        f"The object of SOP instance {stored.sop_instance_uid} cannot be read: the patient it has now cannot "
        "be written into it.",
        code="patient-not-replaced",
        remedy="Undo the merge or the correction to get it as it was received.",
    )
