"""The same UID again: duplicates, the four conflict policies (MISSION A2), batches (A3), shared commits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.committer import BatchRefused
from isocenter.features.archive.entry import Entry, Outcome, OutcomeKind, Received
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy
from isocenter.kit.errors import Busy, InternalError, Unavailable
from isocenter.platform.db import DatabaseUnreachable
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind
FIRST = Image()
SECOND = FIRST.but(pixels=b"\5\6\7\10")
THIRD = FIRST.but(pixels=b"\11\12\13\14")
MOVED = SECOND.but(series="1.2.3.1.2", modality="MR")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


async def versions(archive: TestArchive, sop: str = FIRST.sop) -> list[tuple[int, int, str]]:
    rows = await archive.rows(
        "SELECT version, current, sha256 FROM instance WHERE sop_instance_uid = :sop ORDER BY version",
        sop=sop,
    )
    return [(row["version"], row["current"], row["sha256"]) for row in rows]


async def feed(archive: TestArchive) -> list[tuple[str, dict[str, Any]]]:
    return [(change.kind, change.detail) for change in await read_changes(archive.database, ORGANIZATION)]


# --- the policies ---------------------------------------------------------------------------------------


async def test_reject_keeps_the_first_and_tells_the_sender_why(url: str, tmp_path: Path):
    async with opened(url, tmp_path) as archive:
        outcomes = await archive.send(FIRST, SECOND, FIRST)
        assert [outcome.kind for outcome in outcomes] == [KIND.STORED, KIND.REJECTED, KIND.DUPLICATE]
        assert not outcomes[1].kind.accepted
        assert [problem.code for problem in outcomes[1].problems] == ["different-object-same-uid"]
        assert (await archive.send_one(SECOND)).kind is KIND.REJECTED
        assert await versions(archive) == [(1, 1, FIRST.sha256)]
        rejected = ("rejected", {"other_sha256": SECOND.sha256})
        assert await feed(archive) == [("stored", {}), rejected, rejected]
        assert await broken_promises(archive) == []


async def test_keep_first_accepts_and_keeps_the_first(url: str, tmp_path: Path):
    async with opened(url, tmp_path, conflict=ConflictPolicy.KEEP_FIRST) as archive:
        outcomes = await archive.send(FIRST, SECOND)
        assert [outcome.kind for outcome in outcomes] == [KIND.STORED, KIND.KEPT_FIRST]
        assert outcomes[1].kind.accepted
        assert (await archive.send_one(MOVED)).kind is KIND.KEPT_FIRST
        assert await versions(archive) == [(1, 1, FIRST.sha256)]
        assert await archive.one("SELECT series_count FROM study") == 1
        assert [kind for kind, _ in await feed(archive)] == ["stored", "kept-first", "kept-first"]
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("together", [True, False])
async def test_replace_leaves_the_newest_alone(url: str, tmp_path: Path, together: bool):
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        kinds = await send_all(archive, [FIRST, SECOND, THIRD, THIRD], together)
        assert kinds == [KIND.STORED, KIND.REPLACED, KIND.REPLACED, KIND.DUPLICATE]
        assert await versions(archive) == [(3, 1, THIRD.sha256)]
        assert await archive.one("SELECT instance_count FROM study") == 1
        assert (await feed(archive))[1:] == [
            ("replaced", {"earlier_sha256": FIRST.sha256, "earlier_version": 1}),
            ("replaced", {"earlier_sha256": SECOND.sha256, "earlier_version": 2}),
        ]
        assert (await archive.sweep().run()).removed == 2
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("together", [True, False])
async def test_keep_both_keeps_every_version_and_shows_the_newest(url: str, tmp_path: Path, together: bool):
    async with opened(url, tmp_path, conflict=ConflictPolicy.KEEP_BOTH) as archive:
        kinds = await send_all(archive, [FIRST, SECOND, THIRD, THIRD], together)
        assert kinds == [KIND.STORED, KIND.KEPT_BOTH, KIND.KEPT_BOTH, KIND.DUPLICATE]
        assert await versions(archive) == [
            (1, 0, FIRST.sha256),
            (2, 0, SECOND.sha256),
            (3, 1, THIRD.sha256),
        ]
        assert await archive.one("SELECT instance_count FROM study") == 1
        assert (await archive.sweep().run()).removed == 0
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("together", [True, False])
async def test_an_earlier_version_sent_again_is_a_duplicate(url: str, tmp_path: Path, together: bool):
    """Two senders that repeat themselves must not push each other's version aside for ever."""
    async with opened(url, tmp_path, conflict=ConflictPolicy.KEEP_BOTH) as archive:
        kinds = await send_all(archive, [FIRST, SECOND, FIRST, SECOND, FIRST], together)
        assert kinds == [KIND.STORED, KIND.KEPT_BOTH, KIND.DUPLICATE, KIND.DUPLICATE, KIND.DUPLICATE]
        assert await versions(archive) == [(1, 0, FIRST.sha256), (2, 1, SECOND.sha256)]
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("policy", [ConflictPolicy.REPLACE, ConflictPolicy.KEEP_BOTH])
async def test_a_newer_object_may_move_to_another_series(
    url: str, tmp_path: Path, policy: ConflictPolicy, together: bool
):
    async with opened(url, tmp_path, conflict=policy) as archive:
        stays = FIRST.but(sop="1.2.3.1.1.2")
        await send_all(archive, [FIRST, stays, MOVED], together)
        rows = await archive.rows("SELECT series_instance_uid, instance_count FROM series ORDER BY 1")
        assert [tuple(row.values()) for row in rows] == [(FIRST.series, 1), (MOVED.series, 1)]
        [study] = await archive.rows("SELECT series_count, instance_count, modalities FROM study")
        assert tuple(study.values()) == (2, 2, "CT\\MR")
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("together", [True, False])
async def test_a_series_that_replacement_empties_goes(url: str, tmp_path: Path, together: bool):
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        await send_all(archive, [FIRST, MOVED], together)
        [series] = await archive.rows("SELECT series_instance_uid, instance_count FROM series")
        assert tuple(series.values()) == (MOVED.series, 1)
        [study] = await archive.rows("SELECT series_count, instance_count, modalities FROM study")
        assert tuple(study.values()) == (1, 1, "MR")
        assert await broken_promises(archive) == []


