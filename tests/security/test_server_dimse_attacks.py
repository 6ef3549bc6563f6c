"""The whole server attacked on its DIMSE port, with a well-behaved sender at work all the while.

After each attack: memory stayed under the bound, descriptors are back, the log has its lines and no trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from isocenter.dimse.net.client import Proposal
from isocenter.dimse.net.errors import DimseFailure
from isocenter.dimse.protocol import command_set
from isocenter.dimse.protocol.messages import CEchoRequest, CStoreRequest
from isocenter.dimse.protocol.pdu import (
    PDV_COMMAND,
    PDV_LAST,
    AssociateRequest,
    ProposedContext,
    data_header,
    encode_associate_request,
)
from services.archive import CT, EXPLICIT, element
from services.attacked import AE_TITLE, AttackedServer, ServiceFailed, image, running
from services.hostile_data import DEFLATED, deflate_bomb, nested_sequences
from services.under_attack import next_image, under_attack

ARTIM_S = 3  # longer than a busy machine keeps the well-behaved sender's request from being written
IDLE_S = 3
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FLAGS = (
    *("--dimse-artim-timeout-s", str(ARTIM_S), "--dimse-idle-timeout-s", str(IDLE_S)),
    *("--min-free-disk", "0", "--memory-budget", "64MB"),
)
REQUEST = encode_associate_request(
    AssociateRequest(
        "ISOCENTER",
        "HOSTILE",
        (ProposedContext(1, "1.2.840.10008.1.1", (EXPLICIT,)), ProposedContext(3, CT, (EXPLICIT,))),
    )
)
STORE = command_set.encode(
    CStoreRequest(message_id=1, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2"), has_data_set=True
)
ECHO = command_set.encode(CEchoRequest(message_id=1), has_data_set=False)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedServer]:
    with running(tmp_path_factory.mktemp("attacked") / "server", *FLAGS) as server:
        yield server


@pytest.fixture
async def attacked(server: AttackedServer, dcmtk, tmp_path: Path) -> AsyncIterator[AttackedServer]:
    """With a well-behaved sender at work; afterwards a foreign one has its turn."""
    async with under_attack(server):
        yield server
    file = tmp_path / "object.dcm"
    file.write_bytes(next_image().file)
    called = ("-aec", AE_TITLE, "127.0.0.1", server.dicom_port)
    sent = await asyncio.to_thread(dcmtk.run, "storescu", *called, file)
    assert sent.returncode == 0, sent.stdout


class Attacker:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, server: AttackedServer, *, establish: bool = False) -> Attacker:
        attacker = cls(*await asyncio.open_connection("127.0.0.1", server.dicom_port))
        if establish:
            attacker.writer.write(REQUEST)
            head = await attacker.reader.readexactly(6)
            assert head[0] == 2
            await attacker.reader.readexactly(int.from_bytes(head[2:], "big"))
        return attacker

    async def send(self, *pieces: bytes) -> None:
        """As far as the server takes it."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()

    async def cut_off(self, within_s: float) -> None:
        """Reads whatever comes until the server has hung up."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(within_s):
                while await self.reader.read(1 << 16):
                    pass

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def attackers(
    server: AttackedServer, number: int, *, establish: bool = False
) -> AsyncIterator[list[Attacker]]:
    async with contextlib.AsyncExitStack() as opened:
        several = []
        for _ in range(number):
            several.append(await Attacker.connect(server, establish=establish))
            opened.push_async_callback(several[-1].close)
        yield several


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return data_header(context_id, control, len(data)) + data


_random = random.Random(20)
FIRST_WORDS = {
    "random": _random.randbytes(1 << 16),
    "request of 4 GB": b"\1\0\xff\xff\xff\xff" + bytes(1 << 16),
    "p-data of 4 GB": REQUEST + b"\4\0\xff\xff\xff\xff" + bytes(1 << 20),
    "10,000 contexts": encode_associate_request(
        AssociateRequest(
            "ISOCENTER",
            "HOSTILE",
            tuple(ProposedContext(2 * n % 254 + 1, CT, (EXPLICIT,)) for n in range(10_000)),
        )
    ),
    "command of 10 MB": REQUEST + pdv(3, PDV_COMMAND, bytes(100_000)) * 100,
    "command of a million elements": REQUEST
    + pdv(3, PDV_COMMAND | PDV_LAST, struct.pack("<HHI", 0, 0x0100, 0) * 8_000),
    "data without command": REQUEST + pdv(3, PDV_LAST, bytes(1000)),
    "context that nobody accepted": REQUEST + pdv(77, PDV_COMMAND | PDV_LAST, ECHO),
    "endless empty fragments": REQUEST + pdv(3, PDV_COMMAND | PDV_LAST, STORE) + pdv(3, 0, b"") * 200_000,
    "request within a request": REQUEST * 2,
}


async def test_hostile_bytes(attacked: AttackedServer) -> None:
    """Four of each kind at once: every one is cut off and has its line in the log."""
    log_from = attacked.log.stat().st_size
    said = [(name, words) for name, words in FIRST_WORDS.items() for _ in range(4)]
    async with attackers(attacked, len(said)) as several:
        await asyncio.gather(*(one.send(words) for one, (_, words) in zip(several, said, strict=True)))
        await asyncio.gather(*(one.cut_off(ARTIM_S + IDLE_S + 30) for one in several))
        ports = [one.writer.get_extra_info("sockname")[1] for one in several]

    def not_logged() -> set[str]:
        logged = attacked.log.read_bytes()[log_from:]
        return {
            name
            for port, (name, _) in zip(ports, said, strict=True)
            if f"peer=127.0.0.1:{port} ".encode() not in logged
        }

    with contextlib.suppress(ServiceFailed):
        await asyncio.to_thread(attacked.wait_until, lambda: not not_logged(), "a line for each", 10)
    assert not not_logged()


async def test_endless_object(attacked: AttackedServer) -> None:
    """A data set that never ends goes to the disk, not to memory; broken off, it leaves nothing."""
    pieces = [pdv(3, PDV_COMMAND | PDV_LAST, STORE), *[pdv(3, 0, bytes(100_000))] * 500]
    async with attackers(attacked, 4, establish=True) as several:
        await asyncio.gather(*(one.send(*pieces) for one in several))
    spool = attacked.data_dir / "spool"
    await asyncio.to_thread(attacked.wait_until, lambda: not list(spool.iterdir()), "empty spool folder")


async def test_five_hundred_that_say_nothing(attacked: AttackedServer) -> None:
    """Half of them begin a request; all are gone when ARTIM has expired."""
    async with attackers(attacked, 500) as many:
        await asyncio.gather(*(one.send(REQUEST[: 40 * (n % 2)]) for n, one in enumerate(many)))
        await asyncio.gather(*(one.cut_off(ARTIM_S + 10) for one in many))


async def test_associations_that_fall_silent(attacked: AttackedServer) -> None:
    """Half-open: established, then in the middle of a message, and never heard of again."""
    half = pdv(3, PDV_COMMAND | PDV_LAST, STORE) + pdv(3, 0, bytes(1000))[:500]
    async with attackers(attacked, 50, establish=True) as many:
        await asyncio.gather(*(one.send(half * (n % 2)) for n, one in enumerate(many)))
        await asyncio.gather(*(one.cut_off(IDLE_S + 10) for one in many))


HOSTILE_OBJECTS = {
    "nested 100,000 deep, undefined lengths": (EXPLICIT, nested_sequences(100_000)),
    "nested 100,000 deep, after the patient": (EXPLICIT, nested_sequences(100_000, tag=0x00404000)),
    "a million empty elements": (EXPLICIT, struct.pack("<HH2sH", 9, 0x1010, b"LO", 0) * 1_000_000),
    "a million items of an attribute of the index": (
        EXPLICIT,
        struct.pack("<HH2sHI", 0x40, 0x0275, b"SQ", 0, 8_000_000) + b"\xfe\xff\0\xe0\0\0\0\0" * 1_000_000,
    ),
    "a million fragments": (
        EXPLICIT,
        struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0\0\0\0\0" * 1_000_000,
    ),
    "deflate bomb in pixel data": (DEFLATED, deflate_bomb(image(0), 0x7FE00010)),
    "deflate bomb before the patient": (DEFLATED, deflate_bomb(image(0), 0x00091010)),
    "deflate bomb of elements": (DEFLATED, deflate_bomb(image(0), None)),
}


@pytest.mark.parametrize("case", HOSTILE_OBJECTS)
async def test_hostile_objects(attacked: AttackedServer, case: str) -> None:
    """One after another and four at once: each gets a status, never success for what cannot be read."""
    syntax, data_set = HOSTILE_OBJECTS[case]

    async def send() -> int:
        async with await attacked.associate(Proposal(CT, (syntax,))) as association:
            try:
                response = await association.store(CT, f"2.25.{next(_numbers)}", syntax, data_set)
            except DimseFailure as failure:
                return failure.status
            return response.status

    begun_s = time.monotonic()
    statuses = await asyncio.gather(*(send() for _ in range(4)))
    assert time.monotonic() - begun_s < 30
    assert all(status >> 12 in (0xA, 0xC) for status in statuses), [hex(status) for status in statuses]


async def test_hostile_patterns(attacked: AttackedServer) -> None:
    """Patterns that make naive matching take exponential time, on values made for them."""
    long_text = "a" * 10_000
    for number in range(50):
        one = image(number, study=4000 + number, name="A" * 64, description=long_text)
        assert await attacked.c_store(one) == 0
    for tag, vr in ((0x00081030, "LO"), (0x00100010, "PN"), (0x00100020, "LO"), (0x00080060, "CS")):
        for pattern in ("*a" * 30 + "b", "*a" * 500 + "b", "?*" * 300, "*" * 5000, "a*" * 511 + "b"):
            begun_s = time.monotonic()
            await find(attacked, element(0x00080052, "CS", "STUDY"), element(tag, vr, pattern))
            assert time.monotonic() - begun_s < 15, (hex(tag), pattern[:10])


async def test_hostile_identifiers(attacked: AttackedServer) -> None:
    level = element(0x00080052, "CS", "STUDY")
    many = b"".join(element(0x00110000 + n, "LO", "x") for n in range(0x1000, 0x1000 + 10_000))
    uids = element(0x0020000D, "UI", "\\".join(f"1.2.{n}" for n in range(5000)))
    names = element(0x00100010, "PN", "\\".join(f"A{n}*" for n in range(5000)))
    cases = [
        level + many,
        level + uids,
        level + names,
        level + element(0x00080020, "DA", "-" * 10_000),
        level + element(0x00100020, "LO", "'; DROP TABLE instance; --"),
        level + element(0x00100020, "LO", "a\0b"),
        level + element(0x00100010, "PN", b"\xff\xfe\x80" * 100),
        element(0x00080005, "CS", b"\\".join([b"ISO 2022 IR 87"] * 1000))
        + level
        + element(0x00100010, "PN", b"\x1b$B" * 1000),
        element(0x00080052, "CS", "S" * 5000),
        nested_sequences(100_000),
        level + nested_sequences(10_000, tag=0x00080096),
        b"\xff" * 100_000,
        bytes(100_000),
        b"",
    ]
    for number, identifier in enumerate(cases):
        begun_s = time.monotonic()
        await find(attacked, identifier)
        assert time.monotonic() - begun_s < 15, number


async def find(server: AttackedServer, *identifier: bytes) -> int:
    """How many matches; a failure status is an answer too."""
    matches = 0
    async with await server.associate(Proposal(STUDY_FIND, (EXPLICIT,))) as association:
        with contextlib.suppress(DimseFailure):
            async for _ in association.find(STUDY_FIND, b"".join(identifier)):
                matches += 1
    return matches


async def test_ten_thousand_strangers(attacked: AttackedServer) -> None:
    """Each with another name, calling somebody else: refused, remembered within bounds, logged."""
    slots = asyncio.Semaphore(32)

    async def call(number: int) -> None:
        async with slots:
            request = AssociateRequest(
                f"NOBODY{number % 97}", f"S{number}", (ProposedContext(1, CT, (EXPLICIT,)),)
            )
            async with attackers(attacked, 1) as (attacker,):
                await attacker.send(encode_associate_request(request))
                assert (await attacker.reader.read(10))[:1] == b"\3"

    await asyncio.gather(*map(call, range(10_000)))
    listed = await asyncio.to_thread(attacked.command, "ae", "list", "--json")
    assert listed.returncode == 0, listed.stderr.decode()
    assert len(listed.stdout) < 1_000_000
