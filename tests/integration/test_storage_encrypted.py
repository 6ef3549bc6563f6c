"""What lies in the store underneath is ciphertext, and nothing but what was written can be read out of it."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from isocenter.kit.errors import Conflict, InternalError, InvalidInput, NotFound
from isocenter.platform.storage.encrypted import SUFFIX, EncryptedStore, KeyDestroyed
from isocenter.platform.storage.interface import InMemory, OnDisk, PutOutcome
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.memory import MemoryStore
from isocenter.platform.storage.sealing import (
    HEADER_BYTES,
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    ObjectDamaged,
    plain_size,
    sealed_size,
)
from services.data_keys import HeldDataKeys

KEY = "1/ab/abcdef"
MARK = b"DOE^JANE"
SIZES = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES, 17 * SEGMENT_BYTES + 5]


@pytest.fixture
def keys() -> HeldDataKeys:
    return HeldDataKeys()


@pytest.fixture
async def inner(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects")


@pytest.fixture
async def store(inner: LocalStore, keys: HeldDataKeys) -> AsyncIterator[EncryptedStore]:
    opened = EncryptedStore(inner, keys)
    yield opened
    await opened.close()


def sealed_file(inner: LocalStore, key: str = KEY) -> Path:
    path = inner.local_path(key + SUFFIX)
    assert path is not None
    return path


async def read_all(store: EncryptedStore, key: str = KEY) -> bytes:
    return b"".join([piece async for piece in store.stream(key, chunk_bytes=50_000)])


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_comes_back_whole_and_in_parts(store, inner, size):
    data = os.urandom(size)
    await store.put(KEY, InMemory([data[:333], bytearray(data[333:])]))
    assert await store.get(KEY) == await read_all(store) == data
    assert sealed_file(inner).stat().st_size == sealed_size(size)
    assert plain_size(sealed_size(size)) == size == (await store.stat(KEY)).size
    for start in {0, 1, size // 2, SEGMENT_BYTES - 1, SEGMENT_BYTES, size - 1, size} - {-1}:
        for length in (0, 1, 100, SEGMENT_BYTES, 2 * SEGMENT_BYTES + 7, size):
            assert await store.read_range(KEY, start, length) == data[start : start + length]
            streamed = b"".join([piece async for piece in store.stream(KEY, start, length)])
            assert streamed == data[start : start + length]


@pytest.mark.parametrize("spooled", [False, True])
async def test_nothing_plain_is_left_on_the_disk(store, tmp_path, spooled):
    data = MARK * 100_000
    if spooled:
        path = tmp_path / "7-1.part"
        path.write_bytes(data)
        await store.put(KEY, OnDisk(path))
    else:
        await store.put(KEY, InMemory([data]))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == sealed_size(len(data))
    assert not [path for path in files if MARK in path.read_bytes()]
    assert await store.get(KEY) == data


async def test_a_refused_file_leaves_no_sealed_copy(store, tmp_path):
    await store.put(KEY, InMemory([b"something else"]))
    path = tmp_path / "7-1.part"
    path.write_bytes(b"mine")
    with pytest.raises(Conflict):
        await store.put(KEY, OnDisk(path))
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["7-1.part"]


async def test_the_sealed_copy_of_a_spooled_file_is_private(store, tmp_path, monkeypatch):
    seen: list[int] = []
    place = store.inner.put

    async def looked_at(key: str, body: OnDisk) -> PutOutcome:
        seen.append(stat.S_IMODE(body.path.stat().st_mode))
        return await place(key, body)

    monkeypatch.setattr(store.inner, "put", looked_at)
    path = tmp_path / "7-1.part"
    path.write_bytes(b"x")
    await store.put(KEY, OnDisk(path))
    assert seen == [0o600]


async def test_the_same_bytes_never_look_the_same(store, inner):
    await store.put(KEY, InMemory([bytes(1000)]))
    await store.put("1/ab/other", InMemory([bytes(1000)]))
    first, second = sealed_file(inner).read_bytes(), sealed_file(inner, "1/ab/other").read_bytes()
    assert first[HEADER_BYTES:] != second[HEADER_BYTES:]
    assert await store.put(KEY, InMemory([bytes(1000)])) is PutOutcome.EXISTED


def flipped(at: int) -> Callable[[bytearray], bytes]:
    def flip(raw: bytearray) -> bytes:
        raw[at] ^= 1
        return bytes(raw)

    return flip


def swapped(raw: bytearray) -> bytes:
    first, second = HEADER_BYTES, HEADER_BYTES + SEALED_SEGMENT_BYTES
    third = second + SEALED_SEGMENT_BYTES
    return bytes(raw[:first] + raw[second:third] + raw[first:second] + raw[third:])


TAMPERINGS: dict[str, Callable[[bytearray], bytes]] = {
    "magic": flipped(0),
    "version": flipped(8),
    "nonce prefix": flipped(9),
    "segment size": flipped(19),
    "size": flipped(27),
    "salt": flipped(HEADER_BYTES - 1),
    "first byte": flipped(HEADER_BYTES),
    "second segment": flipped(HEADER_BYTES + SEALED_SEGMENT_BYTES),
    "last tag": flipped(-1),
    "last byte cut off": lambda raw: bytes(raw[:-1]),
    "last segment cut off": lambda raw: bytes(raw[: HEADER_BYTES + SEALED_SEGMENT_BYTES]),
    "all segments cut off": lambda raw: bytes(raw[:HEADER_BYTES]),
    "header cut short": lambda raw: bytes(raw[:10]),
    "nothing left": lambda raw: b"",
    "segments swapped": swapped,
    "a byte more": lambda raw: bytes(raw) + b"\0",
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_what_was_tampered_with_is_refused(store, inner, tampering):
    await store.put(KEY, InMemory([os.urandom(3 * SEGMENT_BYTES)]))
    path = sealed_file(inner)
    path.write_bytes(TAMPERINGS[tampering](bytearray(path.read_bytes())))
    with pytest.raises(ObjectDamaged) as refusal:
        await store.get(KEY)
    assert refusal.value.remedy
    if tampering == "a byte more":  # nothing of it is ever given out
        assert len(await read_all(store)) == 3 * SEGMENT_BYTES
        return
    with pytest.raises(ObjectDamaged):
        await read_all(store)
    with pytest.raises(ObjectDamaged):
        await store.read_range(KEY, 0, 3 * SEGMENT_BYTES)


async def test_a_header_that_promises_the_last_segment_earlier_is_refused(store, inner):
    """Truncation at a segment's end, with a size that fits: only tag and mark of the last segment tell."""
    await store.put(KEY, InMemory([os.urandom(2 * SEGMENT_BYTES)]))
    raw = bytearray(sealed_file(inner).read_bytes()[: HEADER_BYTES + SEALED_SEGMENT_BYTES])
    raw[20:28] = SEGMENT_BYTES.to_bytes(8)
    sealed_file(inner).write_bytes(raw)
    for reading in (store.get(KEY), read_all(store), store.read_range(KEY, 0, 10)):
        with pytest.raises(ObjectDamaged):
            await reading


