"""A store that fails on demand, so that a test can see what its caller does about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path

from isocenter.platform.storage.interface import Body, ObjectInfo, ObjectStore, PutOutcome, StoreHealth


class Operation(Enum):
    PUT = auto()
    GET = auto()  # also read_range and stream
    STAT = auto()
    DELETE = auto()
    LIST = auto()


class Moment(Enum):
    BEFORE = auto()  # nothing has happened
    AFTER = auto()  # it has happened, and nobody hears of it: a lost answer


@dataclass(slots=True)
class _Fault:
    operation: Operation
    error: Callable[[], Exception]
    calls_to_spare: int
    times: int | None
    moment: Moment

    def strikes(self) -> bool:
        if self.calls_to_spare:
            self.calls_to_spare -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class FaultyStore:
    """Another store, whose calls fail as :meth:`fail` has ordered. Without orders it adds nothing."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self._faults: list[_Fault] = []

    def fail(
        self,
        operation: Operation,
        error: Callable[[], Exception],
        *,
        nth: int = 1,
        times: int | None = 1,
        moment: Moment = Moment.BEFORE,
    ) -> None:
        """From the ``nth`` call on from now, ``times`` calls of ``operation`` raise what ``error()`` makes.

        ``times=None`` goes on until :meth:`heal`. Example::

            store.fail(Operation.PUT, lambda: OutOfSpace("disk full"), nth=3)
        """
        self._faults.append(_Fault(operation, error, nth - 1, times, moment))

    def heal(self) -> None:
        self._faults.clear()

    async def put(self, key: str, body: Body) -> PutOutcome:
        lost = self._strike(Operation.PUT)
        outcome = await self.inner.put(key, body)
        _raise_all(lost)
        return outcome

    async def get(self, key: str) -> bytes:
        lost = self._strike(Operation.GET)
        data = await self.inner.get(key)
        _raise_all(lost)
        return data

    async def read_range(self, key: str, start: int, length: int) -> bytes:
        lost = self._strike(Operation.GET)
        data = await self.inner.read_range(key, start, length)
        _raise_all(lost)
        return data

    async def stream(
        self, key: str, start: int = 0, length: int | None = None, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        lost = self._strike(Operation.GET)
        async for piece in self.inner.stream(key, start, length, chunk_bytes):
            yield piece
            _raise_all(lost)

    async def stat(self, key: str) -> ObjectInfo | None:
        lost = self._strike(Operation.STAT)
        info = await self.inner.stat(key)
        _raise_all(lost)
        return info

    async def delete(self, key: str, *, unmodified_since: datetime | None = None) -> bool:
        lost = self._strike(Operation.DELETE)
        deleted = await self.inner.delete(key, unmodified_since=unmodified_since)
        _raise_all(lost)
        return deleted

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        lost = self._strike(Operation.LIST)
        async for info in self.inner.list(prefix):
            yield info
            _raise_all(lost)

    async def signed_url(self, key: str, *, expires_s: int = 3600) -> str:
        return await self.inner.signed_url(key, expires_s=expires_s)

    def local_path(self, key: str) -> Path | None:
        return self.inner.local_path(key)

    async def health(self) -> StoreHealth:
        return await self.inner.health()

    async def close(self) -> None:
        await self.inner.close()

    def _strike(self, operation: Operation) -> Sequence[Exception]:
        """Raises a fault of the moment before; the faults of the moment after are for the caller to raise."""
        striking = [fault for fault in self._faults if fault.operation is operation and fault.strikes()]
        _raise_all([fault.error() for fault in striking if fault.moment is Moment.BEFORE])
        return [fault.error() for fault in striking if fault.moment is Moment.AFTER]


def _raise_all(errors: Sequence[Exception]) -> None:
    for error in errors:
        raise error
