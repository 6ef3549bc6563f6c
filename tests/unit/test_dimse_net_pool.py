"""The association pool: associations are used again, heal, and are let go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from dimse_service import STUDY_FIND, MemoryService, associate, serving

from isocenter.dimse.net.client import ClientAssociation
from isocenter.dimse.net.errors import AssociationRejected, DimseTimeout
from isocenter.dimse.net.pool import AssociationPool
from isocenter.dimse.net.server import DimseServer
from isocenter.dimse.net.service import PendingAnswer
from isocenter.dimse.protocol import rejections

IDENTIFIER = b"\x08\x00\x52\x00CS\x06\x00STUDY "


async def test_a_pool_uses_associations_again_and_heals() -> None:
    service = MemoryService()
    async with serving(service) as server:
        opened = []

        async def open_association(key: str):  # type: ignore[no-untyped-def]
            opened.append(key)
            return await associate(server)

        pool: AssociationPool[str] = AssociationPool(open_association, max_per_peer=2, wait_s=5)

        async def use() -> None:
            async with pool.association("peer") as association:
                await association.echo()

        await asyncio.gather(*(use() for _ in range(20)))
        assert len(opened) == 2
        async with pool.association("peer") as association:
            association._connection.cut("test")
            await association.wait_closed()
        await use()
        await use()
        assert pool.open_count("peer") <= 2
        await pool.close()
        assert pool.open_count("peer") == 0


async def test_a_full_pool_lets_nobody_wait_for_ever() -> None:
    async with serving(MemoryService()) as server:
        pool: AssociationPool[str] = AssociationPool(lambda _: associate(server), max_per_peer=1, wait_s=0.1)
        async with pool.association("peer"):
            with pytest.raises(DimseTimeout, match="in use"):
                async with pool.association("peer"):
                    pass
        async with pool.association("peer") as association:
            await association.echo()
        await pool.close()


async def test_a_pool_releases_what_lies_idle() -> None:
    service = MemoryService()
    async with serving(service) as server:
        pool: AssociationPool[str] = AssociationPool(lambda _: associate(server), idle_s=0.05)
        async with pool.association("peer") as association:
            await association.echo()
        assert (await service.outcomes.get()).reason == "released"
        await pool.close()


# --- one system, several sets of contexts


class Opened:
    """A pool whose keys are ``"system/contexts"``; ``keys``: what was opened, in order."""

    def __init__(self, server: DimseServer, **settings: Any) -> None:
        self.keys: list[str] = []
        self._server = server
        self.pool: AssociationPool[str] = AssociationPool(
            self._open, peer_of=lambda key: key.partition("/")[0], **settings
        )

    async def _open(self, key: str) -> ClientAssociation:
        self.keys.append(key)
        return await associate(self._server)

    async def use(self, key: str) -> None:
        async with self.pool.association(key) as association:
            await association.echo()


async def test_all_contexts_of_a_system_share_its_places() -> None:
    """An idle association of other contexts is released before a new one is opened in its place."""
    service = MemoryService()
    async with serving(service, associations_max=1) as server:
        opened = Opened(server, max_per_peer=1, wait_s=5)
        for key in ("pacs/ct", "pacs/ct", "pacs/mr", "pacs/ct"):
            await opened.use(key)
        assert opened.keys == ["pacs/ct", "pacs/mr", "pacs/ct"]
        assert opened.pool.open_count("pacs/anything") == 1
        assert [(await service.outcomes.get()).reason for _ in range(2)] == ["released"] * 2
        await opened.pool.close()


async def test_whoever_came_first_is_served_first() -> None:
    """Also before somebody who gives a place back and wants it again at once."""
    async with serving(MemoryService()) as server:
        opened = Opened(server, max_per_peer=1, wait_s=5)
        order: list[str] = []

        async def want(name: str, key: str) -> None:
            async with opened.pool.association(key):
                order.append(name)

        async with opened.pool.association("pacs/ct"):
            waiting = [asyncio.create_task(want("first", "pacs/ct"))]
            await asyncio.sleep(0)
            waiting.append(asyncio.create_task(want("second", "pacs/mr")))
            await asyncio.sleep(0)
            assert opened.pool.is_waited_for("pacs/sr")
            assert not opened.pool.is_waited_for("elsewhere/ct")
        await want("third", "pacs/ct")
        await asyncio.gather(*waiting)
        assert order == ["first", "second", "third"]
        assert not opened.pool.is_waited_for("pacs/sr")
        await opened.pool.close()
        assert opened.pool.open_count("pacs/ct") == 0


async def test_a_turn_that_nobody_takes_goes_to_the_next() -> None:
    async with serving(MemoryService()) as server:
        opened = Opened(server, max_per_peer=1, wait_s=5)
        async with opened.pool.association("pacs/ct"):
            gone, stays = (asyncio.create_task(opened.use("pacs/ct")) for _ in range(2))
            await asyncio.sleep(0)
            gone.cancel()
        await stays
        # Its turn has come, and it is cancelled before it learns of it.
        async with opened.pool.association("pacs/ct"):
            gone = asyncio.create_task(opened.use("pacs/mr"))
            stays = asyncio.create_task(opened.use("pacs/ct"))
            await asyncio.sleep(0)
            for waiter in opened.pool._peers["pacs"].waiters:
                if waiter.key == "pacs/mr":
                    waiter.turn.add_done_callback(lambda _: gone.cancel())
        await stays
        assert gone.cancelled() or await asyncio.wait({gone})
        assert opened.pool.open_count("pacs/ct") == 1
        await opened.pool.close()
        assert opened.pool.open_count("pacs/ct") == 0


async def test_a_system_that_refuses_leaves_no_place_taken() -> None:
    service = MemoryService(verdict=rejections.CALLING_AE_TITLE_NOT_RECOGNIZED)
    async with serving(service) as server:
        opened = Opened(server, max_per_peer=2, wait_s=5)
        for _ in range(5):
            with pytest.raises(AssociationRejected):
                await opened.use("pacs/ct")
        assert opened.pool.open_count("pacs/ct") == 0
        results = await asyncio.gather(*(opened.use("pacs/ct") for _ in range(10)), return_exceptions=True)
        assert {type(result) for result in results} == {AssociationRejected}
        assert opened.pool.open_count("pacs/ct") == 0
        service.verdict = None
        await asyncio.gather(*(opened.use(f"pacs/{number % 3}") for number in range(30)))
        await opened.pool.close()
        assert opened.pool.open_count("pacs/ct") == 0


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_no_place_is_lost_and_none_too_many_given(seed: int) -> None:
    """Users who come, break, are cancelled, in any order; places add up at the end."""
    chance = random.Random(seed)
    service = MemoryService()
    async with serving(service, associations_max=3) as server:
        opened = Opened(server, max_per_peer=3, wait_s=20)
        in_use = most = 0

        async def user(number: int) -> None:
            nonlocal in_use, most
            async with opened.pool.association(f"pacs/{number % 4}") as association:
                in_use += 1
                most = max(most, in_use)
                try:
                    await association.echo()
                    if chance.random() < 0.2:
                        association.abort()
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    in_use -= 1

        tasks = [asyncio.create_task(user(number)) for number in range(60)]
        for task in tasks:
            if chance.random() < 0.25:
                asyncio.get_running_loop().call_later(chance.random() * 0.05, task.cancel)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in ended} <= {type(None), asyncio.CancelledError}, ended
        assert most <= 3
        async with asyncio.timeout(10):
            await opened.use("pacs/0")
            await opened.pool.close()
        assert opened.pool.open_count("pacs/0") == 0


async def test_a_query_that_is_left_early_is_cancelled_and_the_association_used_again() -> None:
    service = MemoryService(matches=10_000)
    async with serving(service) as server:
        opened = Opened(server, max_per_peer=1)
        for _ in range(2):
            async with (
                opened.pool.association("a") as association,
                aclosing(association.find(STUDY_FIND, IDENTIFIER)) as matches,
            ):
                await anext(matches)
        await opened.pool.close()
        outcome = await service.outcomes.get()
    assert len(opened.keys) == 1
    assert outcome.operations == {"C-FIND": 2}
    assert outcome.reason == "released"


async def test_who_does_not_confirm_that_it_stopped_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.dimse.net.pool.SETTLE_S", 0.01)
    deaf = asyncio.Event()

    async def never() -> AsyncIterator[PendingAnswer]:
        yield PendingAnswer(IDENTIFIER)
        try:
            await deaf.wait()
        except asyncio.CancelledError:
            await deaf.wait()

    service = MemoryService(on_find=never)
    async with serving(service) as server:
        opened = Opened(server, max_per_peer=1)
        async with (
            opened.pool.association("a") as association,
            aclosing(association.find(STUDY_FIND, IDENTIFIER)) as matches,
        ):
            await anext(matches)
        async with opened.pool.association("a") as another:
            assert another is not association
        deaf.set()
        await opened.pool.close()
