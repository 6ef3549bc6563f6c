"""The recorder: takes events at once, keeps them together a moment later.

A request that had to wait for its own synced transaction would take several times as long; one transaction
each some tens of milliseconds carries what all requests told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from itertools import islice

from isocenter.features.audit.entries import Head
from isocenter.features.audit.recording import Told, append
from isocenter.kit.clock import Clock, microseconds
from isocenter.kit.errors import Busy, OutOfSpace, Unavailable
from isocenter.platform.db import Database
from isocenter.platform.security import AuditEvent
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_PAUSE_S = 0.1
_PAUSE_S_MAX = 5.0


class AuditTrail:
    """Implements ``platform.security.Recorder``. ``close`` writes what waits, then stops.

    ``linger_s``: how long an event may wait for company. ``waiting_max``: how many may wait at all, as while
    the database is away; ``settle_s`` and ``close_s``: how long that may hold up ``settled`` and ``close``.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        waiting_max: int = 10_000,
        per_commit_max: int = 1000,
        linger_s: float = 0.05,
        settle_s: float = 10.0,
        close_s: float = 8.0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._waiting_max = waiting_max
        self._per_commit_max = per_commit_max
        self._linger_s = linger_s
        self._settle_s = settle_s
        self._close_s = close_s
        self._waiting: deque[Told] = deque()
        self._written = 0  # events that left the queue, of all
        self._settling: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def record(self, event: AuditEvent) -> None:
        """Take the event. Raises Busy when ``waiting_max`` wait, Unavailable after ``close``."""
        if self._closing.is_set():
            raise Unavailable("The audit trail has been closed.", code="audit-closed", retry_after_s=10)
        if len(self._waiting) >= self._waiting_max:
            raise Busy(
                "Too many audit events wait for the database, so nothing more may be done unwitnessed.",
                code="audit-behind",
                remedy="Try again later; the operator should look at the database.",
                retry_after_s=10,
            )
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="audit-trail")
        self._waiting.append(Told(microseconds(self._clock.now()), event))
        self._arrived.set()
        if len(self._waiting) == self._per_commit_max:
            self._hurry.set()

    async def settled(self) -> None:
        """Return when all that was recorded until now is durable. Raises Unavailable after ``settle_s``;
        it is kept all the same as soon as that is possible."""
        if not self._waiting:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.append((self._written + len(self._waiting), done))
        self._hurry.set()
        try:
            async with asyncio.timeout(self._settle_s):
                await done
        except TimeoutError:
            raise Unavailable(
                "The audit trail cannot be written now.",
                code="audit-behind",
                remedy="Look whether it was done before doing it again: only its audit entry is late.",
                retry_after_s=10,
            ) from None

    async def close(self) -> None:
        """Write what waits; give up after ``close_s`` without a database, which is said in the log."""
        self._closing.set()
        self._arrived.set()
        self._hurry.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=self._close_s)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
            log.error("Audit events were lost: the database could not be reached", events=len(self._waiting))

    async def _run(self) -> None:
        while self._waiting or not self._closing.is_set():
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    await self._hurry.wait()
            await self._write_some()

    async def _write_some(self) -> None:
        some = list(islice(self._waiting, self._per_commit_max))
        by_organization: dict[int, list[Told]] = {}
        for told in some:
            by_organization.setdefault(told.event.organization_id, []).append(told)
        for organization_id, theirs in by_organization.items():
            await self._keep(organization_id, theirs)
        for _ in some:
            self._waiting.popleft()
        self._written += len(some)
        while self._settling and self._settling[0][0] <= self._written:
            _, done = self._settling.popleft()
            if not done.done():
                done.set_result(None)
        if not self._settling and len(self._waiting) < self._per_commit_max and not self._closing.is_set():
            self._hurry.clear()

    async def _keep(self, organization_id: int, told: Sequence[Told]) -> None:
        """Write them, however long the database is away: later ones must not overtake."""
        attempts: set[Head] = set()
        pause_s = _PAUSE_S
        while True:
            try:
                await self._database.write(append, organization_id, told, attempts)
                return
            except (Unavailable, OutOfSpace) as error:
                log.warning(
                    "The audit trail cannot be written now; it is kept in memory and tried again",
                    reason=error.detail,
                    events=len(self._waiting),
                )
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
            except Exception as error:
                if len(told) == 1:
                    log.error(
                        "An audit event cannot be kept",
                        error=type(error).__name__,
                        organization_id=organization_id,
                        action=told[0].event.action.value,
                        resource_kind=told[0].event.resource_kind,
                        trace_id=told[0].event.trace_id,
                    )
                    return
                for one in told:  # whichever it is, the others are kept
                    await self._keep(organization_id, [one])
                return

    async def _pause(self, pause_s: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(_PAUSE_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closing.wait()
