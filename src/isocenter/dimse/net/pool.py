"""Associations that are used again: opening one costs a round trip or three, and peers allow only so many."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from isocenter.dimse.net.client import ClientAssociation
from isocenter.dimse.net.errors import DimseTimeout

K = TypeVar("K", bound=Hashable)

SETTLE_S = 1.0
"""How long a peer has to confirm that it stopped."""

Place = ClientAssociation | None
"""What somebody in line is given: an association, or (None) the place to open one in."""


@dataclass(slots=True)
class _Idle(Generic[K]):
    key: K
    association: ClientAssociation
    since_s: float


@dataclass(slots=True)
class _Waiter(Generic[K]):
    key: K
    turn: asyncio.Future[Place]


@dataclass(slots=True)
class _Peer(Generic[K]):
    """``open`` counts places taken: associations in use or idle, and those being opened or released."""

    open: int = 0
    idle: list[_Idle[K]] = field(default_factory=list)
    waiters: deque[_Waiter[K]] = field(default_factory=deque)


class AssociationPool(Generic[K]):
    """At most so many associations to each peer, kept for ``idle_s`` after their last use.

    ``open_association(key)`` opens one; the key is whatever tells associations apart. ``peer_of(key)`` is the
    system it leads to, whose ``max_of`` places all its keys share: an idle association of another key makes
    room. Who finds all places taken waits in line, first come, first served, for ``wait_s`` at most, then
    gets DimseTimeout. An association that broke while it lay idle is replaced without anybody hearing of it;
    one that broke in use raises there, and the next use opens a new one.
    """

    def __init__(
        self,
        open_association: Callable[[K], Awaitable[ClientAssociation]],
        *,
        peer_of: Callable[[K], Hashable] = lambda key: key,
        max_of: Callable[[K], int] | None = None,
        max_per_peer: int = 4,
        idle_s: float = 30.0,
        wait_s: float = 30.0,
    ) -> None:
        self._open = open_association
        self._peer_of = peer_of
        self._max_of = max_of or (lambda _: max_per_peer)
        self._idle_s = idle_s
        self._wait_s = wait_s
        self._peers: dict[Hashable, _Peer[K]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def association(self, key: K, *, wait_s: float | None = None) -> AsyncIterator[ClientAssociation]:
        """One association for the length of the block. ``wait_s`` instead of the pool's own, also infinite.

        Raises DimseTimeout, and what ``open_association`` raises.
        """
        peer = self._peers.setdefault(self._peer_of(key), _Peer())
        association = await self._take(key, peer, self._wait_s if wait_s is None else wait_s)
        try:
            yield association
        finally:
            self._give_back(key, peer, association)

    def is_waited_for(self, key: K) -> bool:
        """Whether somebody waits in line for that peer: who has much to do then gives others their turn."""
        peer = self._peers.get(self._peer_of(key))
        return peer is not None and bool(peer.waiters)

    async def close(self) -> None:
        """Releases the idle ones; those in use are released when they are given back."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for peer in list(self._peers.values()):
            while peer.idle:
                self._retire(peer, peer.idle.pop().association)
        while self._releasing:
            await asyncio.wait(set(self._releasing))

    def open_count(self, key: K) -> int:
        peer = self._peers.get(self._peer_of(key))
        return 0 if peer is None else peer.open

    # ---- taking

    async def _take(self, key: K, peer: _Peer[K], wait_s: float) -> ClientAssociation:
        if not peer.waiters:
            while (idle := self._idle_of(key, peer)) is not None:
                if idle.association.usable and not idle.association.busy:
                    return idle.association
                self._retire(peer, idle.association)
            if peer.open < self._max_of(key):
                peer.open += 1
                return await self._open_one(key, peer)
            if peer.idle:  # of other contexts
                return await self._open_instead(key, peer, peer.idle.pop(0).association)
        place = await self._wait(key, peer, wait_s)
        if place is None:
            return await self._open_one(key, peer)
        return place if place.usable else await self._open_instead(key, peer, place)

    def _idle_of(self, key: K, peer: _Peer[K]) -> _Idle[K] | None:
        """The most recently used is the least likely to be dead."""
        for position in range(len(peer.idle) - 1, -1, -1):
            if peer.idle[position].key == key:
                return peer.idle.pop(position)
        return None

    async def _open_one(self, key: K, peer: _Peer[K]) -> ClientAssociation:
        """In a place that is taken already."""
        try:
            return await self._open(key)
        except BaseException:
            self._leave(peer)
            raise

    async def _open_instead(self, key: K, peer: _Peer[K], idle: ClientAssociation) -> ClientAssociation:
        """In the place of another one. Its end is waited for: some peers take no more than one at a time."""
        try:
            if idle.usable and not idle.busy:
                await idle.release()
            idle.abort()
        except BaseException:
            idle.abort()
            self._leave(peer)
            raise
        return await self._open_one(key, peer)

    async def _wait(self, key: K, peer: _Peer[K], wait_s: float) -> Place:
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(key, turn)
        peer.waiters.append(waiter)
        try:
            async with asyncio.timeout(None if wait_s == float("inf") else wait_s):
                return await turn
        except BaseException as error:
            if waiter in peer.waiters:
                peer.waiters.remove(waiter)
            elif turn.done() and not turn.cancelled():
                self._refuse_place(key, peer, turn.result())  # our turn had come: somebody else takes it
            if isinstance(error, TimeoutError):
                raise DimseTimeout(
                    f"all {self._max_of(key)} associations to that system were in use for {wait_s:g} s",
                    remedy="Try again later, or allow more associations to it.",
                ) from None
            raise

    def _refuse_place(self, key: K, peer: _Peer[K], place: Place) -> None:
        if place is None:
            self._leave(peer)
        else:
            self._give_back(key, peer, place)

    # ---- giving back

    def _give_back(self, key: K, peer: _Peer[K], association: ClientAssociation) -> None:
        if association.usable and association.busy:
            self._later(self._settle(key, peer, association))
            return
        if self._closed or not association.usable:
            self._retire(peer, association)
            return
        waiter = self._next_waiter(peer)
        if waiter is None:
            now_s = asyncio.get_running_loop().time()
            peer.idle.append(_Idle(key, association, now_s))
            if self._timer is None:
                self._arm(now_s + self._idle_s)
        elif waiter.key == key:
            waiter.turn.set_result(association)
        else:
            self._retire(peer, association, waiter)

    def _retire(
        self, peer: _Peer[K], association: ClientAssociation, waiter: _Waiter[K] | None = None
    ) -> None:
        """Ends it; its place is free once it has ended, for ``waiter`` or whoever comes first in line."""
        if association.usable and not association.busy:
            self._later(self._release(peer, association, waiter))
            return
        association.abort()  # where an answer is still due, nobody waits for it
        self._leave(peer, waiter)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _settle(self, key: K, peer: _Peer[K], association: ClientAssociation) -> None:
        """Whoever had it left before the last answer came, and a C-CANCEL is on its way. A peer that says
        soon that it has stopped is asked again over the same association."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await association.until_quiet()
        if association.busy:
            association.abort()
            self._leave(peer)
        else:
            self._give_back(key, peer, association)

    async def _release(
        self, peer: _Peer[K], association: ClientAssociation, waiter: _Waiter[K] | None
    ) -> None:
        try:
            await association.release()
        finally:
            self._leave(peer, waiter)

    def _leave(self, peer: _Peer[K], waiter: _Waiter[K] | None = None) -> None:
        """A place is free."""
        if waiter is None or waiter.turn.done():
            waiter = self._next_waiter(peer)
        if waiter is not None:
            waiter.turn.set_result(None)
            return
        peer.open -= 1
        if not peer.open:
            self._forget(peer)

    def _next_waiter(self, peer: _Peer[K]) -> _Waiter[K] | None:
        while peer.waiters:
            waiter = peer.waiters.popleft()
            if not waiter.turn.done():
                return waiter
        return None

    def _forget(self, peer: _Peer[K]) -> None:
        for name, known in list(self._peers.items()):
            if known is peer:
                del self._peers[name]

    # ---- idle ones

    def _arm(self, at_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        following: float | None = None
        for peer in list(self._peers.values()):
            while peer.idle and peer.idle[0].since_s + self._idle_s <= now_s:
                self._retire(peer, peer.idle.pop(0).association)
            if peer.idle:
                at_s = peer.idle[0].since_s + self._idle_s
                following = at_s if following is None else min(following, at_s)
        if following is not None:
            self._arm(following)
