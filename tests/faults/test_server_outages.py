"""The disk is full, the database locked or gone, the object store silent: the whole server, over its doors.

Senders are told to keep what they have (C-STORE A700H, STOW-RS 503 with Retry-After) within a bounded time,
``/health/ready`` says why in words, and work goes on by itself when the cause is gone: nothing is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from isocenter.dimse.net.client import VERIFICATION, ClientAssociation, Proposal
from services.archive import CT, EXPLICIT, Image
from services.attacked import AttackedServer, image, running, store
from services.processes import ServiceFailed

OUT_OF_RESOURCES = 0xA700
ANSWER_S_MAX = 15
MB = 1 << 20
NO_RESERVE = ("--min-free-disk", "0")


@contextlib.asynccontextmanager
async def association(server: AttackedServer) -> AsyncIterator[ClientAssociation]:
    proposals = (Proposal(VERIFICATION), Proposal(CT, (EXPLICIT,)))
    async with await server.associate(*proposals) as opened:
        yield opened


class Numbers:
    """Every object another one; what was acknowledged is kept to be asked for at the end."""

    def __init__(self, server: AttackedServer) -> None:
        self._server = server
        self._next = 0
        self.acknowledged: list[Image] = []

    def image(self, size: int = 1000) -> Image:
        self._next += 1
        return image(self._next, pixels=self._next.to_bytes(4) * (size // 4))

    async def stored(self, opened: ClientAssociation, size: int = 1000) -> int:
        one = self.image(size)
        status = await store(opened, one)
        if status == 0:
            self.acknowledged.append(one)
        return status

    async def stowed(self, *, timeout_s: float = 60) -> tuple[int, str]:
        """Status and Retry-After."""
        images = [self.image(), self.image()]
        answer = await self._server.stow(*images, timeout_s=timeout_s)
        if answer.status == 200:
            self.acknowledged += images
        return answer.status, answer.headers.get("retry-after", "")

    async def assert_kept(self) -> None:
        for one in self.acknowledged:
            answer = await self._server.http(
                "GET",
                f"/dicom-web/studies/{one.study}/series/{one.series}/instances/{one.sop}",
                headers={"Accept": 'application/dicom; transfer-syntax="*"'},
            )
            assert answer.status == 200, one.sop
            assert answer.body.endswith(one.data_set), one.sop


async def refused(numbers: Numbers, opened: ClientAssociation, *sizes: int) -> None:
    """Both doors say so in time, and the association lives on."""
    begun_s = time.monotonic()
    waiting = [numbers.stored(opened, size) for size in sizes or (1000,)]  # one after another
    (status, retry_after), *statuses = await asyncio.gather(numbers.stowed(), *waiting)
    assert set(statuses) == {OUT_OF_RESOURCES}
    assert (status, retry_after.isdigit()) == (503, True)
    assert time.monotonic() - begun_s < ANSWER_S_MAX
    await opened.echo()


async def until_ready(server: AttackedServer, status: int = 200, *, words: str = "") -> None:
    """Its answer is kept some seconds, so it is asked until it is the one that must come."""

    def said() -> bool:
        found, body = server.ready()
        return found == status and words in body

    await asyncio.to_thread(server.wait_until, said, f"{status} of /health/ready with {words!r}")


# --- a full disk


def can_unshare(namespaces: list[str]) -> bool:
    return subprocess.run(["unshare", *namespaces, "true"], capture_output=True, check=False).returncode == 0


class SmallDisk:
    """A file system in memory that only the server sees, as it is mounted in a namespace of its own: it
    goes when the server ends, however that ends. ``path`` leads there from outside."""

    def __init__(self, folder: Path, size: int, *, full: bool = False) -> None:
        folder.mkdir()
        self.folder = folder
        namespaces = ["--mount"] if os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
        if shutil.which("unshare") is None or not can_unshare(namespaces):
            pytest.skip("no small disk can be mounted here: mount namespaces are not allowed")
        fill = f'head -c {size} /dev/zero > "{folder}/filler" 2> /dev/null;' if full else ""
        script = f'mount -t tmpfs -o size={size} none "{folder}" || exit; {fill} exec "$@"'
        self.launcher = ["unshare", *namespaces, "sh", "-c", script, "sh"]
        self.server: AttackedServer | None = None

    @property
    def path(self) -> Path:
        assert self.server is not None
        return Path(f"/proc/{self.server.pid}/root{self.folder}")

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def small_disk(
    tmp_path: Path,
) -> Callable[..., contextlib.AbstractContextManager[tuple[AttackedServer, SmallDisk]]]:
    @contextlib.contextmanager
    def start(
        *flags: str, size: int = 64 * MB, data: bool = True
    ) -> Iterator[tuple[AttackedServer, SmallDisk]]:
        disk = SmallDisk(tmp_path / "disk", size)
        server = AttackedServer(tmp_path / "server", flags, launcher=disk.launcher)
        if data:
            server.data_dir = disk.folder / "data"
        disk.server = server
        try:
            yield server.start(), disk
        finally:
            server.stop()

    return start


async def test_full_disk(small_disk) -> None:
    with small_disk("--spool-threshold", str(MB), *NO_RESERVE) as (server, disk):
        numbers = Numbers(server)
        async with association(server) as opened:
            for size in (1000, 2 * MB):
                assert await numbers.stored(opened, size) == 0
            assert (await numbers.stowed())[0] == 200
            disk.fill()
            await refused(numbers, opened, 500_000, 3 * MB, 500_000)
            await until_ready(server, 503, words="space")
            await numbers.assert_kept()
            assert (await server.http("GET", "/health/live")).status == 200
            assert (await server.http("GET", "/dicom-web/studies")).status == 200
            disk.free()
            for size in (1000, 3 * MB):
                assert await numbers.stored(opened, size) == 0
        assert (await numbers.stowed())[0] == 200
        await until_ready(server)
        await numbers.assert_kept()
        assert list((disk.path / "data/spool").iterdir()) == []
        assert list((disk.path / "data/objects/.incoming").iterdir()) == []


async def test_full_disk_of_the_database(small_disk, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/disk/isocenter.db"
    with small_disk("--database-url", url, *NO_RESERVE, size=16 * MB, data=False) as (server, disk):
        numbers = Numbers(server)
        async with association(server) as opened:
            assert await numbers.stored(opened) == 0
            disk.fill()
            await eventually_refused(numbers, opened)
            await refused(numbers, opened)
            await numbers.assert_kept()
            assert (await server.http("GET", "/dicom-web/studies")).status == 200
            disk.free()
            assert await numbers.stored(opened) == 0
        assert (await numbers.stowed())[0] == 200
        await until_ready(server)
        await numbers.assert_kept()


async def eventually_refused(numbers: Numbers, opened: ClientAssociation) -> None:
    """A database has some room left in the pages it already owns."""
    for _ in range(2000):
        status = await numbers.stored(opened)
        if status:
            assert status == OUT_OF_RESOURCES
            return
    raise AssertionError("the full disk was not noticed")


def test_start_on_a_full_disk(tmp_path: Path) -> None:
    """It ends, and says why in words."""
    disk = SmallDisk(tmp_path / "disk", 4 * MB, full=True)
    server = AttackedServer(tmp_path / "server", launcher=disk.launcher)
    server.data_dir = disk.folder / "data"
    with pytest.raises(ServiceFailed, match="ended with 1"):
        server.start()
    said = server.log.read_text()
    assert "full" in said
    assert "Traceback" not in said


async def test_reserve_on_the_disk(tmp_path: Path) -> None:
    """Senders stop before the disk is full: ``--min-free-disk``."""
    reserve = shutil.disk_usage(tmp_path).free - 512 * MB
    filler = tmp_path / "filler"
    with running(tmp_path / "server", "--min-free-disk", str(reserve)) as server:
        numbers = Numbers(server)
        async with association(server) as opened:
            assert await numbers.stored(opened) == 0
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1024 * MB)
            await refused(numbers, opened)
            filler.unlink()
            assert await numbers.stored(opened) == 0
        await numbers.assert_kept()


# --- the database


async def test_database_locked_by_another_process(tmp_path: Path) -> None:
    """Eight wait at once: none of them waits for the others' refusals."""
    with running(tmp_path / "server", *NO_RESERVE) as server:
        numbers = Numbers(server)
        async with association(server) as opened:
            assert await numbers.stored(opened) == 0
            with contextlib.closing(sqlite3.connect(server.data_dir / "isocenter.db")) as other:
                other.isolation_level = None
                other.execute("BEGIN EXCLUSIVE")
                begun_s = time.monotonic()
                senders = [one_stored(server, numbers) for _ in range(8)]
                _, *statuses = await asyncio.gather(refused(numbers, opened), *senders)
                assert set(statuses) == {OUT_OF_RESOURCES}
                assert time.monotonic() - begun_s < ANSWER_S_MAX
                assert (await server.http("GET", "/dicom-web/studies")).status == 200
                await until_ready(server, 503, words="locked")
                other.execute("ROLLBACK")
            assert await numbers.stored(opened) == 0
        await until_ready(server)
        await numbers.assert_kept()


