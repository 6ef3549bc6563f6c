"""The one small interface behind which every object store hides (MISSION A4).

Keys are relative, ``/``-separated, ASCII; what a key means is the caller's business. An object never
changes once it is there: ``put`` creates or says that the key is taken.

Failures, whatever the back-end: :class:`~isocenter.kit.errors.NotFound` for a key that is not there,
:class:`~isocenter.kit.errors.OutOfSpace` when the store is full,
:class:`~isocenter.kit.errors.Unavailable` when it cannot be reached or refuses us.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class InMemory:
    """An object's bytes as buffers, in order; written without joining them."""

    buffers: Sequence[Buffer]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """An object that was spooled to a file. A store on the same file system takes the file over
    (rename); others read it. Either way the file is gone when ``put`` returns ``CREATED`` or ``EXISTED``;
    when ``put`` raises, the file is still there."""

    path: Path


Body = InMemory | OnDisk


class PutOutcome(Enum):
    CREATED = auto()
    EXISTED = auto()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """``problem`` is empty when the store can be written to and read from; else it says what to do."""

    ok: bool
    problem: str = ""
    free_bytes: int | None = None


class ObjectStore(Protocol):
    async def put(self, key: str, body: Body) -> PutOutcome:
        """Create the object durably: once this returns, it survives a crash. Never overwrites."""
        ...

    async def get(self, key: str) -> bytes: ...

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; fewer where the object ends before."""
        ...

    def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        """The object (or a part of it) in pieces of at most ``chunk_bytes``; memory stays flat."""
        ...

    async def stat(self, key: str) -> ObjectInfo | None: ...

    async def delete(self, key: str) -> bool:
        """True when the object was there. Deleting what is not there is no error."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Every object under ``prefix``, in no promised order; never holds them all in memory."""
        ...

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        """A URL that reads the object without further credentials until it expires."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk, for mmap and sendfile; None for remote stores."""
        ...

    async def health(self) -> StoreHealth: ...

    async def close(self) -> None: ...
