"""Reads that take less than a hop to a thread and back are done on the event loop's own thread.

A search by an identifier takes SQLite some 50 µs; the hop costs twice that, and the threads fight over the
interpreter's lock. So every read is begun here, and what turns out to be slow, to wait for a lock, or to hold
up the loop is given up and begun anew on a reader's thread: a unit of work may run twice.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_AT_MOST_S = 0.001
"""Of the event loop's time: for one read, and for all of one task, until it makes way for others."""
_STALLED_S = 0.020
"""What took so long before it could be given up, and read from the disk, waited for it; so would the next."""
_PAUSE_S = 5.0
_LOOK_EVERY_STEPS = 500
"""Steps of SQLite's virtual machine; some 20 µs."""


class NotQuick(Exception):
    """The read is to be begun on a reader's thread."""


class QuickReads:
    """On ``connection``, which must not wait for locks; for the first event loop that comes.

    ``now_s``: seconds that never run backwards; ``disk_reads``: how many this thread has ever made.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        now_s: Callable[[], float] = time.monotonic,
        disk_reads: Callable[[], int] = lambda: resource.getrusage(resource.RUSAGE_THREAD).ru_inblock,
    ) -> None:
        self._connection = connection
        self._now_s = now_s
        self._disk_reads = disk_reads
        self._disk_reads_known = 0
        self._thread: int | None = None
        self._end_s = 0.0
        self._pause_until_s = 0.0
        self._task: asyncio.Task[object] | None = None
        self._taken_s = 0.0
        connection.set_progress_handler(self._is_over_time, _LOOK_EVERY_STEPS)

    def attempt(self, transact: Callable[[sqlite3.Connection], T]) -> T:
        """What ``transact`` returns, or raises of its own. Raises NotQuick."""
        begun_s = self._now_s()
        if begun_s < self._pause_until_s or not self._is_of_our_loop() or not self._has_time_left():
            raise NotQuick
        self._end_s = begun_s + _AT_MOST_S
        try:
            return transact(self._connection)
        except sqlite3.Error as error:  # the thread will wait for locks, and say what ails the database
            raise NotQuick from error
        finally:
            taken_s = self._now_s() - begun_s
            self._taken_s += taken_s
            if taken_s > _STALLED_S and self._has_read_from_disk():
                self._pause_until_s = begun_s + taken_s + _PAUSE_S

    def _is_of_our_loop(self) -> bool:
        thread = threading.get_ident()
        if self._thread is None:
            self._thread = thread
        return thread == self._thread

    def _has_time_left(self) -> bool:
        """A task that reads on and on, and never awaits anything else, would let nobody else run."""
        task = asyncio.current_task()
        if task is self._task and self._taken_s < _AT_MOST_S:
            return True
        is_another = task is not self._task
        self._task, self._taken_s = task, 0.0
        return is_another

    def _has_read_from_disk(self) -> bool:
        """Since the last time; otherwise it was the processor that others had."""
        before, self._disk_reads_known = self._disk_reads_known, self._disk_reads()
        return self._disk_reads_known > before

    def _is_over_time(self) -> bool:
        return self._now_s() > self._end_s
