"""Encryption at rest: another store, whose objects are written and read through AES-256-GCM.

An object ``1/ab/ab54…`` lies in the store underneath as ``1/ab/ab54….iso1``, in the format of ``sealing.py``.
The suffix is what tells encrypted objects from plain ones: an archive that was filled before encryption was
switched on goes on being read, and ``encrypt`` rewrites its objects one by one. Names, sizes and times of
objects stay visible to whoever sees the store; names are digests.

Equal sizes of plain objects are equal sizes of sealed ones, so that the store underneath keeps the promises
of ``put`` as they are: a repetition is ``EXISTED``, another size a Conflict.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

from isocenter.kit.errors import InternalError, InvalidInput, NotFound, Unsupported
from isocenter.platform.storage.interface import (
    Body,
    InMemory,
    ObjectInfo,
    ObjectStore,
    OnDisk,
    PutOutcome,
    StoreHealth,
)
from isocenter.platform.storage.keys import check_key, check_prefix, check_range
from isocenter.platform.storage.os_errors import storage_error
from isocenter.platform.storage.sealing import (
    HEADER_BYTES,
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    DataKey,
    Header,
    Segments,
    damaged,
    new_header,
    plain_size,
    read_header,
    seal,
    segments_of,
)
from isocenter.platform.storage.signing import check_expiry
from isocenter.platform.storage.threads import IoThreads

SUFFIX = ".iso1"
_SEALING_AT_ONCE = 16  # each holds a second copy of one object that the spool's budget has let in
_WINDOW_SEGMENTS = 16
_SPOOL_READ_BYTES = 16 * SEGMENT_BYTES


class KeyDestroyed(NotFound):
    """The key that encrypts the object was destroyed on purpose; nobody can read it any more."""

    default_code = "data-key-destroyed"


class DataKeys(Protocol):
    """The data keys of the organisations; an object's key begins with the organisation's number."""

    async def active(self, object_key: str) -> DataKey:
        """The key for a new object. Raises KeyDestroyed where the organisation's keys were destroyed."""
        ...

    async def find(self, object_key: str, key_id: bytes) -> DataKey:
        """The key that the header of an object names.

        Raises KeyDestroyed; InternalError (``data-key-unknown``) for one that this archive never made.
        """
        ...


