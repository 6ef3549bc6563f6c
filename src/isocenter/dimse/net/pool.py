"""Associations that are used again: opening one costs a round trip or three, and peers allow only so many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from isocenter.dimse.net.client import ClientAssociation
from isocenter.dimse.net.errors import DimseTimeout

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Idle:
    association: ClientAssociation
    since_s: float


@dataclass(slots=True)
class _Peer:
    open: int = 0
    idle: list[_Idle] = field(default_factory=list)
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)


class AssociationPool(Generic[K]):
    """At most ``max_per_peer`` associations to each peer, kept for ``idle_s`` after their last use.

    ``open_association(key)`` opens one; the key is whatever tells peers (and sets of contexts) apart. Who
    finds all in use waits in line for ``wait_s`` at most, then gets DimseTimeout. An association that broke
    while it lay idle is replaced without anybody hearing of it; one that broke in use raises there, and
    the next use opens a new one.
    """

    def __init__(
        self,
        open_association: Callable[[K], Awaitable[ClientAssociation]],
        *,
        max_per_peer: int = 4,
        idle_s: float = 30.0,
        wait_s: float = 30.0,
    ) -> None:
        self._open = open_association
        self._max = max_per_peer
        self._idle_s = idle_s
        self._wait_s = wait_s
        self._peers: dict[K, _Peer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def association(self, key: K) -> AsyncIterator[ClientAssociation]:
        """One association for the length of the block. Raises what ``open_association`` raises."""
        peer = self._peers.setdefault(key, _Peer())
        association = await self._take(key, peer)
        try:
            yield association
        finally:
            self._give_back(key, peer, association)

    async def close(self) -> None:
        """Releases the idle ones; those in use are released when they are given back."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for key, peer in list(self._peers.items()):
            while peer.idle:
                self._retire(key, peer, peer.idle.pop().association)
        while self._releasing:
            await asyncio.wait(set(self._releasing))

    def open_count(self, key: K) -> int:
        peer = self._peers.get(key)
        return 0 if peer is None else peer.open

    async def _take(self, key: K, peer: _Peer) -> ClientAssociation:
        deadline_s = asyncio.get_running_loop().time() + self._wait_s
        while True:
            while peer.idle:
                association = peer.idle.pop().association  # the most recent is the least likely to be dead
                if association.usable and not association.busy:
                    return association
                self._retire(key, peer, association)
            if peer.open < self._max:
                return await self._open_one(key, peer)
            await self._wait(peer, deadline_s)

    async def _open_one(self, key: K, peer: _Peer) -> ClientAssociation:
        peer.open += 1
        try:
            return await self._open(key)
        except BaseException:
            self._count_down(key, peer)
            raise

    async def _wait(self, peer: _Peer, deadline_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        peer.waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline_s):
                await waiter
        except TimeoutError:
            raise DimseTimeout(
                f"all {self._max} associations to that system were in use for {self._wait_s:g} s",
                remedy="Try again later, or allow more associations to it.",
            ) from None
        finally:
            if waiter in peer.waiters:
                peer.waiters.remove(waiter)
            elif waiter.cancelled():
                self._wake(peer)  # our turn had come: somebody else takes it

    def _give_back(self, key: K, peer: _Peer, association: ClientAssociation) -> None:
        if self._closed or not association.usable or association.busy:
            self._retire(key, peer, association)
            return
        now_s = asyncio.get_running_loop().time()
        peer.idle.append(_Idle(association, now_s))
        self._wake(peer)
        if self._timer is None:
            self._arm(now_s + self._idle_s)

    def _retire(self, key: K, peer: _Peer, association: ClientAssociation) -> None:
        self._count_down(key, peer)
        if not association.usable:
            return
        if association.busy:
            association.abort()  # an answer is still due, and nobody waits for it
            return
        task = asyncio.get_running_loop().create_task(association.release())
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    def _count_down(self, key: K, peer: _Peer) -> None:
        peer.open -= 1
        self._wake(peer)
        if not peer.open and not peer.waiters:
            self._peers.pop(key, None)

    def _wake(self, peer: _Peer) -> None:
        while peer.waiters:
            waiter = peer.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self, at_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        following: float | None = None
        for key, peer in list(self._peers.items()):
            while peer.idle and peer.idle[0].since_s + self._idle_s <= now_s:
                self._retire(key, peer, peer.idle.pop(0).association)
            if peer.idle:
                at_s = peer.idle[0].since_s + self._idle_s
                following = at_s if following is None else min(following, at_s)
        if following is not None:
            self._arm(following)
