"""Objects in their order, errors in their turn, and nothing left running where somebody goes away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from isocenter.features.archive.reading_ahead import AHEAD, read_ahead


class Disk:
    """``begun``: the streams whose first piece was asked for."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def stream(
        self, number: int, pieces: int = 2, *, fails_at: int = -1
    ) -> Callable[[], AsyncIterator[bytes]]:
        async def read() -> AsyncIterator[bytes]:
            self.begun.append(number)
            try:
                for piece in range(pieces):
                    await self.gate.wait()
                    if piece == fails_at:
                        raise OSError(number)
                    yield b"%d.%d" % (number, piece)
            finally:
                self.ended.append(number)

        return read


async def test_every_piece_in_order_and_a_few_beginnings_ahead() -> None:
    disk = Disk()
    streams = read_ahead(disk.stream(number, pieces=number % 3) for number in range(7))
    read: list[list[bytes]] = []
    async with contextlib.aclosing(streams):
        async for pieces in streams:
            await asyncio.sleep(0)
            assert len(disk.begun) <= len(read) + AHEAD + 1
            read.append([piece async for piece in pieces])
    assert read == [[b"%d.%d" % (number, piece) for piece in range(number % 3)] for number in range(7)]


async def test_the_next_are_begun_while_one_is_taken() -> None:
    disk = Disk()
    streams = read_ahead(disk.stream(number) for number in range(9))
    async with contextlib.aclosing(streams):
        pieces = await anext(streams)
        assert await anext(pieces) == b"0.0"
        assert disk.begun == [0, 1, 2]
        await pieces.aclose()
    assert sorted(disk.ended) == [0, 1, 2]


@pytest.mark.parametrize("fails_at", [0, 1])
async def test_an_error_comes_in_its_turn(fails_at: int) -> None:
    disk = Disk()
    streams = read_ahead([disk.stream(0), disk.stream(1, fails_at=fails_at), disk.stream(2)])
    read: list[bytes] = []
    with pytest.raises(OSError, match="1"):
        async with contextlib.aclosing(streams):
            async for pieces in streams:
                async for piece in pieces:
                    read += [piece]
    assert read == [b"0.0", b"0.1", b"1.0"][: 2 + fails_at]
    assert set(disk.ended) >= {0, 1}


async def test_who_goes_away_leaves_no_read_behind() -> None:
    disk = Disk()
    disk.gate.clear()
    streams = read_ahead(disk.stream(number) for number in range(5))
    taking = asyncio.ensure_future(anext(await anext(streams)))
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await streams.aclose()
    assert sorted(disk.ended) == sorted(disk.begun)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nothing_at_all() -> None:
    assert [pieces async for pieces in read_ahead([])] == []
