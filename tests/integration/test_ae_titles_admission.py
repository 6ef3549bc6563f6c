"""Who is let in, on both databases: answered from memory, true within a second, bounded under a flood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.features.ae_titles.admission import Admission
from isocenter.features.ae_titles.callers import Caller
from isocenter.features.ae_titles.entries import RefusalReason
from isocenter.features.ae_titles.notes import AssociationNotes
from isocenter.features.ae_titles.service import AeTitles
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import NotFound, Unavailable
from isocenter.platform.db import Database, open_database

OURS = 1
CT1 = Caller("CT1", "10.0.0.5")


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = (
        f"sqlite:///{tmp_path}/ae.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    opened = await open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def titles(database: Database, clock: ManualClock) -> AsyncIterator[AeTitles]:
    service = AeTitles(database, clock)
    yield service
    await service.close()


class Counting:
    """A database that counts reads and can be switched off."""

    dialect = "sqlite"

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.reads = 0
        self.down = False

    async def read(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        self._check()
        return await self.inner.read(work, *args, **kwargs)

    async def read_across(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        self._check()
        return await self.inner.read_across(work, *args, **kwargs)

    async def write(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await self.inner.write(work, *args, **kwargs)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("The database is away.")

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


async def admits(titles: AeTitles, title: str, host: str) -> bool:
    return await titles.admission.admit(Caller(title, host), "ISOCENTER") is not None


async def test_registered_titles_and_loopback_are_let_in_and_nobody_else(titles: AeTitles) -> None:
    assert not await admits(titles, "CT1", "10.0.0.5")
    for host in ("127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"):
        assert await admits(titles, "ANYBODY", host)
    await titles.register(OURS, " CT1 ")
    assert await admits(titles, "CT1", "10.0.0.5")
    assert not await admits(titles, "ct1", "10.0.0.5")
    await titles.remove(OURS, "CT1")
    assert not await admits(titles, "CT1", "10.0.0.5")


async def test_a_title_may_be_bound_to_addresses(titles: AeTitles) -> None:
    await titles.register(OURS, "CT1", host="10.0.0.5", description="CT in room 1")
    await titles.register(OURS, "CT1", host="192.168.7.0/24")
    await titles.register(OURS, "MR1", host="2001:db8::/64")
    found = {
        (title, host): await admits(titles, title, host)
        for title, host in [
            ("CT1", "10.0.0.5"),
            ("CT1", "::ffff:10.0.0.5"),
            ("CT1", "10.0.0.6"),
            ("CT1", "192.168.7.200"),
            ("MR1", "2001:db8::99"),
            ("MR1", "10.0.0.5"),
        ]
    }
    assert [pair for pair, admitted in found.items() if not admitted] == [
        ("CT1", "10.0.0.6"),
        ("MR1", "10.0.0.5"),
    ]
    assert await titles.remove(OURS, "CT1", host="10.0.0.5/32") == 1
    assert not await admits(titles, "CT1", "10.0.0.5")
    assert await titles.remove(OURS, "CT1") == 1
    with pytest.raises(NotFound):
        await titles.remove(OURS, "CT1")


async def test_registering_again_changes_the_description_only(titles: AeTitles) -> None:
    await titles.register(OURS, "CT1", host="10.0.0.5", description="old")
    again = await titles.register(OURS, "CT1", host="10.0.0.5/32", description="new")
    assert [one.description for one in await titles.titles(OURS)] == ["new"] == [again.description]


async def test_any_title_by_setting(database: Database, clock: ManualClock) -> None:
    service = AeTitles(database, clock, admit_any=True)
    assert await admits(service, "WHOEVER", "10.0.0.5")
    assert await service.refused(OURS) == []
    await service.close()


async def test_another_process_lets_a_peer_in_within_a_second(
    database: Database, titles: AeTitles, clock: ManualClock
) -> None:
    assert not await admits(titles, "CT1", "10.0.0.5")
    elsewhere = AeTitles(database, clock)
    await elsewhere.register(OURS, "CT1", host="10.0.0.5")
    clock.advance(1.01)
    assert await admits(titles, "CT1", "10.0.0.5")
    await elsewhere.remove(OURS, "CT1")
    clock.advance(1.01)
    assert not await admits(titles, "CT1", "10.0.0.5")
    await elsewhere.close()


async def test_the_list_is_read_once_a_second_however_many_call(
    database: Database, clock: ManualClock
) -> None:
    counting = Counting(database)
    service = AeTitles(counting, clock)
    await service.register(OURS, "CT1")
    counting.reads = 0
    for _ in range(3):
        assert all(await asyncio.gather(*(admits(service, "CT1", "10.0.0.5") for _ in range(50))))
        clock.advance(1.01)
    assert counting.reads == 3
    await service.close()


async def test_without_the_database_the_last_list_counts(database: Database, clock: ManualClock) -> None:
    counting = Counting(database)
    service = AeTitles(counting, clock)
    await service.register(OURS, "CT1")
    assert await admits(service, "CT1", "10.0.0.5")
    counting.down = True
    clock.advance(5)
    assert await admits(service, "CT1", "10.0.0.5")
    assert not await admits(service, "CT2", "10.0.0.5")
    counting.down = False
    await service.remove(OURS, "CT1")
    assert not await admits(service, "CT1", "10.0.0.5")
    await service.close()


async def test_without_any_list_only_this_machine_is_let_in(database: Database, clock: ManualClock) -> None:
    counting = Counting(database)
    counting.down = True
    service = AeTitles(counting, clock)
    assert await admits(service, "CT1", "127.0.0.1")
    with pytest.raises(Unavailable):
        await admits(service, "CT1", "10.0.0.5")
    counting.down = False
    assert not await admits(service, "CT1", "10.0.0.5")
    await service.close()


async def test_a_refused_peer_is_remembered_with_the_command_that_lets_it_in(
    titles: AeTitles, clock: ManualClock
) -> None:
    door = titles.admission
    for _ in range(3):
        assert not await admits(titles, "CT1", "::ffff:10.0.0.5")
        clock.advance(1)
    door.refuse(Caller("CT1", "10.0.0.9"), "ORTHANC", RefusalReason.CALLED_NOT_OURS)
    await door.notes.flush()
    assert not await admits(titles, "CT1", "10.0.0.5")
    await door.notes.flush()
    called, calling = sorted(await titles.refused(OURS), key=lambda peer: peer.times)
    assert (calling.peer_host, calling.times, calling.called_ae_title) == ("10.0.0.5", 4, "ISOCENTER")
    assert calling.last_at_us - calling.first_at_us == 3_000_000
    assert calling.command == "isocenter ae add CT1 --host 10.0.0.5"
    assert (called.peer_host, called.called_ae_title, called.command) == ("10.0.0.9", "ORTHANC", "")

    await titles.register(OURS, "CT1", host="10.0.0.0/24")
    assert [peer.peer_host for peer in await titles.refused(OURS)] == ["10.0.0.9"]


async def test_a_refusal_written_after_the_registration_is_not_shown(titles: AeTitles) -> None:
    assert not await admits(titles, "CT1", "10.0.0.5")
    await titles.register(OURS, "CT1")
    await titles.admission.notes.flush()
    assert await titles.refused(OURS) == []


async def test_notes_are_written_by_themselves_and_at_the_end(database: Database, clock: ManualClock) -> None:
    written = asyncio.Event()

    class Told(Counting):
        async def write(self, work: Any, *args: Any, **kwargs: Any) -> Any:
            result = await super().write(work, *args, **kwargs)
            written.set()
            return result

    told = Told(database)
    notes = AssociationNotes(told, clock, flush_s=0.001)
    notes.refused(OURS, CT1, "ISOCENTER", RefusalReason.CALLING_NOT_REGISTERED)
    await asyncio.wait_for(written.wait(), 10)
    await notes.close()

    unhurried = AssociationNotes(told, clock, flush_s=3600)
    unhurried.refused(OURS, Caller("CT2", "10.0.0.5"), "ISOCENTER", RefusalReason.CALLING_NOT_REGISTERED)
    await unhurried.close()
    assert {peer.calling_ae_title for peer in await AeTitles(told, clock).refused(OURS)} == {"CT1", "CT2"}


async def test_notes_wait_for_a_database_that_is_away(database: Database, clock: ManualClock) -> None:
    counting = Counting(database)
    notes = AssociationNotes(counting, clock, flush_s=3600)
    counting.down = True
    for _ in range(2):
        notes.refused(OURS, CT1, "ISOCENTER", RefusalReason.CALLING_NOT_REGISTERED)
        await notes.flush()
    counting.down = False
    await notes.close()
    [peer] = await AeTitles(counting, clock).refused(OURS)
    assert peer.times == 2


async def test_when_a_title_was_last_seen(titles: AeTitles, clock: ManualClock) -> None:
    await titles.register(OURS, "CT1", host="10.0.0.0/24")
    await titles.register(OURS, "CT2")
    notes = titles.admission.notes
    assert await admits(titles, "CT1", "10.0.0.5")
    await notes.flush()
    seen = {one.title: one for one in await titles.titles(OURS)}
    assert (seen["CT1"].last_seen_host, seen["CT2"].last_seen_at_us) == ("10.0.0.5", None)
    first_us = seen["CT1"].last_seen_at_us

    clock.advance(30)  # within the minute nothing is written
    assert await admits(titles, "CT1", "10.0.0.6")
    await notes.flush()
    assert (await titles.titles(OURS))[0].last_seen_at_us == first_us
    clock.advance(31)
    assert await admits(titles, "CT1", "10.0.0.6")
    await notes.flush()
    [ct1, _] = await titles.titles(OURS)
    assert ct1.last_seen_host == "10.0.0.6" and ct1.last_seen_at_us == (first_us or 0) + 61_000_000


async def test_a_flood_of_invented_titles_costs_little(database: Database, clock: ManualClock) -> None:
    notes = AssociationNotes(database, clock, flush_s=3600, waiting_max=20, rows_max=30)
    door = Admission(database, clock, notes=notes)
    for wave in range(4):
        for number in range(500):
            assert not await door.admit(Caller(f"T{wave}-{number}", "10.0.0.5"), "ISOCENTER")
        assert len(notes._refusals) == 20
        clock.advance(1)
        await notes.flush()
    await door.close()
    refused = await AeTitles(database, clock).refused(OURS, limit=1000)
    assert len(refused) == 30
    assert {peer.calling_ae_title.split("-")[0] for peer in refused} == {"T3", "T2"}  # the latest stay
    assert len(notes._said_at_s) <= 20
