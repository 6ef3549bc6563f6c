"""Objects in a folder of this machine (or of a mount that has hard links)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import IsocenterError
from isocenter.platform.storage.folder import Folder
from isocenter.platform.storage.interface import Body, InMemory, ObjectInfo, PutOutcome, StoreHealth
from isocenter.platform.storage.keys import check_key, check_prefix, check_range
from isocenter.platform.storage.os_errors import storage_error
from isocenter.platform.storage.signing import UrlSigner
from isocenter.platform.storage.threads import IoThreads

P = ParamSpec("P")
R = TypeVar("R")

LISTED_AT_ONCE = 512


class LocalStore:
    """The embedded default; :mod:`~isocenter.platform.storage.folder` says how it keeps its promises.

    Several processes may share one root. ``url_base`` and ``signing_key`` (16 bytes or more) are needed for
    ``signed_url`` only.
    """

    def __init__(
        self,
        root: Path,
        *,
        url_base: str | None = None,
        signing_key: bytes | None = None,
        io_threads: int = 8,
        clock: Clock | None = None,
    ) -> None:
        """Makes the folder. Raises Unavailable, with the remedy, when it cannot."""
        self._clock = clock or SystemClock()
        self._started_at = datetime.now(UTC)  # compared with the file system's times, so not the clock's
        self._signer = UrlSigner(url_base, signing_key)
        self._folder = Folder(root)
        try:
            self._folder.prepare()
        except OSError as error:
            raise storage_error(error, f"making the archive's folder {root}") from error
        self._threads = IoThreads(io_threads, "isocenter-storage")

    @property
    def incoming(self) -> Path:
        """Where to spool what shall become an object: from here ``put`` moves it without a copy,
        and ``recover`` removes what a crash leaves behind."""
        return Path(self._folder.incoming)

    async def recover(self, *, older_than: datetime | None = None) -> int:
        """Removes half-written files of an earlier life; how many. To be called before the first ``put``.

        By default those last written before this store was made. Where other processes share the root, give
        an hour that nothing still being written can precede.
        """
        return await self._run(
            "clearing the incoming folder", self._folder.clear_incoming, older_than or self._started_at
        )

    async def put(self, key: str, body: Body) -> PutOutcome:
        check_key(key)
        if isinstance(body, InMemory):
            return await self._run("writing an object", self._folder.place_buffers, key, body.buffers)
        return await self._run("writing an object", self._folder.place_file, key, os.fspath(body.path))

    async def get(self, key: str) -> bytes:
        return await self._read(key, 0, None)

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        return await self._read(key, start, length)

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        remaining = length
        while remaining is None or remaining > 0:
            wanted = chunk_bytes if remaining is None else min(chunk_bytes, remaining)
            piece = await self._read(key, start, wanted)
            if piece:
                yield piece
            if len(piece) < wanted:
                return
            start += wanted
            remaining = None if remaining is None else remaining - wanted

    async def stat(self, key: str) -> ObjectInfo | None:
        return await self._run("looking at an object", self._folder.stat, check_key(key))

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        return await self._run("deleting an object", self._folder.remove, check_key(key), unmodified_since)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        walker = self._folder.walk(check_prefix(prefix))
        try:
            while found := await self._run("listing objects", lambda: [*islice(walker, LISTED_AT_ONCE)]):
                for info in found:
                    yield info
        finally:
            walker.close()

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        return self._signer.sign(check_key(key), expires_s=expires_s, now=self._clock.now())

    def verify_signature(self, key: str, expires: int, signature: str, now: datetime) -> bool:
        """Whether ``signed_url`` gave out that link and it is still valid; for the HTTP door."""
        return self._signer.verify(key, expires, signature, now)

    def local_path(self, key: str) -> Path | None:
        return Path(f"{self._folder.root}/{check_key(key)}")

    async def health(self) -> StoreHealth:
        try:
            free_bytes = await self._run("testing the archive's folder", self._folder.probe)
        except IsocenterError as error:
            return StoreHealth(ok=False, problem=f"{error.detail}. {error.remedy}")
        return StoreHealth(ok=True, free_bytes=free_bytes)

    async def close(self) -> None:
        await self._threads.close()

    async def _read(self, key: str, start: int, length: int | None) -> bytes:
        check_range(start, length)
        return await self._run("reading an object", self._folder.read_range, check_key(key), start, length)

    async def _run(self, doing: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await self._threads.run(work, *args, **kwargs)
        except OSError as error:
            raise storage_error(error, doing) from error
