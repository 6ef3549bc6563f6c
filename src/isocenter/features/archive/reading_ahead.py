"""Objects that are given one after the other: the beginnings of the next few are read while one is sent.

A disk that is asked for one thing at a time gives half of what it can, and nothing while the network is busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from itertools import islice

AHEAD = 2
"""Beginnings in memory, a piece each (``ObjectStore.stream``)."""


async def read_ahead(
    streams: Iterable[Callable[[], AsyncIterator[bytes]]],
) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
    """The pieces of each in turn, to be taken before the next is asked for. They raise what streams raise."""
    waiting = iter(streams)
    under_way = deque(_Begun(stream()) for stream in islice(waiting, AHEAD))
    try:
        while under_way:
            begun = under_way.popleft()
            if (stream := next(waiting, None)) is not None:
                under_way.append(_Begun(stream()))
            yield begun.pieces()
    finally:
        await asyncio.gather(*(begun.abandon() for begun in under_way))


class _Begun:
    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._first = asyncio.create_task(self._read_first())

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            if first := await self._first:
                yield first
                async for piece in self._stream:
                    yield piece
        finally:
            await self._close()

    async def abandon(self) -> None:
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        if (close := getattr(self._stream, "aclose", None)) is not None:
            await close()

    async def _read_first(self) -> bytes:
        return await anext(self._stream, b"")
