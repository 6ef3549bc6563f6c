"""The store that fails on demand fails when it was told to, and only then."""

from __future__ import annotations

import pytest

from isocenter.kit.errors import InvalidInput, OutOfSpace, Unavailable, Unsupported
from isocenter.platform.storage.faults import FaultyStore, Moment, Operation
from isocenter.platform.storage.interface import InMemory
from isocenter.platform.storage.memory import MemoryStore
from isocenter.platform.storage.signing import UrlSigner

BODY = InMemory([b"x"])


def full() -> OutOfSpace:
    return OutOfSpace("disk full")


async def test_the_nth_put_fails_and_the_next_succeeds():
    store = FaultyStore(MemoryStore())
    store.fail(Operation.PUT, full, nth=2)
    await store.put("1", BODY)
    with pytest.raises(OutOfSpace):
        await store.put("2", BODY)
    await store.put("2", BODY)
    assert [info.key async for info in store.list()] == ["1", "2"]


async def test_a_fault_may_last_until_it_is_healed():
    store = FaultyStore(MemoryStore())
    store.fail(Operation.GET, lambda: Unavailable("gone"), times=None)
    await store.put("1", BODY)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await store.get("1")
        with pytest.raises(Unavailable):
            await store.read_range("1", 0, 1)
        with pytest.raises(Unavailable):
            await anext(store.stream("1"))
    store.heal()
    assert await store.get("1") == b"x"


async def test_an_answer_may_get_lost_after_the_deed():
    store = FaultyStore(MemoryStore())
    store.fail(Operation.PUT, lambda: Unavailable("gone"), moment=Moment.AFTER)
    store.fail(Operation.DELETE, lambda: Unavailable("gone"), moment=Moment.AFTER)
    with pytest.raises(Unavailable):
        await store.put("1", BODY)
    assert await store.stat("1")
    with pytest.raises(Unavailable):
        await store.delete("1")
    assert await store.stat("1") is None


async def test_looking_and_listing_fail_too():
    store = FaultyStore(MemoryStore())
    store.fail(Operation.STAT, lambda: Unavailable("gone"))
    store.fail(Operation.LIST, lambda: Unavailable("gone"))
    with pytest.raises(Unavailable):
        await store.stat("1")
    with pytest.raises(Unavailable):
        await anext(store.list())


async def test_without_a_key_nothing_is_signed():
    with pytest.raises(Unsupported):
        await MemoryStore().signed_url("a")
    with pytest.raises(InvalidInput):
        UrlSigner("http://archive.example", b"short")