class EncryptedStore:
    """``inner`` with encryption over it. With ``seal_new=False`` new objects are left plain: for an archive
    whose encryption was switched off, and which still holds encrypted ones."""

    def __init__(
        self, inner: ObjectStore, keys: DataKeys, *, seal_new: bool = True, io_threads: int = 4
    ) -> None:
        self.inner = inner
        self._keys = keys
        self._seal_new = seal_new
        self._threads = IoThreads(io_threads, "isocenter-sealing")
        self._sealing = asyncio.Semaphore(_SEALING_AT_ONCE)

    # --- writing -----------------------------------------------------------------------------------------

    async def put(self, key: str, body: Body) -> PutOutcome:
        name = sealed_name(key)
        if not self._seal_new:
            return await self.inner.put(key, body)
        data_key = await self._keys.active(key)
        async with self._sealing:
            outcome = await self._seal_and_put(name, data_key, key, body)
            if outcome is PutOutcome.EXISTED and not await self._is_readable(name, key):
                # Its key was destroyed. A sender must not hear that an object is safe that nobody can read.
                await self.inner.delete(name)
                outcome = await self._seal_and_put(name, data_key, key, body)
        if isinstance(body, OnDisk):
            await self._threads.run(body.path.unlink)
        return outcome

    async def _seal_and_put(self, name: str, data_key: DataKey, key: str, body: Body) -> PutOutcome:
        if isinstance(body, InMemory):
            sealed = await self._threads.run(_seal_buffers, data_key, key, body)
            return await self.inner.put(name, InMemory(sealed))
        # Beside the spooled file, under a name that the spool's own cleaning after a crash knows.
        beside = body.path.with_name(f"{body.path.stem}-sealed{body.path.suffix}")
        try:
            await self._threads.run(_seal_file, data_key, key, body.path, beside)
            return await self.inner.put(name, OnDisk(beside))
        except FileNotFoundError as error:
            raise InternalError(
                "the spooled file of an object has disappeared", code="spool-file-missing"
            ) from error
        except OSError as error:
            raise storage_error(error, "encrypting an object") from error
        finally:
            await self._threads.run(beside.unlink, missing_ok=True)

    async def _is_readable(self, name: str, key: str) -> bool:
        header = read_header(await self.inner.read_range(name, 0, HEADER_BYTES), key)
        try:
            await self._keys.find(key, header.key_id)
        except KeyDestroyed:
            return False
        return True

    async def encrypt(self, key: str, beside: Path) -> bool:
        """Rewrite one plain object by way of the file ``beside``, which holds ciphertext only and is gone
        afterwards. False where there is no plain object.

        The plain one goes only after the encrypted one was read back whole: at any moment one of both can be
        read. Raises ObjectDamaged, and leaves both, where that fails.
        """
        present = await self.inner.stat(check_key(key))
        if present is None:
            return False
        name = sealed_name(key)
        if await self.inner.stat(name) is None:
            try:
                await self._seal_stored(key, present.size, beside)
                await self.inner.put(name, OnDisk(beside))
            finally:
                await self._threads.run(beside.unlink, missing_ok=True)
        read_back = 0
        async for piece in self.stream(key):
            read_back += len(piece)
        if read_back != present.size:
            raise damaged(key, "it is not as long as the plain object beside it")
        await self.inner.delete(key)
        return True

    async def _seal_stored(self, key: str, size: int, target: Path) -> None:
        data_key = await self._keys.active(key)
        segments = Segments(new_header(data_key, size), data_key.secret, key)
        await self._threads.run(_append, target, segments.header.encoded())
        for first in range(0, segments_of(size), _WINDOW_SEGMENTS):
            plain = await self.inner.read_range(key, first * SEGMENT_BYTES, _WINDOW_SEGMENTS * SEGMENT_BYTES)
            await self._threads.run(_append_sealed, target, segments, first, plain)

    async def plain_objects(self) -> AsyncIterator[ObjectInfo]:
        """What is not encrypted yet."""
        async for info in self.inner.list():
            if not info.key.endswith(SUFFIX):
                yield info

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        name = sealed_name(key)
        if await self.inner.delete(name, unmodified_since=unmodified_since):
            await self.inner.delete(key, unmodified_since=unmodified_since)
            return True
        if unmodified_since is not None and await self.inner.stat(name) is not None:
            return False  # put again meanwhile
        return await self.inner.delete(key, unmodified_since=unmodified_since)

    # --- reading -----------------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes:
        name = sealed_name(key)
        try:
            sealed = await self.inner.get(name)
        except NotFound:
            try:
                return await self.inner.get(key)
            except NotFound:
                sealed = await self.inner.get(name)  # encrypted between the two looks, or not there
        segments = await self._segments(key, read_header(sealed, key))
        return await self._threads.run(_open_whole, segments, sealed, key)

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        header = await self._header(key)
        if header is None:
            try:
                return await self.inner.read_range(key, start, length)
            except NotFound:
                header = await self._header(key)  # encrypted between the two looks, or not there
                if header is None:
                    raise
        segments = await self._segments(key, header)
        stop = min(start + length, header.size)
        if start >= stop:
            return b""
        first, last = start // SEGMENT_BYTES, (stop - 1) // SEGMENT_BYTES
        offset, count = segments.sealed_range(first, last)
        sealed = await self.inner.read_range(sealed_name(key), offset, count)
        if len(sealed) != count:
            raise damaged(key, "it is cut short")
        plain = b"".join(await self._threads.run(segments.open_all, first, sealed))
        return plain[start - first * SEGMENT_BYTES : stop - first * SEGMENT_BYTES]

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        check_range(start, length)
        header = await self._header(key)
        if header is None:
            try:
                async for piece in self.inner.stream(key, start, length, chunk_bytes):
                    yield piece
                    start += len(piece)
                    length = None if length is None else length - len(piece)
                return
            except NotFound:
                header = await self._header(key)  # encrypted while it was read, or not there
                if header is None:
                    raise
        segments = await self._segments(key, header)
        stop = header.size if length is None else min(start + length, header.size)
        if start > stop or (start == stop and header.size):
            return
        async for plain in self._opened(key, segments, start, stop):
            for offset in range(0, len(plain), chunk_bytes):
                yield plain[offset : offset + chunk_bytes]

    async def _opened(self, key: str, segments: Segments, start: int, stop: int) -> AsyncIterator[bytes]:
        """The plain bytes from ``start`` to ``stop``, a window at a time."""
        first, last = start // SEGMENT_BYTES, max(start, stop - 1) // SEGMENT_BYTES
        offset, count = segments.sealed_range(first, last)
        window_bytes = _WINDOW_SEGMENTS * SEALED_SEGMENT_BYTES
        waiting = bytearray()
        skipped = start - first * SEGMENT_BYTES
        position = first * SEGMENT_BYTES
        pieces = self.inner.stream(sealed_name(key), offset, count, window_bytes)
        async for piece in pieces:
            waiting += piece
            count -= len(piece)
            if len(waiting) < window_bytes and count:
                continue
            whole = len(waiting) if not count else len(waiting) // SEALED_SEGMENT_BYTES * SEALED_SEGMENT_BYTES
            window, waiting = bytes(waiting[:whole]), waiting[whole:]
            plain = b"".join(await self._threads.run(segments.open_all, position // SEGMENT_BYTES, window))
            reached = position + len(plain)
            yield plain[skipped : len(plain) - max(0, reached - stop)]
            position, skipped = reached, 0
        if count:
            raise damaged(key, "it is cut short")

    async def stat(self, key: str) -> ObjectInfo | None:
        sealed = await self.inner.stat(sealed_name(key))
        if sealed is None:
            return await self.inner.stat(key)
        return ObjectInfo(key, plain_size(sealed.size), sealed.modified_at)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in self.inner.list(check_prefix(prefix)):
            if info.key.endswith(SUFFIX):
                yield ObjectInfo(info.key.removesuffix(SUFFIX), plain_size(info.size), info.modified_at)
            elif await self.inner.stat(info.key + SUFFIX) is None:  # else it is listed under that name
                yield info

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        check_key(key)
        check_expiry(expires_s)
        raise Unsupported(
            "an encrypted object store hands out no links: whoever follows one would get ciphertext",
            code="encrypted-store-unsigned",
            remedy="Retrieve the object through this server, which decrypts it.",
        )

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    async def health(self) -> StoreHealth:
        return await self.inner.health()

    async def close(self) -> None:
        await self._threads.close()
        await self.inner.close()

    async def _header(self, key: str) -> Header | None:
        """None where the object is plain, or not there at all."""
        try:
            raw = await self.inner.read_range(sealed_name(key), 0, HEADER_BYTES)
        except NotFound:
            return None
        return read_header(raw, key)

    async def _segments(self, key: str, header: Header) -> Segments:
        data_key = await self._keys.find(key, header.key_id)
        return Segments(header, data_key.secret, key)


def sealed_name(key: str) -> str:
    """Where the store underneath keeps the object. Raises InvalidInput."""
    if key.endswith(SUFFIX):
        raise InvalidInput(
            f"{key[:80]!r} cannot be an object's key: {SUFFIX} marks encrypted objects",
            code="invalid-object-key",
            remedy="Choose a key that ends otherwise.",
        )
    return check_key(check_key(key) + SUFFIX)


def _seal_buffers(data_key: DataKey, key: str, body: InMemory) -> list[bytes]:
    size = sum(memoryview(buffer).nbytes for buffer in body.buffers)
    header = new_header(data_key, size)
    return [*seal(Segments(header, data_key.secret, key), body.buffers)]


def _seal_file(data_key: DataKey, key: str, source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as plain:
        size = os.fstat(plain.fileno()).st_size
        segments = Segments(new_header(data_key, size), data_key.secret, key)
        with open(target, "xb", opener=_private) as sealed:
            sealed.writelines(seal(segments, iter(lambda: plain.read(_SPOOL_READ_BYTES), b"")))


def _append(target: Path, piece: bytes) -> None:
    with open(target, "ab", opener=_private) as sealed:
        sealed.write(piece)


def _append_sealed(target: Path, segments: Segments, first: int, plain: bytes) -> None:
    with open(target, "ab", opener=_private) as sealed:
        sealed.writelines(
            segments.seal(number, plain[offset : offset + SEGMENT_BYTES])
            for number, offset in enumerate(range(0, max(1, len(plain)), SEGMENT_BYTES), first)
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _open_whole(segments: Segments, sealed: bytes, key: str) -> bytes:
    body = memoryview(sealed)[HEADER_BYTES:]
    if len(body) != sum(segments.sealed_range(0, segments_of(segments.header.size) - 1)) - HEADER_BYTES:
        raise damaged(key, "it is cut short or has grown")
    return b"".join(segments.open_all(0, body))