async def one_stored(server: AttackedServer, numbers: Numbers) -> int:
    async with association(server) as opened:
        return await numbers.stored(opened)


async def test_postgresql_stopped_and_started(tmp_path: Path, postgres, postgres_url: str) -> None:
    with running(tmp_path / "server", "--database-url", postgres_url, *NO_RESERVE) as server:
        numbers = Numbers(server)
        async with association(server) as opened:
            assert await numbers.stored(opened) == 0
            postgres.stop()
            try:
                await refused(numbers, opened)
                assert (await server.http("GET", "/dicom-web/studies")).status == 503
                await until_ready(server, 503, words="PostgreSQL")
            finally:
                postgres.start()  # in this thread: it ends with the one that started it
            assert await numbers.stored(opened) == 0
            assert (await numbers.stowed())[0] == 200
        await until_ready(server)
        await numbers.assert_kept()


async def test_postgresql_silent(tmp_path: Path, postgres, postgres_url: str) -> None:
    """Its machine hangs: connections stay, nothing is answered."""
    with running(tmp_path / "server", "--database-url", postgres_url, *NO_RESERVE) as server:
        numbers = Numbers(server)
        async with association(server) as opened:
            assert await numbers.stored(opened) == 0
            with frozen(postgres._process.pid):
                await refused(numbers, opened)
                await until_ready(server, 503, words="database")
            assert await numbers.stored(opened) == 0
        await until_ready(server)
        await numbers.assert_kept()


# --- the object store


async def test_object_store_silent(tmp_path: Path, radosgw) -> None:
    account = radosgw.account
    flags = (
        *("--storage-url", f"s3://{radosgw.bucket()}/archive", "--storage-endpoint", account.endpoint),
        *("--storage-region", account.region, *NO_RESERVE),
    )
    keys = {
        "ISOCENTER_STORAGE_ACCESS_KEY": account.access_key_id,
        "ISOCENTER_STORAGE_SECRET_KEY": account.secret_access_key,
    }
    with running(tmp_path / "server", *flags, env=keys) as server:
        numbers = Numbers(server)
        async with association(server) as opened:
            assert await numbers.stored(opened) == 0
            with frozen(radosgw._processes[-1].pid):
                await refused(numbers, opened)
                await until_ready(server, 503, words="object store")
                assert (await server.http("GET", "/dicom-web/studies")).status == 200
            assert await numbers.stored(opened) == 0
            assert (await numbers.stowed())[0] == 200
        await until_ready(server)
        await numbers.assert_kept()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process and its children stop where they are: their sockets stay open and say nothing."""
    pids = [pid, *children_of(pid)]
    for one in pids:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
