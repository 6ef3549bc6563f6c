"""The next objects are read while the one before them is on its way, within bounds of number and size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from itertools import islice

from isocenter.dimse.net.bodies import Body, chunks
from isocenter.dimse.scu.outgoing import OutgoingObject

OBJECTS_MAX = 4
BYTES_MAX = 8 << 20
SMALL_BYTES_MAX = 4 << 20
"""Larger objects are read while they are sent. Smaller ones are read to their end before: one that turns out
to be damaged then costs no association."""


class ReadAhead:
    """Of one sender. ``close`` ends what is still being read."""

    def __init__(self, *, objects_max: int = OBJECTS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._objects_max = objects_max
        self._bytes_max = bytes_max
        self._reading: dict[int, asyncio.Task[Body]] = {}
        self._bytes = 0

    def expect(self, objects: Iterable[OutgoingObject]) -> None:
        """These come next, in this order: what may be held of them is read now."""
        for one in islice(objects, self._objects_max):
            if id(one) in self._reading or one.size > SMALL_BYTES_MAX:
                continue
            if self._bytes + one.size > self._bytes_max:
                return
            self._bytes += one.size
            self._reading[id(one)] = asyncio.create_task(_read(one), name="read-ahead")

    async def body(self, one: OutgoingObject) -> Body:
        """Its data set, at once if it was read before. Raises what reading raised."""
        reading = self._reading.pop(id(one), None)
        if reading is None:
            return await _read(one) if one.size <= SMALL_BYTES_MAX else one.body()
        self._bytes -= one.size
        return await reading

    async def close(self) -> None:
        reading, self._reading = list(self._reading.values()), {}
        self._bytes = 0
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(one: OutgoingObject) -> Body:
    """All of it; what turns out to be larger than it said is begun anew, and streams."""
    body = one.body()
    if isinstance(body, bytes):
        return body
    pieces: list[bytes] = []
    total = 0
    async with aclosing(chunks(body)) as read:
        async for piece, _ in read:
            pieces.append(bytes(piece))
            total += len(piece)
            if total > SMALL_BYTES_MAX:
                return one.body()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
