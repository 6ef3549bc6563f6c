"""kill -9 at every step of ingest and at random moments under load (MISSION A3, issue: bad input).

Whatever was acknowledged is there afterwards, whole and found; no row is without its object; what is left
over goes with the next sweep.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.archive import ORGANIZATION, TestArchive, broken_promises, opened
from services.killed import Life, Zygote
from services.schema import fresh_url


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, "sqlite", tmp_path) as found:
        yield found


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, "postgresql", tmp_path) as found:
        yield found


async def lost(archive: TestArchive, life: Life) -> list[str]:
    """What the child acknowledged and the index does not know under that UID with those bytes."""
    known: dict[str, set[tuple[str, str]]] = {}
    for row in await archive.rows("SELECT sop_instance_uid, sha256 FROM instance WHERE current = 1"):
        known.setdefault("instance", set()).add((row["sop_instance_uid"], row["sha256"]))
    for row in await archive.rows("SELECT sha256 FROM quarantine WHERE state = 'waiting'"):
        known.setdefault("quarantine", set()).add(("", row["sha256"]))
    missing = []
    for kind, sop, sha256 in life.acknowledged:
        if kind == "quarantined":
            found = ("", sha256) in known.get("quarantine", set())
        else:
            found = (sop, sha256) in known.get("instance", set())
        if not found:
            missing.append(f"{kind} {sop}")
    return missing


async def check_all(url: str, folder: Path, lives: list[Life]) -> None:
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    async with opened(url, folder) as archive:
        for life in lives:
            assert await lost(archive, life) == []
        assert await broken_promises(archive) == []
        assert list(archive.spool.folder.iterdir()) == [], "what a dead process had spooled is removed"
        await archive.sweep().run()
        referenced = await archive.rows(
            "SELECT object_key FROM instance UNION SELECT object_key FROM quarantine WHERE state = 'waiting'"
        )
        assert await archive.keys() == {row["object_key"] for row in referenced}
        report = await archive.check.run(ORGANIZATION)
        assert report.healthy, report
        assert await broken_promises(archive) == []


CALLS = {
    "spool": (1, 7),
    "put": (1, 7),
    "writev": (1, 7),
    "fdatasync": (1, 7),
    "link": (1, 7),
    "fsync": (1, 7),
    "unlink": (1,),
    "write": (1, 7),
    "BEGIN": (1, 7),
    "INSERT": (1, 7),
    "UPDATE": (1, 7),
    "COMMIT": (1, 7),
    "answer": (1, 7),
}
"""At which call of each step the process dies; only spooled objects are unlinked."""


async def test_killed_at_every_step(sqlite_url: str, tmp_path: Path, zygote: Zygote):
    lives = []
    deaths = [(step, moment, nth) for step in CALLS for moment in ("before", "after") for nth in CALLS[step]]
    for round_, (step, moment, nth) in enumerate(deaths):
        order = {"url": sqlite_url, "folder": str(tmp_path), "round": round_, "count": 40}
        life = zygote.live(**order, point=step, moment=moment, nth=nth)
        assert life.killed, (step, moment, nth)
        lives.append(life)
        await check_all(sqlite_url, tmp_path, [life])
    await check_all(sqlite_url, tmp_path, lives)
    assert sum(len(life.acknowledged) for life in lives) > 50


async def test_killed_at_random_moments_under_load(sqlite_url: str, tmp_path: Path, zygote: Zygote):
    chance = random.Random(20261120)
    lives = []
    for round_ in range(50):
        patience = chance.randrange(60)
        life = zygote.live(
            lambda life, patience=patience: len(life.acknowledged) >= patience,
            url=sqlite_url,
            folder=str(tmp_path),
            round=round_,
            count=1000,
        )
        assert life.killed
        lives.append(life)
        if round_ % 10 == 9:
            await check_all(sqlite_url, tmp_path, lives)
    assert sum(len(life.acknowledged) for life in lives) > 500


async def test_killed_on_postgresql(postgresql_url: str, tmp_path: Path, zygote: Zygote):
    lives = []
    orders: list[tuple[dict[str, Any], int]] = [
        ({"point": point, "moment": moment, "nth": nth}, 1 << 30)
        for point in ("put", "pg-write", "pg-drive", "answer")
        for moment in ("before", "after")
        for nth in (1, 7)
    ]
    chance = random.Random(20261121)
    orders += [({}, chance.randrange(60)) for _ in range(10)]
    for round_, (death, patience) in enumerate(orders):
        life = zygote.live(
            lambda life, patience=patience: len(life.acknowledged) >= patience,
            url=postgresql_url,
            folder=str(tmp_path),
            round=round_,
            count=1000,
            **death,
        )
        assert life.killed, death
        lives.append(life)
    await check_all(postgresql_url, tmp_path, lives)
    assert sum(len(life.acknowledged) for life in lives) > 100


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_two_processes_fill_one_quota_and_one_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path, zygote: Zygote, kind: str
):
    """What is kept stays counted to the byte, and within the quota, whoever dies when."""
    chance = random.Random(20261126)
    other = Zygote()
    try:
        with fresh_url(request, kind, tmp_path) as url:
            lives: list[Life] = []
            for round_ in range(0, 10, 2):
                async with opened(url, tmp_path) as archive:
                    used = await archive.rows("SELECT bytes FROM archive_total")
                    quota_bytes = (used[0]["bytes"] if used else 0) + 3_000_000
                    await archive.policies.change(ORGANIZATION, quota_bytes=quota_bytes)
                order = {"url": url, "folder": str(tmp_path), "count": 40}
                death = {"point": "answer", "moment": chance.choice(["before", "after"])}
                some = await asyncio.gather(
                    asyncio.to_thread(
                        zygote.live, **order, **death, nth=chance.randrange(1, 15), round=round_
                    ),
                    asyncio.to_thread(other.live, **order, round=round_ + 1),
                )
                assert not some[1].killed
                assert set(some[1].errors) == {"out-of-space"}, "its quota was reached"
                lives += some
                async with opened(url, tmp_path) as archive:
                    [total] = await archive.rows("SELECT bytes FROM archive_total")
                    assert total["bytes"] <= quota_bytes
                    assert await broken_promises(archive) == []
            assert any(life.killed for life in lives)
            await check_all(url, tmp_path, lives)
    finally:
        other.close()


async def test_files_that_may_not_grow_refuse_and_lose_nothing(
    sqlite_url: str, tmp_path: Path, zygote: Zygote
):
    """As a full disk: objects over the limit, and at last the database itself, hear EFBIG."""
    size = os.stat(sqlite_url.removeprefix("sqlite:///")).st_size  # noqa: PTH116
    order = {"url": sqlite_url, "folder": str(tmp_path), "round": 1, "count": 30}
    life = zygote.live(**order, file_bytes_max=size + 60_000)
    assert not life.killed
    assert life.errors
    assert set(life.errors) <= {"unavailable", "out-of-space"}
    await check_all(sqlite_url, tmp_path, [life])
    again = zygote.live(**order)
    assert again.errors == []
    await check_all(sqlite_url, tmp_path, [life, again])
