"""A few worker processes: started when first needed, replaced when they end, let go when idle."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from isocenter.kit.errors import Busy, InternalError, Unavailable
from isocenter.platform.workers.errors import WorkCrashed, WorkOutOfMemory, WorkTimedOut
from isocenter.platform.workers.wire import LENGTH, error_from_plain, packed, plain

R = TypeVar("R")

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What a worker sees of ours: none of the secrets that settings may hold."""

_GRACE_S = 2.0
"""Past its limit a worker ends itself; should it not, the server ends it."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """``memory_bytes`` is what a call may take beyond the program itself; ``time_s`` how long it may take
    where it names no limit of its own; ``waiting_max`` how many calls may wait for a worker; ``idle_s`` after
    how long without work a worker ends."""

    memory_bytes: int = 2 << 30
    time_s: float = 30.0
    waiting_max: int = 256
    idle_s: float = 120.0


class WorkerPool:
    """``await pool.run(function, *args)``: the same as ``function(*args)``, somewhere else.

    ``count`` workers at most; ``busy_s``: seconds that they have worked, all together. ``preload`` are
    modules that every worker imports before its limits are set. Belongs to one event loop.
    """

    def __init__(
        self, count: int, limits: WorkerLimits | None = None, *, preload: Sequence[str] = ()
    ) -> None:
        self.count = count
        self.busy_s = 0.0
        self._limits = limits or WorkerLimits()
        self._preload = tuple(preload)
        self._free = asyncio.Semaphore(count)
        self._waiting = 0
        self._idle: list[_Worker] = []
        self._running: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[int]] = set()
        self._closed = False

    async def run(self, function: Callable[..., R], *args: Any, time_limit_s: float | None = None) -> R:
        """``function`` is one of a module, its arguments can be pickled, its result is plain (``wire.py``).

        Raises what it raises if that is an IsocenterError; WorkCrashed, WorkTimedOut, WorkOutOfMemory; Busy
        when too many wait; InternalError for any other exception. Cancelled, it returns at once: the worker
        finishes what it began and is there for the next.
        """
        if self._closed:
            raise _closed()
        if self._waiting >= self._limits.waiting_max:
            raise Busy(
                "Too much work is waiting for a free worker process.",
                remedy="Ask again in a few seconds.",
                retry_after_s=5,
            )
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        # A task of its own: whoever cancels us leaves the worker's answer to it, or the next would read that.
        task = asyncio.create_task(self._timed(function, args, time_limit_s or self._limits.time_s))
        self._running.add(task)
        task.add_done_callback(self._ended)
        result: R = await asyncio.shield(task)
        return result

    @property
    def busy(self) -> int:
        """Workers that have something to do."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Calls in line for a worker."""
        return self._waiting

    async def close(self) -> None:
        """Ends all workers, whatever they do."""
        self._closed = True
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        idle, self._idle = self._idle, []
        await asyncio.gather(*(worker.end() for worker in idle), *self._ending)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._free.release()
        if not task.cancelled():
            task.exception()  # looked at: the caller may have gone

    async def _timed(self, function: Callable[..., Any], args: tuple[Any, ...], limit_s: float) -> Any:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            return await self._call(function, args, limit_s)
        finally:
            self.busy_s += loop.time() - begun_s

    async def _call(self, function: Callable[..., Any], args: tuple[Any, ...], limit_s: float) -> Any:
        if self._closed:
            raise _closed()
        message = packed((function.__module__, function.__qualname__, args, limit_s))
        worker, used_before = await self._take()
        try:
            answer = await self._asked(worker, message, limit_s)
        except WorkCrashed:
            if not used_before:
                raise
            # What it did before, or somebody else, may have ended it: a fresh one tells.
            worker = self._fresh()
            answer = await self._asked(worker, message, limit_s)
        match answer:
            case ("done", result):
                self._give_back(worker)
                return result
            case ("refused", told):
                self._give_back(worker)
                raise error_from_plain(told)
            case ("memory",):
                await worker.end()
                raise WorkOutOfMemory
            case ("failed", name, said, place):
                self._give_back(worker)
                raise InternalError(f"{name} in a worker process: {said} ({place})")
            case _:
                await worker.end()
                raise InternalError("A worker answered with something that is no answer.")

    async def _asked(self, worker: _Worker, message: bytes, limit_s: float) -> Any:
        """The answer; a worker that gives none is ended. Raises WorkTimedOut, WorkCrashed."""
        try:
            return await worker.ask(message, limit_s + _GRACE_S)
        except BaseException as error:
            status = await worker.end()
            if isinstance(error, TimeoutError) or status == -signal.SIGALRM:
                raise WorkTimedOut(limit_s) from None
            if isinstance(error, (EOFError, OSError)):
                raise WorkCrashed(status) from None
            raise

    async def _take(self) -> tuple[_Worker, bool]:
        """A worker, and whether it has worked before."""
        while self._idle:
            worker = self._idle.pop()
            worker.stay()
            if worker.alive:
                return worker, True
            await worker.end()
        return self._fresh(), False

    def _fresh(self) -> _Worker:
        return _Worker.start(self._limits.memory_bytes, self._preload)

    def _give_back(self, worker: _Worker) -> None:
        self._idle.append(worker)
        worker.leave_after(self._limits.idle_s, self._retire)

    def _retire(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Worker:
    def __init__(
        self, process: subprocess.Popen[bytes], connection: socket.socket, answer_bytes_max: int
    ) -> None:
        self._process = process
        self._connection = connection
        self._answer_bytes_max = answer_bytes_max
        self._leaving: asyncio.TimerHandle | None = None

    @classmethod
    def start(cls, memory_bytes: int, preload: Sequence[str]) -> _Worker:
        """Raises Unavailable when the machine lets no further process start."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environment["OPENBLAS_NUM_THREADS"] = "1"  # each further thread reserves memory; the limit counts it
        module = f"{__package__}.process"
        try:
            # A millisecond. asyncio's own processes lose the status of one that ends while it is killed.
            process = subprocess.Popen(  # noqa: S603 - our own program
                (sys.executable, "-m", module, str(theirs.fileno()), str(memory_bytes), *preload),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                start_new_session=True,  # Ctrl-C is the server's to answer
            )
        except OSError as error:
            ours.close()
            raise Unavailable(
                f"No worker process can be started ({error.strerror}).", retry_after_s=5
            ) from error
        finally:
            theirs.close()
        return cls(process, ours, memory_bytes)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def ask(self, message: bytes, limit_s: float) -> Any:
        """The answer to a call. Raises TimeoutError, EOFError or OSError where none comes, InternalError for
        one that cannot be read."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(limit_s):
            await loop.sock_sendall(self._connection, message)
            (length,) = LENGTH.unpack(await self._receive(LENGTH.size))
            if length > self._answer_bytes_max:
                raise InternalError("A worker's answer is larger than its memory.")
            return plain(await self._receive(length))

    async def _receive(self, length: int) -> bytearray:
        loop = asyncio.get_running_loop()
        content = bytearray(length)
        view = memoryview(content)
        while view:
            count = await loop.sock_recv_into(self._connection, view)
            if not count:
                raise EOFError
            view = view[count:]
        return content

    def leave_after(self, idle_s: float, retire: Callable[[_Worker], None]) -> None:
        self._leaving = asyncio.get_running_loop().call_later(idle_s, retire, self)

    def stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()

    async def end(self) -> int:
        """Its exit status; minus the signal's number where one ended it."""
        self.stay()
        self._connection.close()
        self._process.kill()
        return await asyncio.to_thread(self._process.wait)


def _closed() -> Unavailable:
    return Unavailable("The server is stopping.", code="stopping", retry_after_s=10)
