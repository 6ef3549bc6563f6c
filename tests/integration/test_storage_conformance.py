"""Every object store keeps the same promises: one suite, run against each of them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isocenter.kit.errors import Conflict, InvalidInput, NotFound, Unsupported
from isocenter.platform.storage.encrypted import EncryptedStore
from isocenter.platform.storage.faults import FaultyStore
from isocenter.platform.storage.interface import InMemory, ObjectStore, OnDisk, PutOutcome
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.memory import MemoryStore
from isocenter.platform.storage.open import open_store
from services.data_keys import HeldDataKeys

SIGNING = {"url_base": "http://archive.example", "signing_key": b"0123456789abcdef"}


STORES = ["local", "memory", "faulty", "radosgw"]


@pytest.fixture(params=[*STORES, "encrypted-local", "encrypted-memory", "encrypted-radosgw"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    encrypted, _, kind = request.param.rpartition("-")
    if kind == "radosgw":
        server = request.getfixturevalue("radosgw")
        opened = open_store(
            f"s3://{server.bucket()}/archive",
            endpoint=server.account.endpoint,
            region=server.account.region,
            access_key=server.account.access_key_id,
            secret_key=server.account.secret_access_key,
        )
    else:
        opened = {
            "local": lambda: LocalStore(tmp_path / "objects", **SIGNING),
            "memory": lambda: MemoryStore(**SIGNING),
            "faulty": lambda: FaultyStore(LocalStore(tmp_path / "objects", **SIGNING)),
        }[kind]()
    if encrypted:
        opened = EncryptedStore(opened, HeldDataKeys())
    yield opened
    await opened.close()


async def test_what_is_put_can_be_got(store):
    data = os.urandom(100_000)
    buffers = [data[:1], bytearray(data[1:70_000]), b"", memoryview(data)[70_000:]]
    assert await store.put("default/ab/abcdef", InMemory(buffers)) is PutOutcome.CREATED
    assert await store.get("default/ab/abcdef") == data


async def test_an_object_may_be_empty(store):
    assert await store.put("empty", InMemory([])) is PutOutcome.CREATED
    assert await store.get("empty") == b""
    assert await store.read_range("empty", 0, 10) == b""
    assert [piece async for piece in store.stream("empty")] == []
    assert (await store.stat("empty")).size == 0


async def test_more_buffers_than_one_system_call_takes(store):
    buffers = [bytes([number % 256]) * (number % 7) for number in range(5000)]
    await store.put("pieces", InMemory(buffers))
    assert await store.get("pieces") == b"".join(buffers)


async def test_put_never_overwrites(store):
    await store.put("a/key", InMemory([b"first"]))
    assert await store.put("a/key", InMemory([b"other"])) is PutOutcome.EXISTED
    assert await store.get("a/key") == b"first"


async def test_a_key_taken_by_another_size_is_a_conflict(store):
    await store.put("a/key", InMemory([b"first"]))
    with pytest.raises(Conflict) as refusal:
        await store.put("a/key", InMemory([b"longer than the first"]))
    assert refusal.value.code == "object-size-differs"
    assert await store.get("a/key") == b"first"


async def test_of_many_who_put_the_same_one_creates(store):
    data = os.urandom(200_000)
    outcomes = await asyncio.gather(*[store.put("same/key", InMemory([data])) for _ in range(16)])
    assert outcomes.count(PutOutcome.CREATED) == 1
    assert await store.get("same/key") == data


@pytest.mark.parametrize(
    "size", [0, 1, 300_000, (17 << 20) + 3], ids=["empty", "byte", "slice", "multi-frame"]
)
async def test_a_spooled_file_is_taken_over(store, tmp_path, size):
    data = os.urandom(size)
    spooled = tmp_path / "spooled"
    spooled.write_bytes(data)
    assert await store.put("from/disk", OnDisk(spooled)) is PutOutcome.CREATED
    assert not spooled.exists()
    assert await store.get("from/disk") == data
    spooled.write_bytes(data)
    assert await store.put("from/disk", OnDisk(spooled)) is PutOutcome.EXISTED
    assert not spooled.exists()


async def test_a_refused_file_stays_where_it_is(store, tmp_path):
    await store.put("from/disk", InMemory([b"something else"]))
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"mine")
    with pytest.raises(Conflict):
        await store.put("from/disk", OnDisk(spooled))
    assert spooled.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("start", "length"), [(0, 10), (5, 0), (990, 10), (990, 11), (990, 5000), (1000, 1), (5000, 10)]
)
async def test_a_range_ends_with_the_object(store, start, length):
    data = os.urandom(1000)
    await store.put("ranged", InMemory([data]))
    assert await store.read_range("ranged", start, length) == data[start : start + length]


@pytest.mark.parametrize(
    ("start", "length"), [(0, None), (3, None), (0, 2500), (2990, 100), (0, 0), (9000, None)]
)
async def test_a_stream_gives_the_same_bytes_in_small_pieces(store, start, length):
    data = os.urandom(3000)
    await store.put("streamed", InMemory([data]))
    pieces = [piece async for piece in store.stream("streamed", start, length, chunk_bytes=1000)]
    assert b"".join(pieces) == data[start : None if length is None else start + length]
    assert all(0 < len(piece) <= 1000 for piece in pieces)


async def test_a_large_object_streams(store):
    data = os.urandom((20 << 20) + 1)
    await store.put("large", InMemory([data]))
    received = bytearray()
    async for piece in store.stream("large"):
        received += piece
    assert received == data


async def test_a_stream_may_be_left_early(store):
    await store.put("large", InMemory([bytes(17 << 20)]))
    stream = store.stream("large", chunk_bytes=1000)
    assert len(await anext(stream)) == 1000
    await stream.aclose()


async def test_stat_tells_size_and_time(store):
    await store.put("timed", InMemory([b"12345"]))
    info = await store.stat("timed")
    assert (info.key, info.size) == ("timed", 5)
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)
    assert await store.stat("absent") is None


async def test_what_is_not_there_is_not_found(store):
    for read in (store.get("absent"), store.read_range("absent", 0, 5), store.read_range("absent", 0, 0)):
        with pytest.raises(NotFound):
            await read
    with pytest.raises(NotFound):
        await anext(store.stream("absent"))


async def test_delete_says_whether_there_was_something(store):
    await store.put("a/b", InMemory([b"x"]))
    assert await store.delete("a/b") is True
    assert await store.delete("a/b") is False
    assert await store.stat("a/b") is None
    assert await store.put("a/b", InMemory([b"yy"])) is PutOutcome.CREATED


async def test_delete_spares_what_was_put_later(store):
    await store.put("swept", InMemory([b"x"]))
    modified_at = (await store.stat("swept")).modified_at
    assert await store.delete("swept", unmodified_since=modified_at - timedelta(seconds=2)) is False
    assert await store.get("swept") == b"x"
    assert await store.delete("swept", unmodified_since=modified_at + timedelta(seconds=2)) is True


async def test_list_finds_whole_folders(store):
    keys = {"a/b/1", "a/b/c/2", "a/bc/3", "a/4", "5", *(f"many/{number:04}" for number in range(1200))}
    await asyncio.gather(*[store.put(key, InMemory([key.encode()])) for key in keys])

    async def listed(prefix: str) -> set[str]:
        found = [info async for info in store.list(prefix)]
        assert all(info.size == len(info.key) for info in found)
        assert len(found) == len({info.key for info in found})
        return {info.key for info in found}

    assert await listed("") == keys
    assert await listed("a") == {"a/b/1", "a/b/c/2", "a/bc/3", "a/4"}
    assert await listed("a/b/") == await listed("a/b") == {"a/b/1", "a/b/c/2"}
    assert await listed("nothing/here") == set()


async def test_a_probe_leaves_nothing_to_list(store):
    assert (await store.health()).ok
    assert [info async for info in store.list()] == []


HOSTILE_KEYS = [
    "", "/", "/etc/passwd", "a//b", "a/", "../up", "a/../../b", ".", "..", ".incoming/x", ".health/x", "a/.b",
    "a\\b", "a b", "a\nb", "a\0b", "ä", "%2e%2e/x", "a?b", "a#b", "x" * 256, "/".join(["x" * 200] * 5),
    "a/\u202e",
]  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE_KEYS)
async def test_a_hostile_key_goes_nowhere(store, key):
    for call in (
        store.put(key, InMemory([b"x"])),
        store.get(key),
        store.read_range(key, 0, 1),
        store.stat(key),
        store.delete(key),
        store.signed_url(key),
    ):
        with pytest.raises(InvalidInput):
            await call
    with pytest.raises(InvalidInput):
        await anext(store.stream(key))
    with pytest.raises(InvalidInput):
        store.local_path(key)


async def test_negative_ranges_are_refused(store):
    await store.put("ranged", InMemory([b"x"]))
    for start, length in ((-1, 1), (0, -1)):
        with pytest.raises(InvalidInput):
            await store.read_range("ranged", start, length)


async def test_a_signed_url_names_the_object_and_an_end(store):
    await store.put("shared/one", InMemory([b"x"]))
    if isinstance(store, EncryptedStore):
        with pytest.raises(Unsupported, match="ciphertext"):
            await store.signed_url("shared/one", expires_s=60)
    else:
        url = await store.signed_url("shared/one", expires_s=60)
        assert re.match(r"http://[^?]*/shared/one\?", url)
    for expires_s in (0, -1, 7 * 24 * 3600 + 1):
        with pytest.raises(InvalidInput):
            await store.signed_url("shared/one", expires_s=expires_s)


async def test_local_path_is_the_object_or_nothing(store):
    await store.put("on/disk", InMemory([b"contents"]))
    path = store.local_path("on/disk")
    assert path is None or path.read_bytes() == b"contents"
