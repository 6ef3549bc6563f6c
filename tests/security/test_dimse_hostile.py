"""Hostile bytes on the DIMSE port: bounded memory, an abort that can be read, a line in the log, and the
server goes on serving others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from dimse_service import CT, EXPLICIT, MemoryService, MemorySink, associate, serving

from isocenter.dimse.net.server import DimseServer
from isocenter.dimse.net.service import Accept, Peer, PendingAnswer, Reject
from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.limits import Limits
from isocenter.dimse.protocol.messages import CEchoRequest, CFindRequest, CStoreRequest
from isocenter.dimse.protocol.pdu import (
    PDV_COMMAND,
    PDV_LAST,
    AssociateRequest,
    ProposedContext,
    data_header,
    encode_associate_request,
)

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
REQUEST = encode_associate_request(
    AssociateRequest(
        "ISOCENTER",
        "HOSTILE",
        (
            ProposedContext(1, "1.2.840.10008.1.1", (EXPLICIT,)),
            ProposedContext(3, CT, (EXPLICIT,)),
            ProposedContext(5, STUDY_FIND, (EXPLICIT,)),
        ),
    )
)
STORE = command_set.encode(
    CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"), has_data_set=True
)
FIND = command_set.encode(CFindRequest(message_id=1, affected_sop_class_uid=STUDY_FIND), has_data_set=True)
ECHO = command_set.encode(CEchoRequest(message_id=1), has_data_set=False)
RELEASE = b"\5\0\0\0\0\4\0\0\0\0"


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return data_header(context_id, control, len(data)) + data


class Attacker:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, server: DimseServer, *, establish: bool = False) -> Attacker:
        attacker = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        if establish:
            attacker.writer.write(REQUEST)
            assert (await attacker.pdu())[:1] == b"\2"
        return attacker

    async def pdu(self) -> bytes:
        header = await self.reader.readexactly(6)
        return header + await self.reader.readexactly(int.from_bytes(header[2:6], "big"))

    async def send(self, data: bytes) -> None:
        """As far as the server takes it."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def rest(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def still_serves(server: DimseServer) -> None:
    async with await associate(server) as association:
        await association.echo()


RANDOM = random.Random(20)
BEFORE = {
    "random": RANDOM.randbytes(4096),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
    "tls": bytes.fromhex("16030100f8010000f40303") + RANDOM.randbytes(300),
    "zeros": bytes(10_000),
    "request of 4 GB": b"\1\0\xff\xff\xff\xff" + bytes(1000),
    "request of 2 MB": b"\1\0\0\x20\0\0" + bytes(1000),
    "p-data first": pdv(1, 3, bytes(100)),
    "accept": b"\2" + REQUEST[1:],
    "cut items": b"\1\0\0\0\0\x48" + REQUEST[6:74] + b"\x20\0\xff\xff",
    "10,000 contexts": encode_associate_request(
        AssociateRequest(
            "A", "B", tuple(ProposedContext(2 * n % 254 + 1, "1.2", ("1.2.3",)) for n in range(10_000))
        )
    ),
    "100,000 items": b"\1\0" + (68 + 400_000).to_bytes(4, "big") + REQUEST[6:74] + b"\x77\0\0\0" * 100_000,
}


