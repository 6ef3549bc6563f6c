"""Destinations of a C-MOVE, and requesters of it, that stall, break, lie or vanish: the requester hears how
far it came, nothing waits for ever, and the server lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.sop_classes import STUDY_ROOT_MOVE
from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.server import DimseServer
from isocenter.dimse.protocol import rejections
from isocenter.dimse.scu.sending import SendPolicy
from services.retrieving import Gate, Receiver, Responses, images, move, moved, receiving
from services.scp import EXPLICIT, ScpDoor, identifier, scp_door

SOME = images(8)
ALL = [image.sop for image in SOME]
STUDY = {"t0020000D": b"1.5.1\0"}


@pytest.fixture
async def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScpDoor]:
    """Silence is a third of a second, and nobody pauses between attempts."""

    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    *others, _ = SendPolicy.__init__.__defaults__ or ()
    assert list(SendPolicy.__dataclass_fields__)[-1] == "pause"
    monkeypatch.setattr(SendPolicy.__init__, "__defaults__", (*others, no_pause))
    async with scp_door(tmp_path, outgoing_response_s=0.3) as made:
        await made.archive.send(*SOME)
        yield made


async def moving(door: ScpDoor, server: DimseServer) -> Responses:
    await door.destination("STORE", server.port)
    async with asyncio.timeout(30):
        return await move(door, "STORE", **STUDY)


async def still_serves(door: ScpDoor) -> None:
    receiver = Receiver()
    async with receiving(receiver) as server:
        assert (await moving(door, server)).counts == (0, 8, 0, 0)
    assert door.server.open_associations == 0


class Cutting(Receiver):
    """Cuts its connections while it is at certain objects, so many times."""

    def __init__(self, at: dict[str, int], *, aborts: bool = False) -> None:
        super().__init__()
        self._at = at
        self._aborts = aborts
        self.server: DimseServer | None = None
        finishing = self.on_finish

        async def cut(sink: Any) -> None:
            uid = sink.request.affected_sop_instance_uid
            if self._at.get(uid, 0):
                self._at[uid] -= 1
                self.under_way -= 1
                assert self.server is not None
                for connection in list(self.server._connections):
                    if self._aborts:
                        connection.end("no more")
                        connection.hang_up()
                    else:
                        connection.cut("gone")
                return
            await finishing(sink)

        self.on_finish = cut


@pytest.mark.parametrize("aborts", [True, False], ids=["aborts", "vanishes"])
async def test_a_receiver_that_breaks_now_and_then_gets_everything(door: ScpDoor, aborts: bool) -> None:
    receiver = Cutting({ALL[0]: 1, ALL[3]: 1, ALL[7]: 1}, aborts=aborts)
    async with receiving(receiver) as server:
        receiver.server = server
        responses = await moving(door, server)
    assert responses.counts == (0, 8, 0, 0)
    assert list(dict.fromkeys(receiver.uids)) == ALL


async def test_an_object_that_breaks_it_each_time_fails_alone(door: ScpDoor) -> None:
    receiver = Cutting({ALL[2]: 99})
    async with receiving(receiver) as server:
        receiver.server = server
        responses = await moving(door, server)
    assert responses.counts == (0xB000, 7, 1, 0)
    assert responses.failed == [ALL[2]]
    await still_serves(door)


async def test_one_that_breaks_at_every_object_is_given_up(door: ScpDoor) -> None:
    receiver = Cutting(dict.fromkeys(ALL, 99))
    async with receiving(receiver) as server:
        receiver.server = server
        responses = await moving(door, server)
    assert responses.counts == (0xA702, 0, 8, 0)
    assert responses.failed == ALL
    assert len(receiver.requests) == 6, "three objects, twice each"
    await still_serves(door)


async def test_one_that_stalls_is_given_up_and_the_requester_heard_that_we_are_there(door: ScpDoor) -> None:
    receiver, gate = Receiver(), Gate()
    finishing = receiver.on_finish

    async def stalls(sink: Any) -> None:
        if sink.request.affected_sop_instance_uid == ALL[2]:
            await gate.wait()
        await finishing(sink)

    receiver.on_finish = stalls
    async with receiving(receiver) as server:
        responses = await moving(door, server)
        gate.opened.set()
    assert responses.counts == (0xB000, 2, 6, 0)
    assert responses.failed == ALL[2:]
    assert "said nothing" in responses.final.error_comment
    await still_serves(door)


async def test_one_that_accepts_connections_and_says_nothing(door: ScpDoor) -> None:
    async with silent() as port:
        await door.destination("STORE", port)
        async with asyncio.timeout(30):
            responses = await move(door, "STORE", **STUDY)
    assert responses.counts == (0xA702, 0, 8, 0)
    assert "did not answer" in responses.final.error_comment
    await still_serves(door)


@asynccontextmanager
async def silent(says: bytes = b"") -> AsyncIterator[int]:
    writers = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(says)
        await reader.read(-1)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize(
    "says", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x02\x00\x00\x00\x00\x04abcd", b"\xff" * 4096]
)
async def test_one_that_speaks_something_else(door: ScpDoor, says: bytes) -> None:
    async with silent(says) as port:
        await door.destination("STORE", port)
        async with asyncio.timeout(30):
            responses = await move(door, "STORE", **STUDY)
    assert responses.counts == (0xA702, 0, 8, 0)
    await still_serves(door)


@pytest.mark.parametrize(
    "reject", [rejections.CALLING_AE_TITLE_NOT_RECOGNIZED, rejections.LOCAL_LIMIT_EXCEEDED]
)
async def test_one_that_lets_nobody_in(door: ScpDoor, reject: Any) -> None:
    receiver = Receiver()
    receiver.verdict = reject
    async with receiving(receiver) as server:
        responses = await moving(door, server)
    assert responses.counts == (0xA702, 0, 8, 0)
    assert responses.final.error_comment.startswith("STORE refused")


async def test_answers_in_another_order(door: ScpDoor) -> None:
    """As many as the window allows, the last one first: each counts for its own object."""
    receiver = Receiver(window=8, statuses={ALL[1]: 0xA900, ALL[6]: 0xB000})
    finishing, waiting = receiver.on_finish, list[asyncio.Event]()

    async def reversed_(sink: Any) -> None:
        mine = asyncio.Event()
        waiting.append(mine)
        if len(waiting) == len(ALL):
            waiting.pop().set()
        await mine.wait()
        await finishing(sink)
        if waiting:
            waiting.pop().set()

    receiver.on_finish = reversed_
    async with receiving(receiver) as server:
        responses = await moving(door, server)
    assert responses.counts == (0xB000, 6, 1, 1)
    assert responses.failed == [ALL[1]]


async def test_a_status_that_nobody_knows_is_a_failure(door: ScpDoor) -> None:
    receiver = Receiver(statuses={ALL[0]: 0x7777, ALL[1]: 0xFE00, ALL[2]: 0x0001})
    async with receiving(receiver) as server:
        responses = await moving(door, server)
    assert responses.counts == (0xB000, 5, 2, 1)
    assert responses.failed == ALL[:2]


async def test_many_requesters_that_vanish_leave_nothing_behind(door: ScpDoor) -> None:
    receiver, gate = Receiver(window=4), Gate()
    receiver.on_finish = gate.wait
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port, associations_max=2)
        query = identifier("STUDY", **STUDY)
        tasks = []
        for number in range(20):
            association = await door.connect(Proposal(STUDY_ROOT_MOVE, (EXPLICIT,)))
            tasks.append(asyncio.create_task(moved(association, "STORE", query)))
            await asyncio.sleep(0)
            if number >= 4:
                await gate.reached.wait()
            association._connection.cut("gone")
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        gate.opened.set()
        assert all(isinstance(one, Exception) for one in ended)
        async with asyncio.timeout(20):
            while door.server.open_associations or door.outgoing.remotes._pool._peers:
                await door.archive.one("SELECT 1")
    await still_serves(door)


async def test_a_giant_list_of_uids_is_one_query(door: ScpDoor) -> None:
    receiver = Receiver()
    uids = [f"1.5.1.1.{number}" for number in range(1, 30_000)]
    async with receiving(receiver) as server:
        await door.destination("STORE", server.port)
        async with asyncio.timeout(30):
            responses = await move(door, "STORE", "IMAGE", t00080018="\\".join(uids).encode())
    assert responses.counts == (0, 8, 0, 0)