async def test_an_object_under_anothers_name_is_refused(store, inner):
    await store.put(KEY, InMemory([b"mine"]))
    await store.put("1/ab/other", InMemory([b"hers"]))
    sealed_file(inner).write_bytes(sealed_file(inner, "1/ab/other").read_bytes())
    with pytest.raises(ObjectDamaged):
        await store.get(KEY)


async def test_a_key_of_nobody_is_told(store, inner):
    await store.put(KEY, InMemory([b"mine"]))
    raw = bytearray(sealed_file(inner).read_bytes())
    raw[30] ^= 1
    sealed_file(inner).write_bytes(raw)
    with pytest.raises(InternalError) as refusal:
        await store.get(KEY)
    assert refusal.value.code == "data-key-unknown"


async def test_a_range_reads_its_own_segments_only(store, inner):
    data = os.urandom(10 * SEGMENT_BYTES)
    await store.put(KEY, InMemory([data]))
    raw = bytearray(sealed_file(inner).read_bytes())
    raw[HEADER_BYTES + 4 * SEALED_SEGMENT_BYTES] ^= 1
    sealed_file(inner).write_bytes(raw)
    assert await store.read_range(KEY, 0, 4 * SEGMENT_BYTES) == data[: 4 * SEGMENT_BYTES]
    assert await store.read_range(KEY, 5 * SEGMENT_BYTES, 100) == data[5 * SEGMENT_BYTES :][:100]
    with pytest.raises(ObjectDamaged, match="segment 4"):
        await store.read_range(KEY, 4 * SEGMENT_BYTES, 1)


async def test_rotation_leaves_old_objects_readable_and_destruction_none(store, keys):
    first = keys.rotate()
    await store.put(KEY, InMemory([b"old"]))
    second = keys.rotate()
    await store.put("1/ab/new", InMemory([b"new"]))
    assert (await store.get(KEY), await store.get("1/ab/new")) == (b"old", b"new")
    keys.destroy(first)
    assert await store.get("1/ab/new") == b"new"
    for reading in (store.get(KEY), store.read_range(KEY, 0, 1), read_all(store)):
        with pytest.raises(KeyDestroyed, match="destroyed"):
            await reading
    keys.destroy(second)
    with pytest.raises(KeyDestroyed):
        await store.get("1/ab/new")


@pytest.mark.parametrize("spooled", [False, True])
async def test_what_nobody_can_read_is_not_called_safe_but_written_anew(store, keys, tmp_path, spooled):
    first = keys.rotate()
    await store.put(KEY, InMemory([b"slice"]))
    keys.destroy(first)
    keys.rotate()
    path = tmp_path / "7-1.part"
    path.write_bytes(b"slice")
    body = OnDisk(path) if spooled else InMemory([b"slice"])
    assert await store.put(KEY, body) is PutOutcome.CREATED
    assert await store.get(KEY) == b"slice"
    assert path.exists() is not spooled


