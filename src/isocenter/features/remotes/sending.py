"""C-STORE as SCU: many objects to one peer (PS3.4 B)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    DimseFailure,
    DimseTimeout,
)
from isocenter.dimse.protocol import rejections, statuses
from isocenter.features.remotes.contexts import accepted_syntax, plan, why_not_accepted
from isocenter.features.remotes.outgoing import OutgoingObject
from isocenter.features.remotes.peers import Peer, Remotes
from isocenter.features.remotes.rewriting import rewritten
from isocenter.kit.errors import IsocenterError, Unavailable

ATTEMPTS_MAX = 4
_FIRST_PAUSE_S = 1.0
_PAUSE_MAX_S = 30.0


class SendOutcome(StrEnum):
    STORED = "stored"
    WARNING = "stored-with-warning"
    REFUSED = "refused"  # the peer answered with a failure
    NOT_ACCEPTED = "not-accepted"  # the peer takes no such objects, or not in that transfer syntax
    FAILED = "failed"  # it could not be read, or the peer could not be spoken to

    @property
    def arrived(self) -> bool:
        return self in {SendOutcome.STORED, SendOutcome.WARNING}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one object. ``status`` is the peer's, where it answered; ``says`` is for people;
    ``rewritten_to`` the transfer syntax it was sent in, where that is not its own."""

    object: OutgoingObject
    outcome: SendOutcome
    says: str
    status: int | None = None
    attempts: int = 1
    rewritten_to: str = ""


@dataclass(slots=True)
class _Waiting:
    object: OutgoingObject
    attempts: int = 0


class SendObjects:
    """One run of sending. ``associations``: how many at once; ``pause`` waits between attempts."""

    def __init__(
        self,
        remotes: Remotes,
        peer: Peer,
        *,
        associations: int = 1,
        attempts_max: int = ATTEMPTS_MAX,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._remotes = remotes
        self._peer = peer
        self._associations = associations
        self._attempts_max = attempts_max
        self._pause = pause
        self._connected = False
        self._busy = 0
        self._stopped: IsocenterError | None = None
        self._tell: Callable[[Sent], None] = lambda sent: None

    async def run(self, objects: Iterable[OutgoingObject], tell: Callable[[Sent], None]) -> None:
        """Send each object once; ``tell`` hears of each, in the order in which they are done with."""
        self._tell = tell
        for load in plan(objects):
            waiting = deque(_Waiting(one) for one in load.objects)
            if not self._stopped:
                await self._run_workers(load.contexts, waiting)
            for left in waiting:
                assert self._stopped is not None, "workers leave nothing behind unless they are stopped"
                tell(Sent(left.object, SendOutcome.FAILED, self._stopped.detail, attempts=left.attempts))

    async def _run_workers(self, contexts: tuple[Proposal, ...], waiting: deque[_Waiting]) -> None:
        count = min(self._associations, len(waiting))
        workers = {asyncio.create_task(self._work(contexts, waiting)) for _ in range(count)}
        try:
            while workers:
                done, workers = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
                for worker in done:
                    worker.result()
                if not waiting and not self._busy:
                    return  # the others still wait to be let in: some peers take one association at a time
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, contexts: tuple[Proposal, ...], waiting: deque[_Waiting]) -> None:
        failures = 0
        while waiting and not self._stopped:
            try:
                async with self._remotes.association(self._peer, contexts) as association:
                    self._connected, failures = True, 0
                    self._busy += 1
                    try:
                        while waiting and not self._stopped and association.usable:
                            await self._send_next(association, waiting)
                    finally:
                        self._busy -= 1
            except Unavailable as error:  # no association: _send_next deals with all that comes later
                failures += 1
                if failures >= self._attempts_max or not self._worth_another_try(error):
                    if not self._busy:
                        self._stopped = error
                    return
                await self._pause(_pause_s(failures))

    def _worth_another_try(self, error: Unavailable) -> bool:
        if isinstance(error, AssociationRejected):
            return error.reject.result == rejections.TRANSIENT
        # Who never answered has a wrong address more often than a bad moment.
        return self._connected or not isinstance(error, ConnectFailed)

    async def _send_next(self, association: ClientAssociation, waiting: deque[_Waiting]) -> None:
        item = waiting.popleft()
        item.attempts += 1
        try:
            sent = await self._send(association, item)
        except BaseException:
            waiting.appendleft(item)
            raise
        if sent is not None:
            self._tell(sent)
            return
        # First in line again: an order that peers may count on is kept as far as it can be.
        waiting.appendleft(item)
        await self._pause(_pause_s(item.attempts))

    async def _send(self, association: ClientAssociation, item: _Waiting) -> Sent | None:
        """None when it is to be tried again."""
        one, attempts = item.object, item.attempts
        syntax = accepted_syntax(association, one)
        if syntax is None:
            reason = why_not_accepted(association, one)
            return Sent(one, SendOutcome.NOT_ACCEPTED, reason, attempts=attempts)
        other = syntax if syntax != one.transfer_syntax_uid else ""
        try:
            body = await rewritten(one.body(), one.transfer_syntax_uid, syntax) if other else one.body()
            answer = await association.store(one.sop_class_uid, one.sop_instance_uid, syntax, body)
        except (IsocenterError, OSError) as error:
            return None if self._is_passing(error, attempts) else _failed(item, error)
        if statuses.family(answer.status) is statuses.Family.WARNING:
            says = statuses.describe(answer.status)
            return Sent(one, SendOutcome.WARNING, says, answer.status, attempts, other)
        return Sent(one, SendOutcome.STORED, "stored", answer.status, attempts, other)

    def _is_passing(self, error: IsocenterError | OSError, attempts: int) -> bool:
        """Whether another attempt may do better, and there is one left."""
        if attempts >= self._attempts_max:
            return False
        if isinstance(error, DimseFailure):
            return error.status >> 8 == statuses.OUT_OF_RESOURCES >> 8
        return isinstance(error, AssociationAborted | DimseTimeout)


def _failed(item: _Waiting, error: IsocenterError | OSError) -> Sent:
    if isinstance(error, DimseFailure):
        return Sent(item.object, SendOutcome.REFUSED, error.detail, error.status, item.attempts)
    if isinstance(error, IsocenterError):
        return Sent(item.object, SendOutcome.FAILED, error.detail, attempts=item.attempts)
    says = error.strerror or type(error).__name__
    return Sent(item.object, SendOutcome.FAILED, says, attempts=item.attempts)


def _pause_s(attempts: int) -> float:
    return min(_PAUSE_MAX_S, _FIRST_PAUSE_S * 2.0 ** (attempts - 1))
