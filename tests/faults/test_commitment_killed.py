"""``kill -9`` between a storage commitment's request and its report: who was told that we took it on hears
how it came out, from the server that follows (PS3.4 J.3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import AssociationAborted, DimseTimeout
from services.archive import CT, EXPLICIT
from services.attacked import AttackedServer, image, store
from services.committing import COMMITMENT, Listener, action, ask
from services.processes import free_ports
from services.retrieving import receiving

TRANSACTION = "2.25.4711"
IMAGES = [image(number) for number in range(1, 4)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AttackedServer]:
    server = AttackedServer(tmp_path / "server", ("--min-free-disk", "0"))
    yield server
    server.stop()


async def asked(server: AttackedServer) -> None:
    """Objects stored, commitment taken on; who asked has hung up."""
    async with await server.associate(Proposal(CT, (EXPLICIT,))) as association:
        for one in IMAGES:
            assert await store(association, one) == 0
    association = await server.associate(Proposal(COMMITMENT, (EXPLICIT,)))
    response = await ask(association, action(TRANSACTION, [(CT, one.sop) for one in IMAGES]))
    assert response.status == 0
    association.abort()


def commitments(server: AttackedServer) -> list[dict[str, Any]]:
    listed = server.command("commitment", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return list(orjson.loads(listed.stdout))


async def reported(server: AttackedServer, listener: Listener) -> None:
    async with asyncio.timeout(60):
        told = await listener.heard.get()
        assert told == (1, TRANSACTION, {one.sop: 0 for one in IMAGES})
        while (await asyncio.to_thread(commitments, server))[0]["state"] != "settled":
            pass


async def test_what_was_taken_on_is_reported_after_a_kill(server: AttackedServer) -> None:
    (port,) = free_ports(1)
    await asyncio.to_thread(server.start)
    await asked(server)
    server.kill()
    await asyncio.to_thread(server.stop)
    added = server.command("ae", "destination", "add", "ATTACKED", "127.0.0.1", str(port))
    assert added.returncode == 0, added.stderr
    [waiting] = commitments(server)
    assert (waiting["state"], waiting["instance_count"], waiting["ae_title"]) == ("waiting", 3, "ATTACKED")
    await asyncio.to_thread(server.start)
    listener = Listener()
    async with receiving(listener, port=port):
        await reported(server, listener)


async def test_a_kill_while_the_other_reads_the_report_brings_it_again(server: AttackedServer) -> None:
    listener = Listener()
    reading, killed = asyncio.Event(), asyncio.Event()
    hears = listener.n_event_report

    async def slowly(*arguments: Any) -> Any:
        reading.set()
        await killed.wait()
        return await hears(*arguments)

    listener.n_event_report = slowly  # type: ignore[method-assign]
    await asyncio.to_thread(server.start)
    async with receiving(listener) as there:
        added = await asyncio.to_thread(
            server.command, "ae", "destination", "add", "ATTACKED", "127.0.0.1", str(there.port)
        )
        assert added.returncode == 0, added.stderr
        await asked(server)
        async with asyncio.timeout(30):
            await reading.wait()
        server.kill()
        killed.set()
        await asyncio.to_thread(server.stop)
        await listener.heard.get()  # it heard it, and could not say so
        await asyncio.to_thread(server.start)
        await reported(server, listener)


async def test_a_kill_in_the_middle_of_retrievals_leaves_a_sound_archive(server: AttackedServer) -> None:
    from services.retrieving import Receiver, moved
    from services.scp import identifier

    move_model = "1.2.840.10008.5.1.4.1.2.2.2"
    receiver, arrived = Receiver(), asyncio.Event()
    finishing = receiver.on_finish

    async def third(sink: Any) -> None:
        await finishing(sink)
        if len(receiver.stored) == 2:
            arrived.set()
            await asyncio.Event().wait()

    receiver.on_finish = third
    await asyncio.to_thread(server.start)
    async with receiving(receiver) as there:
        await asyncio.to_thread(
            server.command, "ae", "destination", "add", "STORE", "127.0.0.1", str(there.port)
        )
        await asked(server)
        association = await server.associate(Proposal(move_model, (EXPLICIT,)))
        query = identifier("STUDY", t0020000D=IMAGES[0].study.encode())
        moving = asyncio.create_task(moved(association, "STORE", query))
        await arrived.wait()
        server.kill()
        with pytest.raises((AssociationAborted, DimseTimeout)):
            await moving
        await asyncio.to_thread(server.stop)
    checked = await asyncio.to_thread(server.checked)
    assert checked["healthy"], checked
