"""A retrieval under way: its counts, what its requester hears meanwhile, what the trail hears in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.element import Element
from isocenter.dimse.net.service import SubOperations
from isocenter.dimse.scu.streaming import SendOutcome, Sent
from isocenter.doors.scp.statuses import comment
from isocenter.features.archive.retrieve import StoredInstance

FAILED_SOP_INSTANCE_UID_LIST = 0x00080058
_LOOKED_AT_EVERY_S = 0.25
_SILENT_S_MAX = 5.0
"""Also where nothing moves the requester hears that we are there."""
_LEAVE_S = 10.0
"""What is on its way when a C-CANCEL comes may take so long to arrive."""


class Tally:
    """Counts sub-operations; ``failures`` are UIDs, ``studies`` what became of each study's objects.
    ``total``: how many there are to be; it may be set anew while that is not known for certain."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.completed = self.warnings = 0
        self.failures: list[str] = []
        self.why = ""
        self.studies: dict[str, Counter[str]] = {}
        self._study_of: dict[str, str] = {}

    def expect(self, instances: Sequence[StoredInstance]) -> None:
        """These are sent next."""
        self._study_of |= {one.sop_instance_uid: one.study_instance_uid for one in instances}

    def could_not_be_had(self, study_uid: str, uids: Sequence[str], why: str) -> None:
        self.failures += uids
        self.studies.setdefault(study_uid, Counter())["failed"] += len(uids)
        self.why = self.why or why

    def tell(self, sent: Sent) -> None:
        study = self._study_of[sent.object.sop_instance_uid]
        counts = self.studies.setdefault(study, Counter())
        if sent.outcome.arrived:
            counts["objects"] += 1
            if sent.outcome is SendOutcome.WARNING:
                self.warnings += 1
            else:
                self.completed += 1
            return
        counts["failed"] += 1
        self.why = self.why or sent.says
        self.failures.append(sent.object.sop_instance_uid)

    @property
    def remaining(self) -> int:
        return max(self.total - self.completed - self.warnings - len(self.failures), 0)

    def now(self) -> SubOperations:
        return SubOperations(self.remaining, self.completed, len(self.failures), self.warnings)

    def final(self, transfer_syntax_uid: str) -> SubOperations:
        """With the list of what failed, and why the first of them did."""
        return SubOperations(
            self.remaining,
            self.completed,
            len(self.failures),
            self.warnings,
            _failed_list(self.failures, transfer_syntax_uid),
            comment(self.why),
        )


Batches = AsyncGenerator[Sequence[StoredInstance], None]


class Carrying:
    """Sends batch after batch, as they come; with ``leave`` nothing new is begun."""

    def __init__(
        self, batches: Batches, tally: Tally, send: Callable[[Sequence[StoredInstance]], Awaitable[None]]
    ) -> None:
        self._batches = batches
        self._tally = tally
        self._send = send
        self._left = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def run(self) -> None:
        left = asyncio.create_task(self._left.wait())
        try:
            while not left.done():
                following = asyncio.ensure_future(anext(self._batches, None))
                await asyncio.wait({following, left}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    return
                batch = following.result()
                if batch is None:
                    return
                self._tally.expect(batch)
                await self._send(batch)
        finally:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            await self._batches.aclose()


async def told_while(
    running: asyncio.Task[Any], tally: Tally, cancelled: asyncio.Event, leave: Callable[[], None]
) -> AsyncGenerator[SubOperations, None]:
    """The counts while ``running`` goes on: at once, then where they changed, four times a second at most.

    A C-CANCEL makes it ``leave``. When nobody listens any longer ``running`` is cancelled. Raises what it
    raised.
    """
    stop = asyncio.create_task(cancelled.wait())
    told, silent_s = tally.now(), 0.0
    try:
        yield told
        while not running.done():
            await asyncio.wait(
                {running, stop}, timeout=_LOOKED_AT_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
            if cancelled.is_set():
                leave()
                await asyncio.wait({running}, timeout=_LEAVE_S)
                break
            silent_s += _LOOKED_AT_EVERY_S
            if not running.done() and (tally.now() != told or silent_s >= _SILENT_S_MAX):
                told, silent_s = tally.now(), 0.0
                yield told
    finally:
        stop.cancel()
        running.cancel()
        await asyncio.gather(stop, running, return_exceptions=True)
    if not running.cancelled():
        running.result()


def _failed_list(uids: Sequence[str], transfer_syntax_uid: str) -> bytes | None:
    """(0008,0058), which only an answer with failures has (PS3.4 C.4.2.1.4.2)."""
    if not uids:
        return None
    value = "\\".join(uids).encode("ascii", "replace")
    element = Element(FAILED_SOP_INSTANCE_UID_LIST, "UI", value + b"\0" * (len(value) % 2))
    return write_dataset([element], transfer_syntax_uid)
