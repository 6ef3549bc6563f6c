"""Work that can wait goes on at once where the process idles, rests where it does not, and never starves."""

from __future__ import annotations

import asyncio

import pytest

from isocenter.features.archive.spare_time import SpareTime


class Process:
    """Time passes while it works or rests; ``busy``: what others use of a core meanwhile."""

    def __init__(self, busy: float) -> None:
        self.busy = busy
        self.now_s = self.cpu_s = self.rested_s = 0.0

    def work(self, seconds: float) -> None:
        self.now_s += seconds
        self.cpu_s += seconds

    async def rest(self, seconds: float) -> None:
        self.now_s += seconds
        self.cpu_s += seconds * self.busy
        self.rested_s += seconds

    def spare_time(self) -> SpareTime:
        return SpareTime(cpu_s=lambda: self.cpu_s, now_s=lambda: self.now_s, rest=self.rest)


@pytest.mark.parametrize(("busy", "rested_s"), [(0.0, 0.1), (0.3, 0.1), (0.5, 1.9), (2.0, 1.9)])
async def test_it_rests_once_where_others_are_idle_and_nineteen_times_where_they_are_not(
    busy: float, rested_s: float
) -> None:
    process = Process(busy)
    async with process.spare_time().turn():
        process.work(0.1)
    assert process.rested_s == pytest.approx(rested_s)


async def test_it_goes_on_as_soon_as_the_others_are_done() -> None:
    process = Process(busy=1.0)
    spare_time = process.spare_time()

    async def rest(seconds: float) -> None:
        await process.rest(seconds)
        if process.rested_s > 0.25:
            process.busy = 0.0

    spare_time._rest = rest
    async with spare_time.turn():
        process.work(0.1)
    assert process.rested_s == pytest.approx(0.4)


async def test_a_piece_of_no_time_rests_all_the_same() -> None:
    process = Process(busy=1.0)
    async with process.spare_time().turn():
        pass
    assert process.rested_s == pytest.approx(0.02)


async def test_one_piece_at_a_time_and_one_that_fails_lets_the_next_in() -> None:
    process = Process(busy=0.0)
    spare_time = process.spare_time()
    at_work = 0

    async def piece(fails: bool) -> None:
        nonlocal at_work
        async with spare_time.turn():
            assert at_work == 0
            at_work += 1
            await asyncio.sleep(0)
            at_work -= 1
            if fails:
                raise ValueError

    results = await asyncio.gather(*(piece(number == 1) for number in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ValueError, type(None), type(None)]
