"""Objects in this process's memory: for tests and for trying things out. Nothing survives the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from isocenter.kit.clock import Clock, SystemClock
from isocenter.kit.errors import Conflict, InternalError, NotFound
from isocenter.platform.storage.interface import Body, InMemory, ObjectInfo, PutOutcome, StoreHealth
from isocenter.platform.storage.keys import check_key, check_prefix, check_range
from isocenter.platform.storage.signing import UrlSigner


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    modified_at: datetime


class MemoryStore:
    """Keeps every promise of the interface but durability. For one event loop."""

    def __init__(
        self, *, url_base: str | None = None, signing_key: bytes | None = None, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._signer = UrlSigner(url_base, signing_key)
        self._objects: dict[str, _Object] = {}

    async def put(self, key: str, body: Body) -> PutOutcome:
        check_key(key)
        data = (
            b"".join(body.buffers)
            if isinstance(body, InMemory)
            else await asyncio.to_thread(_read, body.path)
        )
        present = self._objects.get(key)
        if present is not None and len(present.data) != len(data):
            raise Conflict(
                f"{key} is taken by an object of {len(present.data)} bytes, not {len(data)}",
                code="object-size-differs",
            )
        self._objects[key] = _Object(present.data if present else data, self._clock.now())
        if not isinstance(body, InMemory):
            await asyncio.to_thread(body.path.unlink)
        return PutOutcome.EXISTED if present else PutOutcome.CREATED

    async def get(self, key: str) -> bytes:
        return self._find(key).data

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        check_range(start, length)
        return self._find(key).data[start : start + length]

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        check_range(start, length)
        data = self._find(key).data
        stop = len(data) if length is None else min(len(data), start + length)
        for offset in range(start, stop, chunk_bytes):
            yield data[offset : min(stop, offset + chunk_bytes)]

    async def stat(self, key: str) -> ObjectInfo | None:
        found = self._objects.get(check_key(key))
        return ObjectInfo(key, len(found.data), found.modified_at) if found else None

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        found = self._objects.get(check_key(key))
        if found is None or (unmodified_since is not None and found.modified_at > unmodified_since):
            return False
        del self._objects[key]
        return True

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        folder = check_prefix(prefix)
        start = f"{folder}/" if folder else ""
        for key, found in [*self._objects.items()]:
            if key.startswith(start):
                yield ObjectInfo(key, len(found.data), found.modified_at)

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        return self._signer.sign(check_key(key), expires_s=expires_s, now=self._clock.now())

    def verify_signature(self, key: str, expires: int, signature: str, now: datetime) -> bool:
        """As :meth:`isocenter.platform.storage.local.LocalStore.verify_signature`."""
        return self._signer.verify(key, expires, signature, now)

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    async def health(self) -> StoreHealth:
        return StoreHealth(ok=True)

    async def close(self) -> None:
        self._objects.clear()

    def _find(self, key: str) -> _Object:
        found = self._objects.get(check_key(key))
        if found is None:
            raise NotFound(f"no object is stored as {key}", code="object-not-found")
        return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InternalError(
            "the spooled file of an object has disappeared", code="spool-file-missing"
        ) from error
