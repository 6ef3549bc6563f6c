"""Copies in other transfer syntaxes: bounded, forgotten, apart from the archive, and never in the clear."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isocenter.dicom.part10 import encode_file_meta
from isocenter.features.archive.transcode_cache import TranscodeCache
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import OutOfSpace
from isocenter.platform.storage.encrypted import EncryptedStore
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.interface import ObjectStore
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.memory import MemoryStore
from services.archive import opened
from services.data_keys import HeldDataKeys
from services.images import Pixels, data_set, file_of
from services.schema import fresh_url
from services.transcoding import content_of, instance_of, transcoding

SYNTAX = "1.2.840.10008.1.2.4.80"
HEADER = encode_file_meta(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid=SYNTAX)


def cache_of(
    store: ObjectStore, clock: ManualClock | None = None, *, bytes_max: int = 80_000
) -> TranscodeCache:
    return TranscodeCache(store, clock or ManualClock(datetime.now(UTC)), bytes_max=bytes_max)


async def read(cache: TranscodeCache, name: str) -> bytes | None:
    found = await cache.find(name, SYNTAX)
    if found is None:
        return None
    content = b"".join([piece async for piece in cache.stream(found)])
    assert len(content) == found.size and found.header_size == len(HEADER)
    return content


async def test_what_was_put_is_found_also_after_a_restart() -> None:
    store = MemoryStore()
    cache = cache_of(store)
    await cache.put("1/ab/x", SYNTAX, [HEADER, b"one"])
    assert await read(cache, "1/ab/x") == HEADER + b"one"
    assert await read(cache, "2/ab/x") is None, "another organisation's"
    assert await cache.find("1/ab/x", "1.2.840.10008.1.2.4.90") is None
    assert await read(cache_of(store), "1/ab/x") == HEADER + b"one"
    assert all([info.key.startswith("1/") async for info in store.list()])


async def test_it_never_grows_beyond_its_bytes() -> None:
    store = MemoryStore()
    cache = cache_of(store)
    for number in range(30):
        await cache.put(f"1/ab/{number}", SYNTAX, [HEADER, bytes(9000)])
        await read(cache, "1/ab/0")
    kept = [info.size async for info in store.list()]
    assert 70_000 < sum(kept) <= 80_000
    assert await read(cache, "1/ab/0") is not None, "the one that is read again and again stays"
    assert await read(cache, "1/ab/1") is None and await read(cache, "1/ab/29") is not None
    await cache.put("1/ab/large", SYNTAX, [HEADER, bytes(cache.object_bytes_max)])
    assert await read(cache, "1/ab/large") is None
    shrunk = cache_of(store, bytes_max=40_000)
    await shrunk.put("1/ab/100", SYNTAX, [HEADER])
    assert sum([info.size async for info in store.list()]) <= 40_000


async def test_a_copy_that_is_being_read_stays() -> None:
    store = MemoryStore()
    cache = cache_of(store)
    await cache.put("1/ab/0", SYNTAX, [HEADER, bytes(9000)])
    found = await cache.find("1/ab/0", SYNTAX)
    assert found is not None
    reading = cache.stream(found)
    await anext(reading)
    for number in range(1, 30):
        await cache.put(f"1/ab/{number}", SYNTAX, [HEADER, bytes(9000)])
    assert await store.stat(found.key) is not None
    await reading.aclose()  # type: ignore[attr-defined]
    await cache.put("1/ab/31", SYNTAX, [HEADER, bytes(9000)])
    assert await store.stat(found.key) is None


async def test_a_day_later_it_is_gone() -> None:
    store, clock = MemoryStore(), ManualClock(datetime.now(UTC))
    cache = cache_of(store, clock)
    await cache.put("1/ab/0", SYNTAX, [HEADER])
    clock.advance(timedelta(hours=23).total_seconds())
    await cache.put("1/ab/1", SYNTAX, [HEADER])
    assert await cache.expire() == 0
    clock.advance(timedelta(hours=2).total_seconds())
    assert await cache.expire() == 1
    assert await read(cache, "1/ab/0") is None and await read(cache, "1/ab/1") is not None


async def test_what_somebody_else_deleted_is_missed_quietly() -> None:
    store = MemoryStore()
    cache = cache_of(store)
    await cache.put("1/ab/0", SYNTAX, [HEADER])
    for key in [info.key async for info in store.list()]:
        await store.delete(key)
    assert await read(cache, "1/ab/0") is None
    await cache.put("1/ab/0", SYNTAX, [HEADER])
    assert await read(cache, "1/ab/0") == HEADER


async def test_a_full_disk_costs_nothing_but_the_copy() -> None:
    store = FaultyStore(MemoryStore())
    store.fail(Operation.PUT, lambda: OutOfSpace("full"))
    cache = cache_of(store)
    await cache.put("1/ab/0", SYNTAX, [HEADER])
    assert await read(cache, "1/ab/0") is None


async def test_with_encryption_nothing_lies_in_the_clear(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Objects are sealed, and so are the copies; both are given as if they were not."""
    with fresh_url(request, "sqlite", tmp_path) as url:
        keys = HeldDataKeys()
        sealed = EncryptedStore(LocalStore(tmp_path / "objects"), keys)
        copies = EncryptedStore(LocalStore(tmp_path / "cache"), keys)
        async with opened(url, tmp_path, store=sealed) as archive:
            cache = TranscodeCache(copies, ManualClock(datetime.now(UTC)), bytes_max=1 << 24)
            async with transcoding(archive, cache) as transcoder:
                made = data_set(Pixels(frames=3))
                file = file_of(made)
                await archive.send_one(file)
                instance = await instance_of(archive, file)
                first = await content_of(await transcoder.given(instance, SYNTAX))
                await transcoder.settled()
                found = await cache.find(instance.object_key, SYNTAX)
                assert found is not None
                assert await content_of(await transcoder.given(instance, SYNTAX)) == first
                assert b"Made^Image" in first
                names, lying = await asyncio.to_thread(files_with, tmp_path, b"Made^Image")
                assert any("cache" in name for name in names)
                assert all(name.startswith("archive.db") for name in lying), (
                    "the index is the disk's business"
                )


def files_with(folder: Path, text: bytes) -> tuple[list[str], list[str]]:
    """All files below the folder, and those that hold the text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files], [path.name for path in files if text in path.read_bytes()]
