"""C-STORE as SCU: many objects to one peer (PS3.4 B)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from isocenter.dimse.net.bodies import Body
from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.errors import AssociationRejected, ConnectFailed
from isocenter.dimse.protocol import rejections
from isocenter.dimse.protocol.messages import CStoreResponse
from isocenter.dimse.scu.contexts import plan, why_not_accepted
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.dimse.scu.streaming import (
    Sender,
    SendOutcome,
    SendPolicy,
    Sent,
    Waiting,
    pause_s,
)
from isocenter.kit.errors import IsocenterError, Unavailable

__all__ = ["SendObjects", "SendOutcome", "SendPolicy", "Sent"]

_TURN_OBJECTS = 16
"""After so many, whoever waits for an association with the same peer has a turn."""


class SendObjects:
    """One run of sending. ``associations``: how many at once; with more than one, or where the peer takes
    several objects at once, objects may overtake one another. ``move_originator``: the AE title and the
    message ID of the C-MOVE whose sub-operations these are. ``wait_s``: how long to wait in line for a peer
    whose associations are all in use; None: as ``Remotes`` does.
    """

    def __init__(
        self,
        remotes: Remotes,
        peer: Peer,
        *,
        associations: int = 1,
        policy: SendPolicy | None = None,
        move_originator: tuple[str, int] | None = None,
        wait_s: float | None = None,
    ) -> None:
        self._remotes = remotes
        self._peer = peer
        self._associations = associations
        self._policy = policy or SendPolicy()
        self._move_originator = move_originator
        self._wait_s = wait_s
        self._connected = False
        self._busy = 0
        self._sender: Sender | None = None
        self._leave = False

    async def run(self, objects: Sequence[OutgoingObject], tell: Callable[[Sent], None]) -> None:
        """Send each object once; ``tell`` hears of each, in the order in which they are done with."""
        sender = Sender(tell, self._policy)
        sender.leave, sender.stopped = self._leave, self.stopped
        self._sender = sender
        try:
            for load in plan(objects, self._policy.conversions, self._policy.preferred):
                waiting = deque(Waiting(one) for one in load.objects)
                if sender.goes_on:
                    await self._run_workers(sender, load.contexts, waiting)
                if sender.leave:
                    return
                for left in waiting:
                    assert sender.stopped is not None, "workers leave nothing behind unless they are stopped"
                    says = sender.stopped.detail
                    sender.told(Sent(left.object, SendOutcome.FAILED, says, attempts=left.attempts))
        finally:
            await sender.close()

    def leave(self) -> None:
        """Begin nothing more: ``run`` ends once what is under way is answered, and is silent on the rest."""
        self._leave = True
        if self._sender is not None:
            self._sender.leave = True

    @property
    def stopped(self) -> IsocenterError | None:
        """Why the peer was given up before all was sent."""
        return None if self._sender is None else self._sender.stopped

    async def _run_workers(
        self, sender: Sender, contexts: tuple[Proposal, ...], waiting: deque[Waiting]
    ) -> None:
        count = min(self._associations, len(waiting))
        workers = {asyncio.create_task(self._work(sender, contexts, waiting)) for _ in range(count)}
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

    async def _work(self, sender: Sender, contexts: tuple[Proposal, ...], waiting: deque[Waiting]) -> None:
        failures = 0
        while waiting and sender.goes_on:
            try:
                async with self._remotes.association(
                    self._peer, contexts, wait_s=self._wait_s
                ) as association:
                    self._connected, failures = True, 0
                    self._busy += 1
                    try:
                        await self._send_over(sender, association, waiting)
                    finally:
                        self._busy -= 1
            except Unavailable as error:  # no association: the sender deals with all that comes later
                failures += 1
                if failures >= self._policy.attempts_max or not self._worth_another_try(error):
                    if not self._busy:
                        sender.stopped = error
                    return
                await self._policy.pause(pause_s(failures))

    async def _send_over(
        self, sender: Sender, association: ClientAssociation, waiting: deque[Waiting]
    ) -> None:
        begun_at = sender.done

        def enough() -> bool:
            return sender.done - begun_at >= _TURN_OBJECTS and self._remotes.is_waited_for(self._peer)

        await sender.over(_Channel(association, self._move_originator), waiting, enough=enough)

    def _worth_another_try(self, error: Unavailable) -> bool:
        if isinstance(error, AssociationRejected):
            return error.reject.result == rejections.TRANSIENT
        # Who never answered has a wrong address more often than a bad moment.
        return self._connected or not isinstance(error, ConnectFailed)


@dataclass(frozen=True, slots=True)
class _Channel:
    """An association that we opened, as ``streaming.Channel``."""

    association: ClientAssociation
    move_originator: tuple[str, int] | None

    @property
    def window(self) -> int:
        return self.association.window

    @property
    def usable(self) -> bool:
        return self.association.usable

    def accepted(self, sop_class_uid: str) -> Collection[str]:
        return self.association.accepted(sop_class_uid)

    def why_not_accepted(self, one: OutgoingObject) -> str:
        return why_not_accepted(self.association, one)

    async def store(self, one: OutgoingObject, transfer_syntax_uid: str, body: Body) -> CStoreResponse:
        return await self.association.store(
            one.sop_class_uid,
            one.sop_instance_uid,
            transfer_syntax_uid,
            body,
            move_originator=self.move_originator,
        )
