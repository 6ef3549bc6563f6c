"""The one small interface behind which every object store hides (MISSION A4).

A key is a relative, ``/``-separated name such as ``default/ab/ab54…``; ``keys.py`` has the alphabet. What
a key means is the caller's business. No key may be the folder of another one (``a`` and ``a/b``): on disk
nothing can be both. An object never changes once it is there: ``put`` creates it, or says that the key is
taken.

Failures, whatever the back-end:

==============================================  ====================================================
:class:`~isocenter.kit.errors.InvalidInput`     the key breaks the rules of ``keys.py``
:class:`~isocenter.kit.errors.NotFound`         nothing is stored under that key
:class:`~isocenter.kit.errors.Conflict`         the key is taken by an object of another size
:class:`~isocenter.kit.errors.OutOfSpace`       the store is full; what was there stays readable
:class:`~isocenter.kit.errors.Unavailable`      the store cannot be reached, or refuses us
:class:`~isocenter.kit.errors.Unsupported`      ``signed_url`` of a store that was given no way to sign
==============================================  ====================================================
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
    """An object's bytes as buffers, in order; written without joining them.

    The buffers must not change until ``put`` is over; ``put`` is over only when it returns or raises,
    also when it is cancelled, so that a receive buffer may be used again right after.
    """

    buffers: Sequence[Buffer]


@dataclass(frozen=True, slots=True)
class OnDisk:
    """An object that was spooled to a file. A store on the same file system takes the file over
    (link, unlink); others read it. Either way the file is gone when ``put`` returns ``CREATED`` or
    ``EXISTED``; when ``put`` raises, the file is still there."""

    path: Path


Body = InMemory | OnDisk


class PutOutcome(Enum):
    CREATED = auto()
    EXISTED = auto()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """``modified_at`` (aware, UTC) is when the object was last put, also when that ``put`` answered
    ``EXISTED``: whoever deletes what nobody refers to goes by it (see :meth:`ObjectStore.delete`)."""

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
        """Create the object durably: once this returns, it survives a crash. Never overwrites.

        ``EXISTED`` promises as much: the object that is there has the same size, is durable, and its
        ``modified_at`` has been renewed, so that a sweep that runs now does not take it for an old orphan.
        """
        ...

    async def get(self, key: str) -> bytes: ...

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; fewer (down to none) where the object ends before."""
        ...

    def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        """The object (or a part of it) in pieces of at most ``chunk_bytes``; memory stays flat.

        NotFound comes with the first piece, not with the call.
        """
        ...

    async def stat(self, key: str) -> ObjectInfo | None: ...

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        """True when the object was there. Deleting what is not there is no error.

        With ``unmodified_since`` (aware) an object that was put later than that stays, and the answer is
        False. A sweep of unreferenced objects must use it: between its look at the database and the deletion
        somebody may have put the same bytes again and been told ``EXISTED``.
        """
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Every object in the folder ``prefix`` (whole segments: ``a/b`` holds ``a/b/c``, not ``a/bc``), in
        no promised order; never holds them all in memory."""
        ...

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        """A URL that reads the object without further credentials until it expires (1 s to 7 days)."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk, for mmap and sendfile; None for remote stores.
        Does not look whether it is there."""
        ...

    async def health(self) -> StoreHealth:
        """Writes, reads and deletes a small probe. Never raises: what is wrong is in the answer."""
        ...

    async def close(self) -> None: ...
