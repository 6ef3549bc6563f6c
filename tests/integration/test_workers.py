"""Work in processes of its own: what crashes, loops or eats memory costs one call and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from isocenter.imaging.errors import PixelDataBroken
from isocenter.kit.errors import Busy, InternalError, NotFound, Unavailable
from isocenter.platform.workers.errors import WorkCrashed, WorkOutOfMemory, WorkTimedOut
from isocenter.platform.workers.pool import WorkerLimits, WorkerPool, _Worker
from isocenter.platform.workers.wire import packed
from services import worker_functions as work

MEMORY_BYTES = 256 << 20


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(2, WorkerLimits(memory_bytes=MEMORY_BYTES, waiting_max=2))
    yield pool
    await pool.close()


async def test_a_call_is_done_elsewhere(pool: WorkerPool) -> None:
    assert await pool.run(work.doubled, 21) == 42
    assert await pool.run(work.process_id) != os.getpid()
    large = os.urandom(8 << 20)
    assert await pool.run(work.echoed, large) == large


async def test_workers_are_used_again_and_no_more_than_wanted(pool: WorkerPool) -> None:
    alone = {await pool.run(work.process_id) for _ in range(5)}
    assert len(alone) == 1
    both = set(await asyncio.gather(*(pool.run(work.process_id) for _ in range(4))))
    assert len(both) <= 2


async def test_who_works_and_who_waits_is_told(pool: WorkerPool) -> None:
    assert (pool.count, pool.busy, pool.waiting, pool.busy_s) == (2, 0, 0, 0)
    calls = [asyncio.create_task(pool.run(work.process_id)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (pool.busy, pool.waiting) == (2, 1)
    await asyncio.gather(*calls)
    assert (pool.busy, pool.waiting) == (0, 0)
    assert pool.busy_s > 0


async def test_a_crash_costs_one_call(pool: WorkerPool) -> None:
    with pytest.raises(WorkCrashed):
        await pool.run(work.crashed)
    assert await pool.run(work.doubled, 1) == 2


async def test_a_crash_does_not_touch_the_others_call(pool: WorkerPool) -> None:
    results = await asyncio.gather(
        pool.run(work.crashed),
        *(pool.run(work.doubled, number) for number in range(2)),
        return_exceptions=True,
    )
    assert isinstance(results[0], WorkCrashed) and results[1:] == [0, 2]


async def test_an_endless_loop_is_ended(pool: WorkerPool) -> None:
    with pytest.raises(WorkTimedOut):
        await pool.run(work.looped, time_limit_s=0.2)
    assert await pool.run(work.doubled, 1) == 2


@pytest.mark.parametrize("function", [work.hungry, work.hungry_by_and_by])
async def test_memory_is_bounded(pool: WorkerPool, function: object) -> None:
    before = await pool.run(work.process_id)
    with pytest.raises(WorkOutOfMemory):
        await pool.run(function)  # type: ignore[arg-type]
    assert await pool.run(work.process_id) != before, "its memory may lie in pieces"


async def test_errors_come_back_as_they_were(pool: WorkerPool) -> None:
    with pytest.raises(NotFound) as caught:
        await pool.run(work.refused)
    assert (caught.value.code, caught.value.remedy) == ("no-such-instance", "look elsewhere")
    with pytest.raises(PixelDataBroken, match="it is a test"):
        await pool.run(work.refused_by_imaging)
    with pytest.raises(InternalError, match=r"ZeroDivisionError.*on purpose"):
        await pool.run(work.failed)


async def test_an_answer_cannot_carry_code(pool: WorkerPool) -> None:
    with pytest.raises(InternalError, match="UnpicklingError"):
        await pool.run(work.dangerous)


async def test_secrets_of_the_environment_stay_here(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOCENTER_STORAGE_SECRET_KEY", "s3cret")
    names = await pool.run(work.environment)
    assert "PATH" in names
    assert not [name for name in names if name.startswith(("ISOCENTER", "AWS"))]


async def test_a_worker_writes_no_files(pool: WorkerPool, tmp_path: Path) -> None:
    with pytest.raises((InternalError, WorkCrashed)):
        await pool.run(work.written, str(tmp_path / "file"))
    assert not (tmp_path / "file").read_bytes()


async def test_who_goes_away_leaves_the_worker_usable(pool: WorkerPool) -> None:
    large = os.urandom(4 << 20)
    begun = asyncio.create_task(pool.run(work.echoed, large))
    await asyncio.sleep(0)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    for number in range(4):
        assert await pool.run(work.doubled, number) == 2 * number


async def test_too_many_waiting_are_sent_away(pool: WorkerPool) -> None:
    running = [asyncio.create_task(pool.run(work.looped, time_limit_s=1)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Busy) as caught:
        await pool.run(work.doubled, 1)
    assert caught.value.retry_after_s
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(outcome, WorkTimedOut) for outcome in outcomes)


async def test_a_worker_that_dies_of_old_sins_does_not_fail_the_next_call(pool: WorkerPool) -> None:
    number = await pool.run(work.process_id)
    assert await pool.run(work.mortal, number) != number
    with pytest.raises(WorkCrashed):
        await pool.run(work.crashed)


async def test_a_worker_that_died_while_idle_is_replaced(pool: WorkerPool) -> None:
    number = await pool.run(work.process_id)
    os.kill(number, signal.SIGKILL)
    assert await pool.run(work.process_id) != number


async def test_idle_workers_end() -> None:
    pool = WorkerPool(1, WorkerLimits(memory_bytes=MEMORY_BYTES, idle_s=0.0))
    first = await pool.run(work.process_id)
    await asyncio.sleep(0)
    assert await pool.run(work.process_id) != first
    await pool.close()


async def test_a_closed_pool_says_so_and_leaves_no_process() -> None:
    pool = WorkerPool(2, WorkerLimits(memory_bytes=MEMORY_BYTES))
    number = await pool.run(work.process_id)
    running = asyncio.create_task(pool.run(work.looped))
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with pytest.raises(Unavailable):
        await pool.run(work.doubled, 1)


async def test_a_worker_whose_server_is_gone_ends_itself() -> None:
    """Killed servers close no loops: the alarm does, within the call's own limit."""
    worker = _Worker.start(MEMORY_BYTES, ())
    message = packed((work.looped.__module__, "looped", (), 0.3))
    await asyncio.get_running_loop().sock_sendall(worker._connection, message)
    worker._connection.close()
    assert await asyncio.to_thread(worker._process.wait, 30) == -signal.SIGALRM
