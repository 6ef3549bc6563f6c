"""What must hold while and after a server is attacked, whatever the attack was."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator

from services.archive import Image
from services.attacked import RESIDENT_BYTES_MAX, AttackedServer, image

CITIZEN_S_MAX = 20
"""Long enough for a machine that is busy with other tests; whoever is starved waits for ever."""
_numbers = itertools.count(1)


def next_image(**changes: object) -> Image:
    """No two alike in one session of tests."""
    return image(next(_numbers), study=2).but(**changes)


class Citizen:
    """Associates, sends an object, asks for it over HTTP; again and again."""

    def __init__(self, server: AttackedServer) -> None:
        self._server = server
        self.served = asyncio.Event()
        self.slowest_s = 0.0

    async def work(self) -> None:
        while True:
            begun_s = time.monotonic()
            await self.once()
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
            self.served.set()

    async def once(self) -> None:
        one = next_image()
        assert await self._server.c_store(one) == 0
        found = await self._server.http("GET", f"/dicom-web/instances?SOPInstanceUID={one.sop}")
        assert len(found.json()) == 1


@contextlib.asynccontextmanager
async def under_attack(server: AttackedServer) -> AsyncIterator[AttackedServer]:
    """A well-behaved sender is served all the while and memory stays under the bound; afterwards descriptors
    are back and nothing of ours broke, as far as the log tells."""
    # What the server opens with its first work (a connection for each thread of the database's) is no leak.
    await asyncio.gather(*(Citizen(server).once() for _ in range(8)))
    before = server.descriptors()
    server.forget_resident_bytes_max()
    log_from = server.log.stat().st_size
    citizen = Citizen(server)
    working = asyncio.create_task(citizen.work())
    try:
        yield server
        citizen.served.clear()
        served = asyncio.create_task(citizen.served.wait())
        await asyncio.wait([working, served], timeout=CITIZEN_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        assert served.done(), "the well-behaved sender is kept waiting"
    finally:
        working.cancel()
        await asyncio.wait([working])
    assert citizen.slowest_s < CITIZEN_S_MAX
    assert server.resident_bytes_max() < RESIDENT_BYTES_MAX
    await asyncio.to_thread(
        server.wait_until, lambda: server.descriptors() <= before + 2, "return to as many descriptors"
    )
    logged = server.log.read_bytes()[log_from:]
    assert b"Traceback" not in logged
    assert b'"level": "error"' not in logged
