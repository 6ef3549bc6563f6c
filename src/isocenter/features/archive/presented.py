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

from isocenter.dicom.dataset import encoding_of, read_dataset, write_dataset
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
_WITHOUT_PIXELS_BYTES_MAX = 64 << 20
"""An object without Pixel Data is rewritten as a whole, in memory."""
_KEPT_BYTES_MAX = 32 << 20
_PIXEL_HEADER_BYTES = {True: 8, False: 12}  # implicit and explicit VR (PS3.5 §7.1)


class PresentedKey(str):
    """What a presented object is called; it knows what it is made of, and why it cannot leave."""

    __slots__ = ("refusal", "stored")
    stored: StoredInstance
    refusal: Conflict | None


@dataclass(frozen=True, slots=True)
class _Head:
    """``content`` stands in for the first ``replaced`` bytes of the stored object."""

    content: bytes
    replaced: int


class PresentingStore:
    """Another store's objects, and those that are presented."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self._heads: OrderedDict[str, _Head] = OrderedDict()
        self._kept_bytes = 0

    async def present(self, instance: StoredInstance) -> StoredInstance:
        """The instance as it leaves. One that cannot be rewritten says so when it is read: never is it given
        out with the wrong patient."""
        key = _key_of(instance)
        try:
            head = await self._head(key)
        except Conflict as refusal:
            key.refusal = refusal
            return replace(instance, object_key=key)
        except IsocenterError:
            return replace(instance, object_key=key)
        longer = len(head.content) - head.replaced
        return replace(
            instance,
            object_key=key,
            size=instance.size + longer,
            pixel_offset=None if instance.pixel_offset is None else instance.pixel_offset + longer,
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
            async for piece in self.inner.stream(key, start, length, chunk_bytes):
                yield piece
            return
        head = await self._head(key)
        if start < len(head.content):
            beginning = head.content[start : None if length is None else start + length]
            for at in range(0, len(beginning), chunk_bytes):
                yield beginning[at : at + chunk_bytes]
            start += len(beginning)
            length = None if length is None else length - len(beginning)
        behind = head.replaced + start - len(head.content)
        if length == 0 or behind >= key.stored.size:
            return
        async for piece in self.inner.stream(key.stored.object_key, behind, length, chunk_bytes):
            yield piece

    async def _head(self, key: PresentedKey) -> _Head:
        """Raises what reading raises; Conflict where it cannot be rewritten."""
        known = self._heads.get(key)
        if known is not None:
            self._heads.move_to_end(key)
            return known
        stored = key.stored
        if stored.pixel_offset is None and stored.size > _WITHOUT_PIXELS_BYTES_MAX:
            raise Conflict(
                f"SOP instance {stored.sop_instance_uid} is too large to be given the patient it has now.",
                code="patient-not-replaced",
                remedy="Undo the merge or the correction to get it as it was received.",
            )
        replaced = stored.size if stored.pixel_offset is None else stored.pixel_offset
        data = await read_bytes(self.inner, stored, 0, replaced)
        if len(data) > _INLINE_BYTES_MAX:
            content = await asyncio.to_thread(_rewritten, data, stored)
        else:
            content = _rewritten(data, stored)
        head = _Head(content, replaced)
        self._keep(key, head)
        return head

    def _keep(self, key: PresentedKey, head: _Head) -> None:
        if key in self._heads or len(head.content) > _KEPT_BYTES_MAX // 4:
            return
        self._heads[key] = head
        self._kept_bytes += len(head.content)
        while self._kept_bytes > _KEPT_BYTES_MAX:
            _, oldest = self._heads.popitem(last=False)
            self._kept_bytes -= len(oldest.content)

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


def _rewritten(data: bytes, stored: StoredInstance) -> bytes:
    """The object's beginning: file header, data set, and Pixel Data's own header where it has such.

    Raises Conflict.
    """
    file_header, data_set = data[: stored.header_size], data[stored.header_size :]
    try:
        return file_header + _rewritten_data_set(data_set, stored)
    except (
        Exception
    ) as error:  # whatever a damaged header makes of our code, the others of its study must leave
        log.warning(
            "Patient not replaced: the object cannot leave",
            instance=stored.sop_instance_uid,
            reason=type(error).__name__,  # its text may quote the header
        )
        raise _unreadable(stored) from error


def _rewritten_data_set(data_set: bytes, stored: StoredInstance) -> bytes:
    syntax = stored.transfer_syntax_uid
    with_pixels = stored.pixel_offset is not None
    elements = read_dataset(data_set, syntax, stop_before_pixel_data=with_pixels)
    written = write_dataset(reconciled(elements, PatientInstead.read(stored.patient)), syntax)
    return written + (_pixel_header(data_set, syntax) if with_pixels else b"")


def _pixel_header(data_set: bytes, syntax: str) -> bytes:
    """Tag, VR and length, as they stand right before the pixels."""
    encoding = encoding_of(syntax)
    order = "big" if encoding.big_endian else "little"
    for size in (_PIXEL_HEADER_BYTES[encoding.implicit_vr], 12, 8):
        header = data_set[-size:]
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