class TestPlainObjects:
    """Objects from before encryption was switched on."""

    async def test_they_are_read_as_they_are(self, store, inner):
        data = os.urandom(200_000)
        await inner.put(KEY, InMemory([data]))
        assert await store.get(KEY) == await read_all(store) == data
        assert await store.read_range(KEY, 10, 20) == data[10:30]
        assert (await store.stat(KEY)).size == 200_000
        assert [(info.key, info.size) async for info in store.list()] == [(KEY, 200_000)]
        assert await store.delete(KEY) is True
        assert await inner.stat(KEY) is None

    async def test_one_that_looks_encrypted_is_plain_all_the_same(self, store, inner):
        await store.put("1/ab/other", InMemory([b"x"]))
        forged = sealed_file(inner, "1/ab/other").read_bytes()  # a DICOM file may begin with any preamble
        await inner.put(KEY, InMemory([forged]))
        assert await store.get(KEY) == forged

    @pytest.mark.parametrize("size", SIZES)
    async def test_encrypting_them_keeps_their_bytes(self, store, inner, tmp_path, size):
        data = os.urandom(size)
        await inner.put(KEY, InMemory([data]))
        assert [info.key async for info in store.plain_objects()] == [KEY]
        assert await store.encrypt(KEY, tmp_path / "7-1.part") is True
        assert await store.get(KEY) == await read_all(store) == data
        assert await inner.stat(KEY) is None
        assert [info async for info in store.plain_objects()] == []
        assert not (tmp_path / "7-1.part").exists()
        assert await store.encrypt(KEY, tmp_path / "7-1.part") is False

    async def test_a_plain_object_goes_only_when_the_encrypted_one_was_read_back(
        self, store, inner, tmp_path
    ):
        await inner.put(KEY, InMemory([b"the only good copy"]))
        await store.put(KEY, InMemory([b"the only good copy"]))
        raw = bytearray(sealed_file(inner).read_bytes())
        raw[-1] ^= 1
        sealed_file(inner).write_bytes(raw)
        with pytest.raises(ObjectDamaged):
            await store.encrypt(KEY, tmp_path / "7-1.part")
        assert await inner.get(KEY) == b"the only good copy"

    async def test_a_plain_object_that_differs_from_the_encrypted_one_stays(self, store, inner, tmp_path):
        await inner.put(KEY, InMemory([b"longer than the other"]))
        await store.put(KEY, InMemory([b"shorter"]))
        with pytest.raises(ObjectDamaged):
            await store.encrypt(KEY, tmp_path / "7-1.part")
        assert await inner.get(KEY) == b"longer than the other"

    async def test_a_stream_goes_on_when_its_object_is_encrypted_meanwhile(self, store, inner, tmp_path):
        data = os.urandom(300_000)
        await inner.put(KEY, InMemory([data]))
        stream = store.stream(KEY, chunk_bytes=100_000)
        received = await anext(stream)
        await store.encrypt(KEY, tmp_path / "7-1.part")
        async for piece in stream:
            received += piece
        assert received == data

    async def test_stored_again_it_is_listed_once_and_deleted_altogether(self, store, inner):
        await inner.put(KEY, InMemory([b"slice"]))
        await store.put(KEY, InMemory([b"slice"]))
        assert [info.key async for info in store.list()] == [KEY]
        renewed_at = (await store.stat(KEY)).modified_at
        assert await store.delete(KEY, unmodified_since=renewed_at - timedelta(seconds=2)) is False
        assert await store.delete(KEY) is True
        assert await store.stat(KEY) is None
        with pytest.raises(NotFound):
            await store.get(KEY)

    async def test_switched_off_again_old_ones_stay_readable_and_new_ones_are_plain(self, store, inner, keys):
        await store.put(KEY, InMemory([b"sealed"]))
        off = EncryptedStore(inner, keys, seal_new=False)
        await off.put("1/ab/new", InMemory([b"plain"]))
        assert (await off.get(KEY), await off.get("1/ab/new")) == (b"sealed", b"plain")
        assert await inner.get("1/ab/new") == b"plain"


async def test_a_name_that_marks_encrypted_objects_is_no_key(store):
    for call in (
        store.put(KEY + SUFFIX, InMemory([b"x"])),
        store.get(KEY + SUFFIX),
        store.stat(KEY + SUFFIX),
    ):
        with pytest.raises(InvalidInput):
            await call


async def test_memory_stays_flat_however_many_store_at_once(keys, monkeypatch):
    store = EncryptedStore(MemoryStore(), keys)
    at_work = most = 0
    place = store.inner.put

    async def counted(key: str, body: InMemory) -> PutOutcome:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        return await place(key, body)

    monkeypatch.setattr(store.inner, "put", counted)
    await asyncio.gather(*[store.put(f"1/ab/{number}", InMemory([b"x"])) for number in range(200)])
    assert 1 < most <= 16
    await store.close()