@pytest.mark.parametrize("together", [True, False])
async def test_a_study_and_patient_that_replacement_empties_go(url: str, tmp_path: Path, together: bool):
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        other = SECOND.but(study="1.2.9", series="1.2.9.1", patient_id="P2", name="ROE^RICHARD")
        await send_all(archive, [FIRST, other], together)
        assert await archive.one("SELECT study_instance_uid FROM study") == "1.2.9"
        assert await archive.one("SELECT patient_id FROM patient") == "P2"
        assert await broken_promises(archive) == []


async def test_a_replacement_for_another_patients_study_replaces_nothing(url: str, tmp_path: Path):
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        await archive.send(FIRST, FIRST.but(sop="1.2.9.9", study="1.2.9", series="1.2.9.1", patient_id="P2"))
        wrong = SECOND.but(patient_id="P2")
        assert (await archive.send_one(wrong)).kind is KIND.QUARANTINED
        assert await versions(archive) == [(1, 1, FIRST.sha256)]
        assert await broken_promises(archive) == []


async def test_many_replacements_at_once_leave_one(url: str, tmp_path: Path):
    """Several processes replace the same object at the same time."""
    async with (
        opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as one,
        opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as two,
        opened(url, tmp_path, conflict=ConflictPolicy.KEEP_BOTH) as three,
    ):
        images = [FIRST.but(pixels=bytes([number] * 4)) for number in range(24)]
        processes = itertools.cycle([one, two, three])
        async with asyncio.TaskGroup() as senders:
            tasks = [
                senders.create_task(archive.send_one(image))
                for archive, image in zip(processes, images, strict=False)
            ]
        assert sum(task.result().kind is KIND.STORED for task in tasks) == 1
        assert all(task.result().kind.accepted for task in tasks)
        assert sum(current for _, current, _ in await versions(one)) == 1
        assert await broken_promises(one) == []


async def send_all(archive: TestArchive, images: list[Image], together: bool) -> list[OutcomeKind]:
    if together:
        return [outcome.kind for outcome in await archive.send(*images)]
    return [(await archive.send_one(image)).kind for image in images]


# --- all or nothing -------------------------------------------------------------------------------------


