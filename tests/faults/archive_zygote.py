"""Runs archives that are killed: a process that has everything imported and forks one child for each order.

An order is a line of JSON; the child answers ``PID n``, then ``ACK …`` for every object that its sender would
have heard success for, ``ERR …`` for every refusal. ``EXIT status`` follows once the child has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from isocenter.features.archive import committer, spool
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.deletion.restoring import Restoring
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.kit.errors import IsocenterError
from isocenter.platform.db import postgres, sqlite
from isocenter.platform.storage.local import LocalStore
from services.archive import ORGANIZATION, Image, TestArchive, opened

SENDERS = 4
SPOOLED_BYTES = 100_000


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def image(round_: int, sender: int, number: int) -> Image:
    """Always the same one for the same numbers. Some are large, some are refused."""
    kind = number % 5
    sop = f"1.2.{round_}.{sender}.{number}"
    return Image(
        sop=sop,
        series=f"1.2.{round_}.{sender}",
        study=f"1.2.{round_}",
        patient_id=f"P{round_ % 7}",
        name=f"DOE^{round_ % 7}",
        modality=None if kind == 3 else "CT",
        pixels=sop.encode() * (SPOOLED_BYTES // len(sop) if kind == 1 else 50),
    )


async def send_for_ever(archive: TestArchive, round_: int, sender: int, count: int) -> None:
    for number in range(count):
        batch = [image(round_, sender, number * 3 + n) for n in range(3 if number % 4 == 2 else 1)]
        if number % 6 == 5:
            batch.append(image(round_, sender, 0))  # once more
        try:
            received = [
                await archive.receive(one.data_set, one.declared, piece_bytes=16_384) for one in batch
            ]
            outcomes = await archive.ingest.commit(ORGANIZATION, received)
        except IsocenterError as error:
            say("ERR", error.kind)
            continue
        for one, outcome in zip(batch, outcomes, strict=True):
            say("ACK", outcome.kind, one.sop, one.sha256)


async def merge_in_order(archive: TestArchive, doings: list[list[str]]) -> None:
    service = PatientMerges(archive.database, archive.clock)
    for doing, *names in doings:
        await getattr(service, doing)(ORGANIZATION, *map(PatientIdentity, names))
        say("ACK", doing, names[0], names[-1])


async def delete_in_order(archive: TestArchive, doings: list[list[str]]) -> None:
    """Delete a study; restore or purge what waits."""
    deletions = Deletions(archive.database, archive.clock)
    restoring = Restoring(archive.database, archive.ingest, archive.clock)
    for doing, *study in doings:
        if doing == "delete":
            await deletions.delete(ORGANIZATION, Scope(study[0]))
        for waiting in await deletions.list(ORGANIZATION) if doing != "delete" else []:
            if doing == "restore":
                await restoring.restore(ORGANIZATION, waiting.id)
            else:
                await deletions.purge(ORGANIZATION, waiting.id)
        say("ACK", doing, "-", "-")


async def run(order: dict[str, Any]) -> None:
    if order.get("deletions"):
        async with opened(order["url"], Path(order["folder"])) as archive:
            await delete_in_order(archive, order["deletions"])
        return
    if order.get("merges"):
        async with opened(order["url"], Path(order["folder"])) as archive:
            await merge_in_order(archive, order["merges"])
        return
    async with (
        opened(order["url"], Path(order["folder"]), threshold_bytes=SPOOLED_BYTES // 2) as archive,
        asyncio.TaskGroup() as senders,
    ):
        for sender in range(SENDERS):
            senders.create_task(send_for_ever(archive, order["round"], sender, order["count"]))


# --- dying ----------------------------------------------------------------------------------------------


def dying(call: Callable[..., Any], moment: str, nth: int) -> Callable[..., Any]:
    """``call``, whose ``nth`` time is this process's last moment."""
    calls = itertools.count(1)

    def killed_at(now: str, number: int) -> None:
        if (now, number) == (moment, nth):
            os.kill(os.getpid(), signal.SIGKILL)

    if asyncio.iscoroutinefunction(call):

        async def replaced(*args: Any, **kwargs: Any) -> Any:
            number = next(calls)
            killed_at("before", number)
            result = await call(*args, **kwargs)
            killed_at("after", number)
            return result

        return replaced

    def replaced_plain(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        killed_at("before", number)
        result = call(*args, **kwargs)
        killed_at("after", number)
        return result

    return replaced_plain


def plan_death(point: str, moment: str, nth: int) -> None:
    if point in {"BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT"}:
        plan_death_in_sqlite(point, moment, nth)
        return
    owner, name = {
        "put": (LocalStore, "put"),
        "write": (sqlite.SqliteDatabase, "write"),
        "pg-write": (postgres.PostgresDatabase, "write"),
        "pg-drive": (postgres, "_drive"),
        "answer": (committer, "_answer"),
        "spool": (spool.SpooledBytes, "_write"),
        "writev": (os, "writev"),
        "fdatasync": (os, "fdatasync"),
        "link": (os, "link"),
        "fsync": (os, "fsync"),
        "unlink": (os, "unlink"),
    }[point]
    setattr(owner, name, dying(getattr(owner, name), moment, nth))


def plan_death_in_sqlite(verb: str, moment: str, nth: int) -> None:
    calls = itertools.count(1)  # each call has a number of its own: readers and the writer commit at once

    class Dying(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> Any:
            return self._watched(super().execute, sql, *args)

        def executemany(self, sql: str, *args: Any) -> Any:
            return self._watched(super().executemany, sql, *args)

        def _watched(self, call: Callable[..., Any], sql: str, *args: Any) -> Any:
            last = sql.lstrip().startswith(verb) and next(calls) == nth
            if last and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(sql, *args)
            if last and moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    connect = sqlite3.connect
    sqlite.sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Dying, **kwargs)  # type: ignore[attr-defined]


def live(order: dict[str, Any]) -> None:
    say("PID", os.getpid())
    if order.get("point"):
        plan_death(order["point"], order["moment"], order["nth"])
    if order.get("file_bytes_max"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes_max"], resource.RLIM_INFINITY))
    asyncio.run(run(order))


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BrokenPipeError):
                live(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        say("EXIT", status)


if __name__ == "__main__":
    main()
