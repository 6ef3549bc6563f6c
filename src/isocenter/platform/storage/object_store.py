"""Objects in a bucket: S3 and what speaks it (R2, MinIO, Ceph), Google Cloud Storage, Azure, by obstore.

How the promises of :mod:`~isocenter.platform.storage.interface` are kept:

* *Create-only*: a conditional PUT (``If-None-Match: *``). Multipart uploads know no condition, so a large
  file is preceded by a look whether the key is free; of two that upload it at the same moment the last one
  stands. With content addresses both are the same bytes.
* *Renewal*: who is told ``EXISTED`` must be able to rely on the object, which a sweep may be about to delete
  as old. An object older than ``RENEW_AFTER`` is copied away and back (S3 refuses to copy an object onto
  itself), which sets its time; so a sweep may only take what is at least twice as old.
* *Deletion* of what is old looks and deletes in two requests: no service deletes on condition of a time.
  The renewal by others in between (milliseconds) is the one gap that a local folder does not have.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import Conflict, InternalError, IsocenterError, NotFound, Unavailable
from isocenter.platform.storage.bucket_errors import ANY_FAILURE, MISSING, bucket_error
from isocenter.platform.storage.interface import Body, InMemory, ObjectInfo, OnDisk, PutOutcome, StoreHealth
from isocenter.platform.storage.keys import check_key, check_prefix, check_range
from isocenter.platform.storage.signing import check_expiry

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

    Bucket = AzureStore | GCSStore | S3Store

MULTIPART_FROM_BYTES = 16 << 20
PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4  # with PART_BYTES: the memory that one upload takes
PARTS_MAX = 10_000  # S3's limit
COPY_BYTES_MAX = 5 << 30  # S3's limit for one copy request
WINDOW_BYTES = 8 << 20  # what one request of a stream fetches; two windows are in memory at once
RENEW_AFTER = timedelta(hours=1)
PUT_ATTEMPTS_MAX = 3
HEALTH_TIMEOUT_S = 10
LISTED_AT_ONCE = 1000


class BucketStore:
    """``public`` is the same bucket under the address that browsers reach; links are signed for it.
    ``renew_after`` is the age from which a repeated ``put`` renews an object.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        public: Bucket | None = None,
        clock: Clock | None = None,
        renew_after: timedelta = RENEW_AFTER,
    ) -> None:
        self._bucket = bucket
        self._public = public or bucket
        self._clock = clock or SystemClock()
        self._renew_after = renew_after

    async def put(self, key: str, body: Body) -> PutOutcome:
        check_key(key)
        if isinstance(body, InMemory):
            return await self._create(key, _join(body))
        outcome = await self._put_file(key, body)
        await asyncio.to_thread(body.path.unlink)
        return outcome

    async def _put_file(self, key: str, body: OnDisk) -> PutOutcome:
        try:
            size = (await asyncio.to_thread(body.path.stat)).st_size
        except FileNotFoundError as error:
            raise InternalError(
                "the spooled file of an object has disappeared", code="spool-file-missing"
            ) from error
        if size < MULTIPART_FROM_BYTES:
            return await self._create(key, await asyncio.to_thread(body.path.read_bytes))
        if await self._renew(key, size):
            return PutOutcome.EXISTED
        try:
            await obstore.put_async(
                self._bucket,
                key,
                body.path,
                use_multipart=True,
                chunk_size=max(PART_BYTES, -(-size // PARTS_MAX)),
                max_concurrency=PARTS_AT_ONCE,
            )
        except ANY_FAILURE as error:
            raise _not_written(error) from error
        return PutOutcome.CREATED

    async def _create(self, key: str, data: bytes) -> PutOutcome:
        for _ in range(PUT_ATTEMPTS_MAX):
            try:
                await obstore.put_async(self._bucket, key, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                if await self._renew(key, len(data)):  # false: deleted since, so the key is free again
                    return PutOutcome.EXISTED
            except ANY_FAILURE as error:
                raise _not_written(error) from error
            else:
                return PutOutcome.CREATED
        raise Unavailable(
            f"{key} is being written and deleted at the same time", code="storage-contention", retry_after_s=1
        )

    async def _renew(self, key: str, size: int) -> bool:
        """Whether the object is there; if so, no sweep takes it for old when this returns."""
        present = await self.stat(key)
        if present is None:
            return False
        if present.size != size:
            raise Conflict(
                f"{key} is taken by an object of {present.size} bytes, not {size}",
                code="object-size-differs",
                remedy="Run `isocenter storage check`: the stored object may have been damaged.",
            )
        if self._clock.now() - present.modified_at < self._renew_after:
            return True
        try:
            await self._rewrite(key, size)
        except MISSING:
            return False
        except ANY_FAILURE as error:
            raise bucket_error(error, "renewing an object") from error
        return True

    async def _rewrite(self, key: str, size: int) -> None:
        if size > COPY_BYTES_MAX:
            contents = await obstore.get_async(self._bucket, key)
            await obstore.put_async(
                self._bucket,
                key,
                contents,
                chunk_size=max(PART_BYTES, -(-size // PARTS_MAX)),
                max_concurrency=PARTS_AT_ONCE,
            )
            return
        beside = f".renew/{secrets.token_hex(16)}"
        await obstore.copy_async(self._bucket, key, beside)
        try:
            await obstore.copy_async(self._bucket, beside, key)
        finally:
            await obstore.delete_async(self._bucket, beside)

    async def get(self, key: str) -> bytes:
        check_key(key)
        try:
            result = await obstore.get_async(self._bucket, key)
            return bytes(await result.bytes_async())
        except ANY_FAILURE as error:
            raise _not_read(error, key) from error

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        check_key(key)
        if length == 0:
            return await self._nothing_from(key, None)
        try:
            return bytes(await obstore.get_range_async(self._bucket, key, start=start, length=length))
        except MISSING as error:
            raise _not_read(error, key) from error
        except ANY_FAILURE as error:
            # A range that starts behind the end is a 416, which obstore does not tell from other refusals.
            with suppress(Unavailable):
                return await self._nothing_from(key, start)
            raise _not_read(error, key) from error

    async def _nothing_from(self, key: str, start: int | None) -> bytes:
        """No bytes, when the object is there and ends at or before ``start``."""
        present = await self.stat(key)
        if present is None:
            raise NotFound(f"no object is stored as {key}", code="object-not-found")
        if start is not None and start < present.size:
            raise Unavailable("the object store did not give the range it has", code="storage-unavailable")
        return b""

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        """Fetches one window ahead; each is a request of its own, so a slow reader holds no connection."""
        check_range(start, length)
        stop = None if length is None else start + length
        ahead: asyncio.Task[bytes] | None = self._fetch(key, start, stop)
        try:
            while ahead is not None:
                wanted = _window(start, stop)
                window = await ahead
                start += len(window)
                more = len(window) == wanted and start != stop
                ahead = self._fetch(key, start, stop) if more else None
                for offset in range(0, len(window), chunk_bytes):
                    yield window[offset : offset + chunk_bytes]
        finally:
            if ahead is not None:
                ahead.cancel()
                with suppress(asyncio.CancelledError, IsocenterError):
                    await ahead

    def _fetch(self, key: str, start: int, stop: int | None) -> asyncio.Task[bytes]:
        return asyncio.create_task(self.read_range(key, start, _window(start, stop)))

    async def stat(self, key: str) -> ObjectInfo | None:
        check_key(key)
        try:
            meta = await obstore.head_async(self._bucket, key)
        except MISSING:
            return None
        except ANY_FAILURE as error:
            raise bucket_error(error, "looking at an object") from error
        return ObjectInfo(key, meta["size"], meta["last_modified"].astimezone(UTC))

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        present = await self.stat(key)
        if present is None or (unmodified_since is not None and present.modified_at > unmodified_since):
            return False
        try:
            await obstore.delete_async(self._bucket, key)
        except MISSING:
            return False
        except ANY_FAILURE as error:
            raise bucket_error(error, "deleting an object") from error
        return True

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        folder = check_prefix(prefix)
        try:
            async for found in obstore.list(self._bucket, folder or None, chunk_size=LISTED_AT_ONCE):
                for meta in found:
                    if not meta["path"].startswith("."):
                        yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"].astimezone(UTC))
        except ANY_FAILURE as error:
            raise bucket_error(error, "listing objects") from error

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        check_key(key)
        check_expiry(expires_s)
        try:
            return await obstore.sign_async(self._public, "GET", key, timedelta(seconds=expires_s))
        except ANY_FAILURE as error:
            raise bucket_error(error, "signing a link") from error

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    async def health(self) -> StoreHealth:
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                await self._probe()
        except TimeoutError:
            return StoreHealth(
                ok=False,
                problem=f"The object store did not answer within {HEALTH_TIMEOUT_S} s: "
                "look at its state and at the network in between.",
            )
        except ANY_FAILURE as error:
            refusal = bucket_error(error, "testing the object store")
            return StoreHealth(ok=False, problem=f"{refusal.detail}. {refusal.remedy}")
        return StoreHealth(ok=True)

    async def _probe(self) -> None:
        key = f".health/{secrets.token_hex(16)}"
        await obstore.put_async(self._bucket, key, b"probe", use_multipart=False)
        try:
            await (await obstore.get_async(self._bucket, key)).bytes_async()
        finally:
            await obstore.delete_async(self._bucket, key)

    async def close(self) -> None:
        """obstore closes its connections by itself; there is nothing to wait for."""


def _join(body: InMemory) -> bytes:
    """One immutable buffer: obstore reads it in its own threads, even a moment after a cancellation."""
    if len(body.buffers) == 1 and isinstance(body.buffers[0], bytes):
        return body.buffers[0]
    return b"".join(body.buffers)


def _window(start: int, stop: int | None) -> int:
    return WINDOW_BYTES if stop is None else min(WINDOW_BYTES, stop - start)


def _not_written(error: BaseException) -> IsocenterError:
    return bucket_error(error, "writing an object")


def _not_read(error: BaseException, key: str) -> IsocenterError:
    if isinstance(error, MISSING) and "NoSuchBucket" not in str(error):
        return NotFound(f"no object is stored as {key}", code="object-not-found")
    return bucket_error(error, "reading an object")
