"""Where an object's bytes wait while they arrive: in memory within a budget, else in a file.

The budget is one number for the whole process (DESIGN §4). When it is used up, objects go to disk
earlier; the disk slows the senders down; and when the disk is full the sender is told. Memory never grows
with the number or the size of objects.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

from isocenter.kit.errors import InternalError, IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.storage.interface import Buffer

_WRITE_BYTES = 4 << 20
_READ_BYTES = 1 << 20
_BUDGET_STEP_BYTES = 256 << 10

P = ParamSpec("P")
R = TypeVar("R")


class MemoryBudget:
    """Bytes that all objects on their way in may occupy together."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.used_bytes = 0

    def take(self, count: int) -> bool:
        """False when there is not that much left; nothing is taken then."""
        if self.used_bytes + count > self.total_bytes:
            return False
        self.used_bytes += count
        return True

    def give_back(self, count: int) -> None:
        self.used_bytes -= count


class Spool:
    """The folder for objects too large for memory, and the budget for the others."""

    def __init__(
        self,
        folder: Path,
        *,
        memory_budget_bytes: int,
        threshold_bytes: int,
        min_free_bytes: int = 0,
    ) -> None:
        self.folder = folder
        self.budget = MemoryBudget(memory_budget_bytes)
        self.threshold_bytes = threshold_bytes
        self._min_free_bytes = min_free_bytes
        self._numbers = itertools.count()
        self.threads = ThreadPoolExecutor(4, thread_name_prefix="spool")

    def prepare(self) -> None:
        """Make the folder; remove what a crash left in it (nothing in it was ever acknowledged).

        Files carry their process's number: another live process's are left alone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.part"):
            pid = path.name.split("-", 1)[0]
            if pid == str(os.getpid()) or not Path(f"/proc/{pid}").exists():
                path.unlink(missing_ok=True)

    def new_path(self) -> Path:
        return self.folder / f"{os.getpid()}-{next(self._numbers)}.part"

    def check_room(self) -> None:
        """Raises OutOfSpace when less than the configured reserve would stay free."""
        if self._min_free_bytes and shutil.disk_usage(self.folder).free < self._min_free_bytes:
            raise OutOfSpace(
                "The disk for incoming objects is nearly full.",
                code="disk-reserve-reached",
                remedy="Free space on the data folder's disk, or lower --min-free-disk.",
                retry_after_s=60,
            )

    def close(self) -> None:
        self.threads.shutdown(wait=True)


class SpooledBytes:
    """One object's bytes: ``memory`` until they are too many, then ``path``."""

    def __init__(self, spool: Spool, head: bytes = b"") -> None:
        """``head``: a few bytes to begin with, which no budget has to cover yet."""
        self._spool = spool
        self.memory = bytearray(head)
        self.path: Path | None = None
        self.size = len(head)
        self.waiting_bytes = 0
        """Handed in and not yet in the file."""
        self._taken = 0
        self._file: BinaryIO | None = None
        self._unwritten: list[Buffer] = []
        self._working: asyncio.Future[Any] | None = None

    @property
    def in_memory(self) -> bool:
        return self.path is None

    def append(self, fragment: Buffer) -> Awaitable[None] | None:
        """Keep a copy of the bytes. Await what is returned, if anything, before the next call."""
        self.size += len(fragment)
        if self.path is None:
            if self.size <= self._spool.threshold_bytes and self._cover(self.size):
                self.memory += fragment
                return None
            self._start_file()
        self._unwritten.append(bytes(fragment))
        self.waiting_bytes += len(fragment)
        if self.waiting_bytes < _WRITE_BYTES and self._cover(self.waiting_bytes):
            return None
        return self.flush()

    async def flush(self) -> None:
        """Write what waits to the file. Raises OutOfSpace or Unavailable."""
        pieces, self._unwritten, self.waiting_bytes = self._unwritten, [], 0
        taken, self._taken = self._taken, 0
        try:
            await self.in_thread(self._write, pieces)
        finally:
            self._spool.budget.give_back(taken)

    async def finish(self) -> None:
        """No more bytes will come: complete the file, if there is one."""
        if self.path is not None:
            await self.flush()
            if self._file is not None:
                self._file.close()
                self._file = None

    def read(self, start: int, length: int) -> bytes:
        """Some of the bytes, after `finish`; from a file this blocks: call it by `in_thread`."""
        if self.path is None:
            return bytes(self.memory[start : start + length])
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(length)

    async def stream(self, start: int, length: int) -> AsyncIterator[bytes]:
        """``length`` bytes from ``start``, after `finish`, a piece at a time.

        Raises Unavailable, InternalError.
        """
        end = start + length
        while start < end:
            count = min(_READ_BYTES, end - start)
            if self.in_memory:
                piece = self.read(start, count)
            else:
                piece = await self.in_thread(self.read, start, count)
            if not piece:
                raise InternalError(
                    "the spooled file of an object has disappeared", code="spool-file-missing"
                )
            yield piece
            start += len(piece)

    async def in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Work on memory or file in a thread of the spool's; ``discard`` waits for its end.

        Raises OutOfSpace or Unavailable for what the disk refuses.
        """
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._spool.threads, partial(call, *args, **kwargs))
        self._working = working
        try:
            return await asyncio.shield(working)  # a thread at work cannot be cancelled
        except OSError as error:
            raise _spool_error(error) from error

    async def discard(self) -> None:
        """Let go of memory and file; allowed at any moment and more than once."""
        if self._working is not None:
            await asyncio.wait([self._working])
            if not self._working.cancelled():
                self._working.exception()  # seen: whoever awaited the work was told
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self._unwritten, self.waiting_bytes = [], 0
        self._spool.budget.give_back(self._taken)
        self._taken = 0
        self.memory = bytearray()

    def _cover(self, count: int) -> bool:
        """Have as much budget as ``count`` bytes need; taken in steps, so that not every fragment asks."""
        while self._taken < count:
            step = max(_BUDGET_STEP_BYTES, self._taken)
            if not self._spool.budget.take(step):
                return False
            self._taken += step
        return True

    def _start_file(self) -> None:
        self._spool.check_room()
        self.path = self._spool.new_path()
        self._unwritten, self.waiting_bytes = [self.memory], len(self.memory)
        self.memory = bytearray()

    def _write(self, pieces: list[Buffer]) -> None:
        if self._file is None:
            assert self.path is not None
            self._file = open(self.path, "xb", buffering=0, opener=_private)  # noqa: SIM115
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]
        self._spool.check_room()


def _private(path: str, flags: int) -> int:
    """Nobody else of this machine reads what has not even been judged yet."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _spool_error(error: OSError) -> IsocenterError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutOfSpace(
            "The disk for incoming objects is full.",
            remedy="Free space on the data folder's disk.",
            retry_after_s=60,
        )
    return Unavailable(
        f"The folder for incoming objects cannot be used ({error.strerror}).",
        remedy="Check the data folder's permissions and disk; 'isocenter doctor' tries it.",
        retry_after_s=30,
    )
