"""Telling an audit record repository everything, however long it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from isocenter.features.audit import queries
from isocenter.features.audit.entries import Entry
from isocenter.features.audit.reading import organizations, read_on
from isocenter.kit.errors import IsocenterError, OutOfSpace, Unavailable
from isocenter.platform.db import Database, Work
from isocenter.platform.telemetry import get_logger

log = get_logger(__name__)

_BATCH = 200
_SENT_AGAIN_MAX = 1000
_PAUSE_S_MAX = 60.0


class Receiver(Protocol):
    @property
    def target(self) -> str: ...

    async def send(self, entries: Sequence[Entry]) -> None:
        """Raises Unavailable."""
        ...

    async def close(self) -> None: ...


class Delivery:
    """Follows every organisation's chain with a cursor in the database: at least once, in order.

    What was sent over a connection that then broke is sent again, up to 1,000 entries of it: the receiver
    may not have kept them. ``poll_s``: how often new entries are looked for.
    """

    def __init__(
        self, database: Database, receiver: Receiver, *, poll_s: float = 1.0, pause_s: float = 1.0
    ) -> None:
        self._database = database
        self._receiver = receiver
        self._poll_s = poll_s
        self._pause_s = pause_s
        self._began: dict[int, int] = {}  # where each chain stood when this connection was opened
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="audit-delivery")

    async def stop(self) -> None:
        """Leave off; the cursor says where to go on."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self._receiver.close()

    async def _run(self) -> None:
        pause_s = self._pause_s
        while not self._stopping.is_set():
            try:
                more = await self._send_some()
            except (Unavailable, OutOfSpace) as error:
                log.warning("Audit messages wait for their repository", reason=error.detail, again_s=pause_s)
                await self._receiver.close()
                await self._go_back()
                await self._wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
                continue
            pause_s = self._pause_s
            if not more:
                await self._wait(self._poll_s)

    async def _send_some(self) -> bool:
        """One batch of each organisation; whether there is more."""
        more = False
        for organization_id, _ in await organizations(self._database):
            cursor = await self._database.read(_cursor, organization_id, self._receiver.target)
            entries = await read_on(self._database, organization_id, after=cursor, limit=_BATCH)
            if entries:
                self._began.setdefault(organization_id, cursor)
                await self._receiver.send(entries)
                await self._note(organization_id, entries[-1].sequence)
            more = more or len(entries) == _BATCH
        return more

    async def _go_back(self) -> None:
        """The connection broke: whatever went over it last may be lost."""
        began, self._began = self._began, {}
        for organization_id, from_sequence in began.items():
            try:
                cursor = await self._database.read(_cursor, organization_id, self._receiver.target)
                await self._note(organization_id, max(from_sequence, cursor - _SENT_AGAIN_MAX))
            except IsocenterError as error:
                self._began = began  # tried again after the next failure
                log.warning("Audit messages cannot be followed now", reason=error.detail)
                return

    async def _note(self, organization_id: int, sequence: int) -> None:
        await self._database.write(_note, organization_id, self._receiver.target, sequence)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


def _cursor(organization_id: int, target: str) -> Work[int]:
    rows = yield queries.FIND_DELIVERED(organization_id=organization_id, target=target)
    return rows[0]["sequence"] if rows else 0


def _note(organization_id: int, target: str, sequence: int) -> Work[None]:
    yield queries.NOTE_DELIVERED(organization_id=organization_id, target=target, sequence=sequence)