@pytest.mark.parametrize("attack", BEFORE)
async def test_before_an_association(attack: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(MemoryService()) as server:
        attacker = await Attacker.connect(server)
        await attacker.send(BEFORE[attack])
        assert (await attacker.pdu())[:1] == b"\7"
        await attacker.close()
        await still_serves(server)
    assert sum("association ended" in record.message for record in caplog.records) == 2
    assert "aborted by us" in caplog.text


async def test_titles_that_are_none_are_echoed_and_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    title = b"\\\n\x1b[31mX\xff\0      "
    request = REQUEST[:10] + title[:16].ljust(16) + b"a\\b".ljust(16) + REQUEST[42:]
    async with serving(MemoryService()) as server:
        attacker = await Attacker.connect(server)
        await attacker.send(request)
        assert (await attacker.pdu())[:1] == b"\2"
        await attacker.send(RELEASE)
        assert (await attacker.pdu())[:1] == b"\6"
        await attacker.close()
    assert "\x1b" not in caplog.text


INSIDE = {
    "random": b"\xaa" + RANDOM.randbytes(4096),
    "p-data of 4 GB": b"\4\0\xff\xff\xff\xff",
    "fragment of 4 GB": b"\4\0\0\0\1\0\xff\xff\xff\xff\3\3" + bytes(300),
    "unknown context": pdv(99, 3, bytes(100)),
    "even context": pdv(4, 3, bytes(100)),
    "data without command": pdv(3, 2, bytes(100)),
    "garbage command": pdv(3, 3, RANDOM.randbytes(100)),
    "command that never ends": pdv(3, PDV_COMMAND, bytes(10_000)) * 20,
    "response to nothing": pdv(
        3,
        3,
        command_set.encode(CEchoRequest(message_id=1), has_data_set=False).replace(b"\x30\0", b"\x30\x80"),
    ),
    "another request": REQUEST,
    "release inside of a message": pdv(3, 3, STORE) + RELEASE,
    "mixed messages": pdv(3, 3, STORE) + pdv(5, 3, FIND),
}


@pytest.mark.parametrize("attack", INSIDE)
async def test_inside_an_association(attack: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service = MemoryService()
    async with serving(service) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(INSIDE[attack])
        assert (await attacker.pdu())[:1] == b"\7"
        await attacker.close()
        outcome = await service.outcomes.get()
        assert "aborted by us" in outcome.reason or "answered what was not asked" in outcome.reason
        assert service.stored == []
        await still_serves(server)
    assert "calling='HOSTILE'" in caplog.text


async def test_an_identifier_that_never_ends_is_refused_within_bounded_memory() -> None:
    async with serving(MemoryService()) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(pdv(5, 3, FIND))
        fragment = pdv(5, 0, bytes(100_000))
        tracemalloc.start()
        for _ in range(400):  # 40 MB
            await attacker.send(fragment)
        await attacker.send(pdv(5, PDV_LAST, b""))
        answer = await attacker.pdu()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert answer[:1] == b"\4"
        assert (0xA700).to_bytes(2, "little") in answer
        assert peak < 16_000_000
        await attacker.close()


async def test_an_object_that_never_ends_is_cut_at_the_limit() -> None:
    class Dropping(MemorySink):
        def write(self, fragment: memoryview) -> None:
            return None

    service = MemoryService()
    service.store = lambda association, request, syntax: Dropping(service, request, syntax)  # type: ignore[method-assign]
    async with serving(service, limits=Limits(data_set_bytes_max=5_000_000)) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(pdv(3, 3, STORE))
        for _ in range(60):
            await attacker.send(pdv(3, 0, bytes(120_000)))
        assert (await attacker.pdu())[:1] == b"\7"
        await attacker.close()
        outcome = await service.outcomes.get()
        assert "larger than any" in outcome.reason
        assert (service.stored, service.aborted) == ([], 1)


async def test_a_hundred_thousand_empty_fragments_cost_no_memory() -> None:
    async with serving(MemoryService()) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(pdv(3, 3, STORE))
        await attacker.send(pdv(3, 0, b"") * 100_000 + pdv(3, PDV_LAST, b""))
        assert (await attacker.pdu())[:1] == b"\4"
        await attacker.close()


@pytest.mark.parametrize("start", [0, 1, 10, 100])
async def test_a_slow_loris_dies_with_artim(start: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(MemoryService(), artim_s=0.1) as server:
        attacker = await Attacker.connect(server)
        await attacker.send(REQUEST[:start])
        assert await attacker.rest() == b""
        await attacker.close()
        await still_serves(server)
    assert "ARTIM expired" in caplog.text


async def test_bytes_now_and_then_do_not_put_artim_off() -> None:
    async with serving(MemoryService(), artim_s=0.2) as server:
        attacker = await Attacker.connect(server)

        async def drip() -> None:
            for byte in REQUEST:
                await attacker.send(bytes((byte,)))
                await asyncio.wait((end,), timeout=0.02)
                if end.done():
                    return

        end = asyncio.ensure_future(attacker.rest())
        await drip()
        assert await end == b""
        await attacker.close()


async def test_after_our_abort_a_peer_that_stays_is_hung_up_on() -> None:
    async with serving(MemoryService(), artim_s=0.1) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(b"\x47" + bytes(9))
        assert (await attacker.rest())[:1] == b"\7"
        await attacker.close()


async def test_half_of_a_message_and_then_silence() -> None:
    service = MemoryService()
    async with serving(service, idle_s=0.1) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(pdv(3, 3, STORE) + pdv(3, 0, bytes(1000))[:500])
        assert (await attacker.pdu())[:1] == b"\7"
        await attacker.close()
        assert "silent" in (await service.outcomes.get()).reason
        assert service.aborted == 1


async def test_a_peer_that_reads_nothing_is_cut() -> None:
    answered = 0

    async def endless() -> AsyncIterator[PendingAnswer]:
        nonlocal answered
        big = os.urandom(50_000)
        while True:
            answered += 1
            yield PendingAnswer(big)

    service = MemoryService(on_find=endless)
    async with serving(service, write_stall_s=0.2) as server:
        attacker = await Attacker.connect(server, establish=True)
        attacker.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await attacker.send(pdv(5, 3, FIND) + pdv(5, PDV_LAST, b"x"))
        outcome = await service.outcomes.get()
        assert "did not read" in outcome.reason
        assert answered < 1000  # what fits into the buffers, not what the handler would give
        await attacker.close()


async def test_beyond_all_limits_the_longest_silent_makes_room() -> None:
    async with serving(MemoryService(), associations_max=2) as server:
        attackers = [await Attacker.connect(server) for _ in range(20)]
        await still_serves(server)
        for attacker in attackers[:16]:
            assert await attacker.rest() == b""
        for attacker in attackers:
            await attacker.close()


async def test_beyond_all_limits_nobody_who_asked_makes_room() -> None:
    admitting = asyncio.Event()

    class Slow(MemoryService):
        async def admit(self, request: AssociateRequest, peer: Peer) -> Accept | Reject:
            await admitting.wait()
            return await super().admit(request, peer)

    async with serving(Slow(), associations_max=2) as server:
        asking = [await Attacker.connect(server) for _ in range(2)]
        for attacker in asking:
            await attacker.send(REQUEST)
        silent = [await Attacker.connect(server) for _ in range(6)]
        for attacker in silent[:4]:
            assert await attacker.rest() == b""
        admitting.set()
        for attacker in asking:
            assert (await attacker.pdu())[:1] == b"\2"
        for attacker in (*asking, *silent):
            await attacker.close()


async def test_requests_without_reading_answers_are_bounded_by_the_window() -> None:
    service = MemoryService()
    async with serving(service) as server:
        attacker = await Attacker.connect(server, establish=True)
        await attacker.send(pdv(1, 3, ECHO) * 5000)
        for _ in range(5000):
            assert (await attacker.pdu())[:1] == b"\4"
        await attacker.send(RELEASE)
        assert (await attacker.pdu())[:1] == b"\6"
        await attacker.close()
        assert (await service.outcomes.get()).operations == {"C-ECHO": 5000}


@pytest.mark.parametrize("seed", range(20))
async def test_mutated_associations(seed: int) -> None:
    """A good session with a few bytes changed: whatever happens, the server lives and leaks no task."""
    source = random.Random(seed)
    session = bytearray(REQUEST + pdv(3, 3, STORE) + pdv(3, PDV_LAST, source.randbytes(500)) + RELEASE)
    for _ in range(source.randint(1, 6)):
        session[source.randrange(len(session))] = source.randrange(256)
    service = MemoryService()
    async with serving(service, artim_s=0.2, idle_s=0.2) as server:
        attacker = await Attacker.connect(server)
        await attacker.send(bytes(session))
        await attacker.rest()
        await attacker.close()
        await still_serves(server)


async def test_a_flood_of_broken_connections_leaves_nothing() -> None:
    service = MemoryService()
    async with serving(service) as server:

        async def once(number: int) -> None:
            attacker = await Attacker.connect(server, establish=number % 2 == 0)
            await attacker.send(RANDOM.randbytes(50))
            attacker.writer.transport.abort()

        await asyncio.gather(*(once(number) for number in range(60)))
        for _ in range(30):
            await service.outcomes.get()
        await still_serves(server)
    assert server.open_associations == 0
