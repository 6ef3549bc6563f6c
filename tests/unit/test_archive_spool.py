"""Where bytes wait while they arrive: memory within a budget, else a file; nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from isocenter.features.archive.spool import MemoryBudget, Spool, SpooledBytes
from isocenter.kit.errors import OutOfSpace, Unavailable

STEP = 256 << 10


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", memory_budget_bytes=4 * STEP, threshold_bytes=2 * STEP)
    made.prepare()
    yield made
    made.close()


async def keep(content: SpooledBytes, *pieces: bytes) -> None:
    for piece in pieces:
        waiting = content.append(piece)
        if waiting is not None:
            await waiting


def test_a_budget_gives_no_more_than_it_has():
    budget = MemoryBudget(10)
    assert budget.take(7)
    assert not budget.take(4)
    assert budget.used_bytes == 7
    budget.give_back(7)
    assert budget.take(10)


async def test_small_objects_stay_in_memory(spool: Spool):
    content = SpooledBytes(spool)
    await keep(content, b"abc", bytearray(b"def"), memoryview(b"ghi"))
    await content.finish()
    assert content.in_memory
    assert bytes(content.memory) == b"abcdefghi"
    assert spool.budget.used_bytes > 0
    await content.discard()
    assert spool.budget.used_bytes == 0


async def test_what_is_kept_is_a_copy(spool: Spool):
    content = SpooledBytes(spool)
    buffer = bytearray(b"x" * STEP)
    for letter in b"abcd":  # the last ones go to the file
        buffer[:] = bytes([letter]) * STEP
        await keep(content, buffer)
    await content.finish()
    assert content.path is not None
    assert content.path.read_bytes() == b"".join(letter * STEP for letter in (b"a", b"b", b"c", b"d"))
    await content.discard()


@pytest.mark.parametrize("pieces", [3, 5, 40])
async def test_large_objects_go_to_a_file(spool: Spool, pieces: int):
    content = SpooledBytes(spool)
    await keep(content, *([b"z" * STEP] * pieces))
    await content.finish()
    assert content.path is not None
    assert content.path.stat().st_size == pieces * STEP == content.size
    await content.discard()
    assert list(spool.folder.iterdir()) == []
    assert spool.budget.used_bytes == 0


async def test_a_used_up_budget_sends_even_small_objects_to_a_file(spool: Spool):
    holders = [SpooledBytes(spool) for _ in range(4)]
    for holder in holders:
        await keep(holder, b"held")
    late = SpooledBytes(spool)
    await keep(late, b"la", b"te")
    await late.finish()
    assert late.path is not None
    assert late.path.read_bytes() == b"late"
    for content in [*holders, late]:
        await content.discard()
    assert spool.budget.used_bytes == 0


async def test_what_waits_to_be_written_counts_too(spool: Spool):
    """A hundred spooling senders must not hold more than the budget between them."""
    contents = [SpooledBytes(spool) for _ in range(100)]
    for _ in range(4):
        for content in contents:
            await keep(content, b"x" * STEP)
            assert spool.budget.used_bytes <= spool.budget.total_bytes
    assert sum(content.waiting_bytes for content in contents) <= spool.budget.total_bytes
    for content in contents:
        await content.discard()
    assert spool.budget.used_bytes == 0


async def test_discarding_twice_and_at_any_moment_is_allowed(spool: Spool):
    for pieces in range(5):
        content = SpooledBytes(spool)
        await keep(content, *([b"q" * STEP] * pieces))
        await content.discard()
        await content.discard()
    assert list(spool.folder.iterdir()) == []
    assert spool.budget.used_bytes == 0


async def test_a_cancelled_write_leaves_no_file(spool: Spool):
    content = SpooledBytes(spool)
    waiting = None
    while waiting is None:
        waiting = content.append(b"c" * STEP)
    coroutine = waiting.__await__()
    next(coroutine)  # the thread has begun, and then its sender goes away
    with pytest.raises(GeneratorExit):
        coroutine.throw(GeneratorExit)
    await content.discard()
    assert list(spool.folder.iterdir()) == []


def test_prepare_removes_what_a_crash_left_and_nothing_of_the_living(tmp_path: Path):
    folder = tmp_path / "spool"
    folder.mkdir()
    dead, living, stranger = folder / "999999999-1.part", folder / "1-7.part", folder / "notes.txt"
    own = folder / f"{os.getpid()}-3.part"
    for path in (dead, living, stranger, own):
        path.write_bytes(b"x")
    spool = Spool(folder, memory_budget_bytes=1, threshold_bytes=1)
    spool.prepare()
    spool.close()
    assert sorted(path.name for path in folder.iterdir()) == sorted([living.name, stranger.name])


async def test_a_reserve_of_free_space_is_kept(tmp_path: Path):
    spool = Spool(tmp_path, memory_budget_bytes=1, threshold_bytes=1, min_free_bytes=1 << 62)
    content = SpooledBytes(spool)
    with pytest.raises(OutOfSpace) as refused:
        await keep(content, b"more than a byte")
    assert refused.value.code == "disk-reserve-reached"
    await content.discard()
    spool.close()


async def test_a_folder_that_has_gone_is_said_so(tmp_path: Path):
    spool = Spool(tmp_path / "gone", memory_budget_bytes=1, threshold_bytes=1)
    content = SpooledBytes(spool)
    with pytest.raises(Unavailable):
        await keep(content, b"more than a byte")
        await content.finish()
    await content.discard()
    spool.close()
