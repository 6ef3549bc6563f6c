"""``kill -9`` of the whole server while it receives, again and again on the same data (MISSION A1).

What was acknowledged is there with the bytes that were sent; what was not is there whole or not at all.
``ISOCENTER_KILL_ROUNDS`` and ``ISOCENTER_KILL_SEED`` make it longer and another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from isocenter.dimse.net.client import Proposal
from services.archive import CT, EXPLICIT, Image
from services.attacked import CONNECTION_ENDED, AttackedServer, image, store

ROUNDS = int(os.environ.get("ISOCENTER_KILL_ROUNDS", "20"))
SEED = int(os.environ.get("ISOCENTER_KILL_SEED", "20261120"))
SPOOL_THRESHOLD_BYTES = 100_000
SIZES = (4, 2_000, 60_000, 160_000, 700_000)  # in memory, and through the spool
BYTES_A_ROUND_MAX = 20_000_000
JITTER_S = 0.02
STOW_OBJECTS = 4
FLAGS = ("--spool-threshold", str(SPOOL_THRESHOLD_BYTES), "--min-free-disk", "0", "--log-level", "warning")


class Moment:
    """When the server dies: so many acknowledgements or sent bytes after the start, and a little later."""

    def __init__(self, random_: random.Random, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._jitter_s = random_.random() * JITTER_S
        self._acknowledgements = random_.randint(1, 40)
        self._bytes = random_.randint(1, BYTES_A_ROUND_MAX)
        self.reached = False

    def acknowledged(self) -> None:
        self._acknowledgements -= 1
        self._look()

    def sent(self, count: int) -> None:
        self._bytes -= count
        self._look()

    def _look(self) -> None:
        if not self.reached and (self._acknowledgements <= 0 or self._bytes <= 0):
            self.reached = True
            asyncio.get_running_loop().call_later(self._jitter_s, self._kill)


class Senders:
    """Three by C-STORE (one with four objects under way), two by STOW-RS, until the server is gone."""

    def __init__(self, server: AttackedServer, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._moment = Moment(self._random, server.kill)
        self._numbers = iter(range(seed * 100_000, (seed + 1) * 100_000))
        self.acknowledged: dict[str, Image] = {}
        self.begun: dict[str, Image] = {}

    async def run(self) -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(
                self._dimse(1),
                self._dimse(1),
                self._dimse(4),
                self._stow(),
                self._stow(),
                return_exceptions=False,
            )

    async def send_again(self) -> None:
        """What was begun and not acknowledged, as every good sender does."""
        async with await self._server.associate() as association:
            for one in self.begun.values():
                if one.sop not in self.acknowledged:
                    assert await store(association, one) == 0
                    self.acknowledged[one.sop] = one

    def _image(self) -> Image:
        number = next(self._numbers)
        pixels = self._random.randbytes(self._random.choice(SIZES))
        one = image(number, study=1 + number % 7, pixels=pixels)
        self.begun[one.sop] = one
        return one

    def _stored(self, *images: Image) -> None:
        for one in images:
            self.acknowledged[one.sop] = one
            self._moment.acknowledged()

    async def _dimse(self, window: int) -> None:
        with contextlib.suppress(*CONNECTION_ENDED):
            association = await self._server.associate(Proposal(CT, (EXPLICIT,)), operations_max=window)

            async def one_after_another() -> None:
                while True:
                    one = self._image()
                    assert await store(association, one) == 0
                    self._stored(one)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(window):
                        group.create_task(one_after_another())
            except* CONNECTION_ENDED:
                pass

    async def _stow(self) -> None:
        with contextlib.suppress(*CONNECTION_ENDED):
            while True:
                images = [self._image() for _ in range(STOW_OBJECTS)]
                answer = await self._server.http(
                    "POST",
                    "/dicom-web/studies",
                    headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'},
                    body=self._body(images),
                )
                assert answer.status == 200, answer.body
                self._stored(*images)

    async def _body(self, images: list[Image]) -> AsyncIterator[bytes]:
        """In small pieces, so that the end comes in the middle of objects too."""
        for one in images:
            whole = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + one.file + b"\r\n"
            for start in range(0, len(whole), 50_000):
                piece = whole[start : start + 50_000]
                self._moment.sent(len(piece))
                yield piece
        yield b"--B--\r\n"


async def lost(server: AttackedServer, acknowledged: dict[str, Image]) -> list[str]:
    """Acknowledged objects that are not given back as they came."""
    slots = asyncio.Semaphore(8)

    async def is_lost(one: Image) -> bool:
        async with slots:
            answer = await server.http(
                "GET",
                f"/dicom-web/studies/{one.study}/series/{one.series}/instances/{one.sop}",
                headers={"Accept": 'application/dicom; transfer-syntax="*"'},
            )
        return answer.status != 200 or not answer.body.endswith(one.data_set)

    found = await asyncio.gather(*map(is_lost, acknowledged.values()))
    return [sop for sop, gone in zip(acknowledged, found, strict=True) if gone]


class Index:
    """The database, read beside the server and not by its code."""

    def __init__(self, server: AttackedServer) -> None:
        self._path = server.data_dir / "isocenter.db"
        self.objects = server.data_dir / "objects"

    def column(self, statement: str) -> list[str]:
        with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute(statement)]

    def keys(self) -> set[str]:
        return {
            *self.column("SELECT object_key FROM instance"),
            *self.column("SELECT object_key FROM quarantine WHERE state = 'waiting'"),
        }

    def files(self) -> set[str]:
        return {
            str(path.relative_to(self.objects))
            for path in self.objects.rglob("*")
            if path.is_file() and not path.relative_to(self.objects).parts[0].startswith(".")
        }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AttackedServer]:
    server = AttackedServer(tmp_path / "server", FLAGS)
    yield server
    server.stop()


@pytest.mark.timeout(30 + 15 * ROUNDS)
async def test_kill_under_load(server: AttackedServer) -> None:
    acknowledged: dict[str, Image] = {}
    begun: set[str] = set()
    survived = 0
    index = Index(server)
    await asyncio.to_thread(server.start)
    for number in range(ROUNDS):
        senders = Senders(server, SEED + number)
        await senders.run()
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert await lost(server, senders.acknowledged) == [], f"round {number}"
        assert index.keys() <= index.files(), f"round {number}: rows without object"
        survived += len(senders.acknowledged)
        if number % 2:
            await senders.send_again()
        assert list((server.data_dir / "spool").iterdir()) == [], f"round {number}: left over"
        acknowledged |= senders.acknowledged
        begun |= senders.begun.keys()
    print(f"{ROUNDS} kills, {len(begun)} objects begun, {survived} acknowledged before a kill")

    assert await lost(server, acknowledged) == []
    assert set(index.column("SELECT sop_instance_uid FROM instance")) <= begun
    checked = await asyncio.to_thread(server.checked)
    assert checked["healthy"] or checked["orphan_count"], checked
    for what in ("missing_count", "damaged_count", "wrong_counters"):
        assert checked[what] == 0, checked

    swept = await asyncio.to_thread(server.command, "storage", "sweep", "--sweep-grace-s", "0.001")
    assert swept.returncode == 0, swept.stderr.decode()
    assert index.files() == index.keys()
    assert await lost(server, acknowledged) == []


async def test_what_a_kill_left_half_written_goes_with_time(server: AttackedServer) -> None:
    """Other processes may be writing into the same folder, so that only age tells rubbish from work."""
    await asyncio.to_thread(server.start)
    await Senders(server, SEED - 1).run()
    await asyncio.to_thread(server.stop)
    incoming = server.data_dir / "objects" / ".incoming"
    (incoming / "1-abcd-0").write_bytes(b"half of an obj")
    (incoming / "1-abcd-1").write_bytes(b"half of another")
    long_ago = (datetime.now() - timedelta(days=2)).timestamp()
    for path in incoming.iterdir():
        os.utime(path, (long_ago, long_ago))
    (incoming / "2-abcd-0").write_bytes(b"somebody writes this right now")
    server.flags = (*server.flags, "--sweep-interval-s", "0.2")
    await asyncio.to_thread(server.start)
    assert [path.name for path in incoming.iterdir()] == ["2-abcd-0"]
    os.utime(incoming / "2-abcd-0", (long_ago, long_ago))  # while the server runs, it ages too
    await asyncio.to_thread(server.wait_until, lambda: not list(incoming.iterdir()), "empty folder")
