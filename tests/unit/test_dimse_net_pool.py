"""The association pool: associations are used again, heal, and are let go."""

from __future__ import annotations

import asyncio

import pytest
from dimse_service import (
    MemoryService,
    associate,
    serving,
)

from isocenter.dimse.net.errors import (
    DimseTimeout,
)
from isocenter.dimse.net.pool import AssociationPool

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