async def test_an_all_or_nothing_batch_with_a_bad_object_leaves_no_trace(url: str, tmp_path: Path):
    async with opened(url, tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as archive:
        with pytest.raises(BatchRefused) as refused:
            await archive.send(FIRST, FIRST.but(sop="1.2.5", modality=None), FIRST.but(sop="1.2.6"))
        assert [outcome.kind for outcome in refused.value.outcomes] == [
            KIND.STORED,
            KIND.QUARANTINED,
            KIND.STORED,
        ]
        for table in ("patient", "study", "series", "instance", "quarantine", "change_feed"):
            assert await archive.one(f"SELECT count(*) FROM {table}") == 0, table
        assert (await archive.sweep().run()).removed == 3
        assert await archive.keys() == set()


async def test_an_all_or_nothing_batch_of_good_objects_lands_whole(url: str, tmp_path: Path):
    async with opened(url, tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as archive:
        images = [FIRST.but(sop=f"1.2.5.{number}") for number in range(50)]
        assert {outcome.kind for outcome in await archive.send(*images)} == {KIND.STORED}
        with pytest.raises(BatchRefused):
            await archive.send(FIRST, images[0].but(pixels=b"other"))
        assert await archive.one("SELECT instance_count FROM study") == 50
        assert await broken_promises(archive) == []


async def test_a_refused_batch_takes_nobody_elses_objects_with_it(url: str, tmp_path: Path):
    async with opened(url, tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as archive:
        batches = [
            archive.send(*(FIRST.but(sop=f"1.2.5.{batch}.{n}") for n in range(3)), *bad)
            for batch, bad in enumerate([[], [FIRST.but(sop="1.2.6", modality=None)]] * 4)
        ]
        results = await asyncio.gather(*batches, return_exceptions=True)
        assert [isinstance(result, BatchRefused) for result in results] == [False, True] * 4
        assert await archive.one("SELECT instance_count FROM study") == 12
        assert await broken_promises(archive) == []


# --- shared commits -------------------------------------------------------------------------------------


class Gate:
    """The database, which holds the first transaction up until it is let go, and counts them."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.dialect = database.dialect
        self.writes = 0
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.broken = False

    async def write(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        if self.broken and self.writes > 1:
            raise DatabaseUnreachable("The database is gone.")
        self.reached.set()
        await self.open.wait()
        return await self._database.write(work, *args, **kwargs)


@pytest.fixture
async def gated(url: str, tmp_path: Path) -> AsyncIterator[tuple[TestArchive, Gate]]:
    """An archive whose first commit, of an object that has been sent already, is under way and held."""
    async with opened(url, tmp_path, waiting_max=100) as archive:
        gate = Gate(archive.database)
        archive.committer._database = gate  # type: ignore[assignment]
        sending = asyncio.create_task(archive.send_one(FIRST))
        await gate.reached.wait()
        yield archive, gate
        gate.open.set()
        assert (await sending).kind is KIND.STORED


async def submit(archive: TestArchive, *images: Image) -> list[asyncio.Task[list[Outcome]]]:
    """Each as a submission of its own; they wait for the commit that is held."""
    received = [await archive.receive(image.file) for image in images]
    return await submit_received(archive, received)


async def submit_received(
    archive: TestArchive, received: Sequence[Received]
) -> list[asyncio.Task[list[Outcome]]]:
    tasks = [asyncio.create_task(archive.ingest.commit(ORGANIZATION, [one])) for one in received]
    await asyncio.sleep(0)  # each task runs as far as the queue
    return tasks


def numbered(count: int, prefix: str = "1.2.5") -> list[Image]:
    return [FIRST.but(sop=f"{prefix}.{number}") for number in range(count)]


async def test_what_arrives_during_a_commit_shares_the_next(gated: tuple[TestArchive, Gate]):
    archive, gate = gated
    tasks = await submit(archive, *numbered(20))
    gate.open.set()
    outcomes = await asyncio.gather(*tasks)
    assert [outcome.sop_instance_uid for [outcome] in outcomes] == [f"1.2.5.{n}" for n in range(20)]
    assert gate.writes == 2
    assert await broken_promises(archive) == []


async def test_one_bad_submission_does_not_fail_the_others(gated: tuple[TestArchive, Gate]):
    archive, gate = gated
    poisoned = await archive.receive(FIRST.but(sop="1.2.6").file)
    assert isinstance(poisoned, Entry)
    poisoned.instance.columns["instance_number"] = 2**70  # no database takes it
    before = await submit(archive, *numbered(5))
    [bad] = await submit_received(archive, [poisoned])
    after = await submit(archive, *numbered(5, "1.2.7"))
    gate.open.set()
    outcomes = await asyncio.gather(*before, *after)
    assert [outcome.kind for [outcome] in outcomes] == [KIND.STORED] * 10
    with pytest.raises(InternalError):
        await bad
    assert await archive.one("SELECT instance_count FROM study") == 11
    assert await broken_promises(archive) == []


async def test_a_database_out_of_reach_is_asked_once_for_all(gated: tuple[TestArchive, Gate]):
    """Asking again for each of five hundred submissions would keep their senders waiting for hours."""
    archive, gate = gated
    tasks = await submit(archive, *numbered(20))
    gate.broken = True
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    gate.broken = False
    assert all(isinstance(result, Unavailable) for result in results)
    assert gate.writes == 2
    received = [await archive.receive(image.file) for image in [FIRST, *numbered(20)]]
    assert len(await archive.ingest.commit(ORGANIZATION, received)) == 21


async def test_a_sender_that_stops_waiting_harms_nobody(gated: tuple[TestArchive, Gate]):
    archive, gate = gated
    tasks = await submit(archive, *numbered(6))
    tasks[3].cancel()
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(3), asyncio.CancelledError)
    assert [result[0].kind for result in results if isinstance(result, list)] == [KIND.STORED] * 5
    assert await broken_promises(archive) == []


async def test_a_full_queue_refuses_instead_of_growing(gated: tuple[TestArchive, Gate]):
    archive, gate = gated
    received = await archive.receive(FIRST.file)
    tasks = await submit_received(archive, [received] * 100)
    with pytest.raises(Busy) as refused:
        await archive.ingest.commit(ORGANIZATION, [received])
    assert refused.value.retry_after_s
    gate.open.set()
    assert {outcome.kind for [outcome] in await asyncio.gather(*tasks)} == {KIND.DUPLICATE}


async def test_closing_commits_what_was_submitted_and_takes_no_more(gated: tuple[TestArchive, Gate]):
    archive, gate = gated
    tasks = await submit(archive, *numbered(4))
    closing = asyncio.create_task(archive.committer.close())
    gate.open.set()
    await closing
    assert {outcome.kind for [outcome] in await asyncio.gather(*tasks)} == {KIND.STORED}
    with pytest.raises(Unavailable):
        await archive.send_one(FIRST)
