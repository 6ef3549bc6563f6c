"""Retention: what got nothing new for long enough goes, told and foreseeable; nothing else ever does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import structlog

from isocenter.features.archive import queries
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.deletion.deleting import GRACE_DAYS, Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.archive.deletion.purging import Purging
from isocenter.features.archive.filing import stripes
from isocenter.features.archive.holdings import Holdings
from isocenter.features.archive.housekeeping import Housekeeping
from isocenter.features.archive.retention import _BATCH, _BATCHES_MAX, Retention
from isocenter.kit.clock import ManualClock, microseconds
from isocenter.kit.errors import Busy, InternalError, Unavailable
from isocenter.platform.storage.memory import MemoryStore
from services.accounts import Trail
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

DAY_S = 86_400.0
IMAGE = Image()


def image(number: int, **changes: Any) -> Image:
    """Of a study and a patient of its own."""
    study = f"1.2.{number}"
    return IMAGE.but(sop=f"{study}.1.1", study=study, series=f"{study}.1", patient_id=f"P{number}", **changes)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def archive(url: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as made:
        yield made
        assert await broken_promises(made) == []


@pytest.fixture
def trail() -> Trail:
    return Trail()


@pytest.fixture
def retention(archive: TestArchive, clock: ManualClock, trail: Trail) -> Retention:
    return Retention(archive.database, clock, trail)


async def keep_for(archive: TestArchive, days: int | None, organization_id: int = ORGANIZATION) -> None:
    settings = orjson.dumps({} if days is None else {"retention_days": days}).decode()
    await archive.execute(
        "UPDATE organization SET settings = :settings WHERE id = :id", settings=settings, id=organization_id
    )


async def studies(archive: TestArchive, organization_id: int = ORGANIZATION) -> list[str]:
    rows = await archive.rows(
        "SELECT study_instance_uid FROM study WHERE organization_id = :id ORDER BY id", id=organization_id
    )
    return [row["study_instance_uid"] for row in rows]


async def due(retention: Retention, organization_id: int = ORGANIZATION, **more: Any) -> list[str] | None:
    found = await retention.due(organization_id, **more)
    return None if found is None else [one.study_instance_uid for one in found]


# --- what is due ----------------------------------------------------------------------------------------


async def test_without_the_setting_nothing_ever_goes(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    await archive.send_one(image(1))
    for _ in range(4):
        clock.advance(10_000 * DAY_S)
        report = await retention.run()
        assert (report.studies, report.held_off) == (0, False)
    assert await studies(archive) == ["1.2.1"]
    assert await due(retention) is None
    assert (await Holdings(archive.database, clock).of(ORGANIZATION)).due_studies is None


async def test_more_than_so_many_days_ago(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    await keep_for(archive, 30)
    await archive.send_one(image(1))
    clock.advance(30 * DAY_S)
    assert await due(retention) == []
    assert (await retention.run()).studies == 0
    clock.advance(0.001)
    assert await due(retention) == ["1.2.1"]
    assert (await Holdings(archive.database, clock).of(ORGANIZATION)).due_studies == 1
    report = await retention.run()
    assert (report.studies, report.instances) == (1, 1)
    assert await studies(archive) == []
    assert await due(retention) == []


async def test_what_counts_is_the_newest_object(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    await keep_for(archive, 10)
    await archive.send(image(1), image(2), image(3), image(4))
    clock.advance(6 * DAY_S)
    await archive.send_one(image(1, pixels=b"more").but(sop="1.2.1.1.2"))
    await archive.send_one(image(2).but(series="1.2.2.2", sop="1.2.2.2.1"))  # in another series
    await archive.send_one(image(3))  # a duplicate
    await archive.send_one(image(4).but(sop="1.2.4.1.2", modality=None))  # in quarantine, not in the study
    clock.advance(6 * DAY_S)
    assert await due(retention) == ["1.2.3", "1.2.4"]
    assert await due(retention, days=6) == ["1.2.3", "1.2.4"], "six days ago is not more than six days ago"
    assert await due(retention, days=5) == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]
    await retention.run()
    assert await studies(archive) == ["1.2.1", "1.2.2"]
    assert await archive.quarantine.count(ORGANIZATION) == 1
    [first, *_] = await retention.due(ORGANIZATION, days=1) or []
    assert (first.instances, first.study_date) == (2, "20260101")
    assert first.newest_at_us == int((clock.now() - timedelta(days=6)).timestamp() * 1_000_000)


async def test_another_number_of_days_can_be_tried_before_it_is_set(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    for number in range(5):
        await archive.send_one(image(number))
        clock.advance(DAY_S)
    assert await due(retention) is None
    assert await due(retention, days=2) == ["1.2.0", "1.2.1", "1.2.2"]
    assert await due(retention, days=2, limit=2) == ["1.2.0", "1.2.1"]
    assert await due(retention, days=5) == []
    assert (await retention.run()).studies == 0
    assert len(await studies(archive)) == 5


# --- removing -------------------------------------------------------------------------------------------


def purging_of(archive: TestArchive, clock: ManualClock, trail: Trail) -> Purging:
    return Purging(archive.database, Deletions(archive.database, clock), clock, trail)


async def test_removed_is_told_and_the_sweep_frees_it(
    archive: TestArchive, retention: Retention, clock: ManualClock, trail: Trail
) -> None:
    await keep_for(archive, 1)
    await archive.send(image(1), image(1).but(sop="1.2.1.1.2"))
    clock.advance(2 * DAY_S)
    await archive.send_one(image(2))
    await retention.run()
    [event] = trail.events
    assert (event.action, event.outcome, event.resource_kind, event.resource_id) == (
        "delete",
        "success",
        "study",
        "1.2.1",
    )
    assert (event.subject_kind, event.subject_id) == ("service", "retention")
    assert event.organization_id == ORGANIZATION
    assert event.details == {"reason": "retention", "retention_days": 1, "instances": 2}
    assert trail.settled_events == 1
    change = (await read_changes(archive.database, ORGANIZATION))[-1]
    assert (change.kind, change.study_instance_uid) == ("deleted", "1.2.1")
    [waiting] = await Deletions(archive.database, clock).list(ORGANIZATION)
    assert change.detail == {"instances": 2, "reason": "retention", "deletion": waiting.id}
    assert (waiting.deleted_by, waiting.objects) == ("retention", 2), "a wrong setting can be taken back"
    purging = purging_of(archive, clock, trail)
    clock.advance(GRACE_DAYS * DAY_S - 1)
    assert (await purging.run()).deletions == 0
    await archive.sweep(timedelta(hours=1)).run()
    assert len(await archive.keys()) == 3
    clock.advance(DAY_S)
    assert (await purging.run()).deletions == 1
    assert (trail.events[-1].subject_id, trail.events[-1].resource_id) == ("purge", waiting.id)
    assert (await Holdings(archive.database, clock).of(ORGANIZATION)).objects == 1
    await archive.sweep(timedelta(hours=1)).run()
    assert len(await archive.keys()) == 1


async def test_a_clock_that_has_jumped_purges_nothing(
    archive: TestArchive, clock: ManualClock, trail: Trail
) -> None:
    await archive.send_one(image(1))
    purging = purging_of(archive, clock, trail)
    await Deletions(archive.database, clock).delete(ORGANIZATION, Scope("1.2.1"))
    clock.jump(100 * DAY_S)
    report = await purging.run()
    assert report.held_off and report.deletions == 0
    clock.jump(-100 * DAY_S)
    assert (await purging.run()).deletions == 0
    clock.advance(GRACE_DAYS * DAY_S)
    assert (await purging.run()).deletions == 1


async def test_no_other_organisation_is_touched(
    archive: TestArchive, retention: Retention, clock: ManualClock, trail: Trail
) -> None:
    """They have the same studies, and other ideas of how long to keep them."""
    longer, for_ever = await archive.add_organization("longer"), await archive.add_organization("for-ever")
    for organization_id in (ORGANIZATION, longer, for_ever):
        await archive.send(image(1), to=organization_id)
    await archive.send(image(2), to=longer)
    await keep_for(archive, 5)
    await keep_for(archive, 50, longer)
    clock.advance(6 * DAY_S)
    assert await due(retention) == ["1.2.1"]
    assert (await Holdings(archive.database, clock).of(ORGANIZATION)).due_studies == 1
    assert (await retention.run()).studies == 1
    assert [await studies(archive, one) for one in (ORGANIZATION, longer, for_ever)] == [
        [],
        ["1.2.1", "1.2.2"],
        ["1.2.1"],
    ]
    clock.advance(50 * DAY_S)
    assert (await retention.run()).studies == 2
    assert await studies(archive, for_ever) == ["1.2.1"]
    assert [event.organization_id for event in trail.events] == [ORGANIZATION, longer, longer]
    assert await read_changes(archive.database, for_ever, after=1) == []


async def test_a_round_is_bounded(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isocenter.features.archive import retention as module

    monkeypatch.setattr(module, "_BATCH", 3)
    monkeypatch.setattr(module, "_BATCHES_MAX", 2)
    assert 100 <= _BATCH * _BATCHES_MAX <= 10_000
    clock, trail = ManualClock(), Trail()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        retention = Retention(archive.database, clock, trail)
        await keep_for(archive, 1)
        await archive.send(*map(image, range(8)))
        clock.advance(2 * DAY_S)
        assert [(await retention.run()).studies for _ in range(3)] == [6, 2, 0]
        assert len(trail.events) == 8
        assert await broken_promises(archive) == []


async def test_two_servers_remove_each_study_once(url: str, tmp_path: Path) -> None:
    clock, trail = ManualClock(), Trail()
    store = MemoryStore(clock=clock)
    async with (
        opened(url, tmp_path, store=store, clock=clock) as one,
        opened(url, tmp_path, store=store, clock=clock) as other,
    ):
        await keep_for(one, 1)
        both = [Retention(archive.database, clock, trail) for archive in (one, other)]
        await one.send(*map(image, range(20)))
        clock.advance(2 * DAY_S)
        reports = await asyncio.gather(*(retention.run() for retention in both))
        assert sum(report.studies for report in reports) == len(trail.events) == 20
        kinds = [change.kind for change in await read_changes(one.database, ORGANIZATION)]
        assert kinds.count("deleted") == 20
        assert await broken_promises(one) == []


# --- what comes in between ------------------------------------------------------------------------------


class Meddling:
    """A database on which ``deed`` is done between the look at what is due and the first removal."""

    def __init__(self, inner: Any, deed: Any) -> None:
        self._inner = inner
        self._deed = deed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def write(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        deed, self._deed = self._deed, None
        if deed is not None:
            await deed()
        return await self._inner.write(work, *args, **kwargs)


async def test_a_new_object_in_between_saves_its_study(
    archive: TestArchive, clock: ManualClock, trail: Trail
) -> None:
    async def arrives() -> None:
        await archive.send_one(image(1).but(sop="1.2.1.1.2"))

    await keep_for(archive, 1)
    await archive.send(image(1), image(2))
    clock.advance(2 * DAY_S)
    retention = Retention(Meddling(archive.database, arrives), clock, trail)  # type: ignore[arg-type]
    assert (await retention.run()).studies == 1
    assert await studies(archive) == ["1.2.1"]
    assert [event.resource_id for event in trail.events] == ["1.2.2"]


async def test_a_setting_that_is_taken_back_in_between_holds(
    archive: TestArchive, clock: ManualClock, trail: Trail
) -> None:
    await keep_for(archive, 1)
    await archive.send(image(1), image(2))
    clock.advance(2 * DAY_S)
    database: Any = Meddling(archive.database, lambda: keep_for(archive, None))
    assert (await Retention(database, clock, trail).run()).studies == 0
    assert len(await studies(archive)) == 2


async def test_an_object_that_is_being_filed_saves_its_study(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """PostgreSQL: its sender is told success by a transaction that began before ours and ends after it."""
    clock, trail = ManualClock(), Trail()
    with fresh_url(request, "postgresql", tmp_path) as url:
        async with opened(url, tmp_path, clock=clock) as archive:
            await keep_for(archive, 1)
            await archive.send_one(image(1))
            clock.advance(2 * DAY_S)
            filing = await asyncpg.connect(url)
            await filing.execute(f"SET isocenter.organization_id = '{ORGANIZATION}'")
            begun = filing.transaction()
            await begun.start()
            lock = queries.LOCK_ENTITIES(stripes=stripes(ORGANIZATION, {"1.2.1"}, set()))
            await filing.execute(lock.sql.postgres, *lock.sql.postgres_params(lock.params))
            removing = asyncio.create_task(Retention(archive.database, clock, trail).run())
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not removing.done() and not await archive.one(waiting):
                await asyncio.wait({removing}, timeout=0.01)
            now_us = microseconds(clock.now())
            await filing.execute(
                "INSERT INTO instance (organization_id, series_pk, sop_instance_uid, sop_class_uid, "
                "transfer_syntax_uid, object_key, size, header_size, sha256, received_at_us) "
                "SELECT organization_id, series_pk, '1.2.77', sop_class_uid, transfer_syntax_uid, "
                f"object_key, size, header_size, sha256, {now_us} FROM instance"
            )
            await begun.commit()
            await filing.close()
            assert (await removing).studies == 0
            assert await studies(archive) == ["1.2.1"]
            assert trail.events == []


# --- the clock ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [True, False])
async def test_a_clock_that_jumps_removes_nothing_for_a_round(
    archive: TestArchive, retention: Retention, clock: ManualClock, back: bool
) -> None:
    await keep_for(archive, 365)
    await archive.send_one(image(1))
    clock.advance(3600)
    assert not (await retention.run()).held_off
    clock.jump(10 * 365 * DAY_S)
    clock.advance(3600)
    with structlog.testing.capture_logs() as logs:
        report = await retention.run()
    assert (report.held_off, report.studies) == (True, 0)
    assert [(one["log_level"], one["ahead_days"]) for one in logs] == [("warning", 3650.0)]
    assert await studies(archive) == ["1.2.1"]
    if back:  # somebody has seen it
        clock.jump(-10 * 365 * DAY_S)
    clock.advance(3600)
    report = await retention.run()
    assert (report.held_off, report.studies) == (False, 0 if back else 1)


async def test_a_day_and_summer_time_are_no_jump(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    await keep_for(archive, 1)
    await archive.send_one(image(1))
    clock.advance(7 * DAY_S)  # a long interval
    clock.jump(3600)
    report = await retention.run()
    assert (report.held_off, report.studies) == (False, 1)


async def test_a_clock_that_jumped_before_the_first_round(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    await keep_for(archive, 365)
    await archive.send_one(image(1))
    clock.jump(400 * DAY_S)
    assert (await retention.run()).held_off


# --- failures -------------------------------------------------------------------------------------------


class FailingTrail(Trail):
    def record(self, event: Any) -> None:
        raise Busy("The trail is full.", code="audit-behind")


async def test_a_full_trail_stops_the_round(archive: TestArchive, clock: ManualClock) -> None:
    await keep_for(archive, 1)
    await archive.send(*map(image, range(5)))
    clock.advance(2 * DAY_S)
    with pytest.raises(Busy):
        await Retention(archive.database, clock, FailingTrail()).run()
    assert len(await studies(archive)) == 4


async def test_a_study_that_cannot_be_removed_keeps_no_other(
    archive: TestArchive, clock: ManualClock, trail: Trail
) -> None:
    async def fails() -> None:
        raise InternalError("planted")

    await keep_for(archive, 1)
    await archive.send(*map(image, range(3)))
    clock.advance(2 * DAY_S)
    database: Any = Meddling(archive.database, fails)
    with structlog.testing.capture_logs() as logs:
        assert (await Retention(database, clock, trail).run()).studies == 2
    assert [(one["log_level"], one["code"]) for one in logs] == [("error", "internal")]


async def test_a_server_that_stops_in_the_middle_has_told_what_it_removed(
    archive: TestArchive, clock: ManualClock, trail: Trail
) -> None:
    rounds: list[asyncio.Task[Any]] = []

    async def stopped() -> None:
        rounds[0].cancel()

    await keep_for(archive, 1)
    await archive.send(*map(image, range(3)))
    clock.advance(2 * DAY_S)
    retention = Retention(Meddling(archive.database, stopped), clock, trail)  # type: ignore[arg-type]
    rounds.append(asyncio.create_task(retention.run()))
    with pytest.raises(asyncio.CancelledError):
        await rounds[0]
    left = await studies(archive)
    assert len(left) + len(trail.events) == 3
    assert len(trail.events) == 1


# --- housekeeping ---------------------------------------------------------------------------------------


async def test_housekeeping_does_each_part_whatever_ails_the_others(
    archive: TestArchive, retention: Retention, clock: ManualClock
) -> None:
    await keep_for(archive, 1)
    await archive.send_one(image(1))
    await archive.receive(image(2).file)
    clock.advance(2 * DAY_S)
    tidied = []

    async def tidy() -> None:
        tidied.append(1)
        raise Unavailable("The disk is away.")

    purging, sweep = purging_of(archive, clock, Trail()), archive.sweep(timedelta(hours=1))
    house = Housekeeping(retention, purging, sweep, tidy, interval_s=3600)
    with structlog.testing.capture_logs() as logs:
        await house.once()
    assert [one["event"] for one in logs] == ["Retention removed", "Swept", "Tidying up put off"]
    assert tidied and await studies(archive) == [] and len(await archive.keys()) == 1
    clock.advance(GRACE_DAYS * DAY_S)
    with structlog.testing.capture_logs() as logs:
        await house.once()
    assert [one["event"] for one in logs] == ["Purged what was deleted", "Swept", "Tidying up put off"]
    assert await archive.keys() == set()
    broken = Housekeeping(
        Retention(archive.database, clock, FailingTrail()),
        purging_of(archive, clock, FailingTrail()),
        archive.sweep(timedelta(hours=1)),
        tidy,
        interval_s=3600,
    )
    await archive.send_one(image(3))
    clock.advance(2 * DAY_S)
    with structlog.testing.capture_logs() as logs:
        await broken.once()
    assert [one["event"] for one in logs] == ["Retention put off", "Swept", "Tidying up put off"]
