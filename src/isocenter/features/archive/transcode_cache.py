"""Transcoded objects that were asked for once, on this machine's disk: the next who asks gets them at once.

Kept apart from the archive's own objects, bounded in bytes, forgotten a day after they were made (or when
newer ones need the room): what is deleted from the archive is thereby deleted from here. Names are digests
below the organisation's number. Where encryption is on, the store that is handed in encrypts.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from isocenter.kit.clock import Clock
from isocenter.kit.errors import IsocenterError
from isocenter.platform.storage.interface import InMemory, ObjectStore

_EDITION = "1"
"""Of what our encoders write: a new number makes what older programs left behind unreachable."""
_KEPT = timedelta(days=1)
_GROUP_LENGTH_AT = 140
_FILE_META_AT = 144


@dataclass(frozen=True, slots=True)
class CachedObject:
    """``header_size`` bytes of preamble and file meta information, then the data set."""

    key: str
    size: int
    header_size: int


@dataclass(slots=True)
class _Entry:
    size: int
    put_at: datetime


class TranscodeCache:
    """``store`` must be nobody else's. ``object_bytes_max`` is the most that one object may take."""

    def __init__(self, store: ObjectStore, clock: Clock, *, bytes_max: int) -> None:
        self._store = store
        self._clock = clock
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[str, _Entry] | None = None
        self._read: Counter[str] = Counter()
        self.object_bytes_max = min(bytes_max // 8, 32 << 20)

    async def find(self, object_key: str, transfer_syntax_uid: str) -> CachedObject | None:
        entries = await self._known()
        key = _key(object_key, transfer_syntax_uid)
        entry = entries.get(key)
        if entry is None:
            return None
        try:
            head = await self._store.read_range(key, 0, _FILE_META_AT)
        except IsocenterError:
            head = b""  # somebody cleared the folder, or destroyed the key
        if len(head) < _FILE_META_AT:
            await self._drop(key)
            return None
        if key in entries:
            entries.move_to_end(key)
        header_size = _FILE_META_AT + int.from_bytes(head[_GROUP_LENGTH_AT:], "little")
        return CachedObject(key, entry.size, header_size)

    async def stream(
        self, cached: CachedObject, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Its bytes; while they are read the object stays."""
        self._read[cached.key] += 1
        try:
            async for piece in self._store.stream(cached.key, start, length):
                yield piece
        finally:
            self._read[cached.key] -= 1
            if not self._read[cached.key]:
                del self._read[cached.key]

    async def put(self, object_key: str, transfer_syntax_uid: str, pieces: list[bytes]) -> None:
        """Keep a copy if it can be kept: whoever asked has the object already."""
        size = sum(map(len, pieces))
        key = _key(object_key, transfer_syntax_uid)
        entries = await self._known()
        if size > self.object_bytes_max or key in entries:
            return
        try:
            await self._store.put(key, InMemory(pieces))
        except IsocenterError:
            return
        if key not in entries:
            entries[key] = _Entry(size, self._clock.now())
            self._bytes += size
        for oldest in tuple(entries):
            if self._bytes <= self._bytes_max:
                break
            if not self._read[oldest]:
                await self._drop(oldest)

    async def expire(self) -> int:
        """Remove what is older than a day; how many."""
        entries = await self._known()
        before = self._clock.now() - _KEPT
        old = [key for key, entry in entries.items() if entry.put_at < before and not self._read[key]]
        for key in old:
            await self._drop(key)
        return len(old)

    async def close(self) -> None:
        await self._store.close()

    async def _known(self) -> OrderedDict[str, _Entry]:
        if self._entries is None:
            found = sorted([info async for info in self._store.list()], key=lambda info: info.modified_at)
            if self._entries is None:
                self._entries = OrderedDict((one.key, _Entry(one.size, one.modified_at)) for one in found)
                self._bytes = sum(one.size for one in found)
        return self._entries

    async def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None) if self._entries is not None else None
        if entry is not None:
            self._bytes -= entry.size
        try:
            await self._store.delete(key)
        except IsocenterError:
            return  # it is listed again at the next start


def _key(object_key: str, transfer_syntax_uid: str) -> str:
    organization = object_key.partition("/")[0]
    digest = hashlib.blake2b(object_key.encode(), digest_size=20).hexdigest()
    return f"{organization}/{digest[:2]}/{digest}.{transfer_syntax_uid}.{_EDITION}"
