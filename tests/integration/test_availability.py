"""Instance Availability Notification: who is told of which studies, when, and what if that cannot be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.dataset import read_dataset
from isocenter.dimse.net.service import AssociationInfo, NAnswer
from isocenter.doors.scp.notifying import availability_notifier
from isocenter.features.archive.deletion.deleting import Scope
from isocenter.features.archive.deletion.deletions import Deletions
from isocenter.features.availability.notices import ATTEMPTS_MAX, NoticeState
from isocenter.features.availability.notifier import AvailabilityNotifier
from isocenter.kit.clock import ManualClock
from services.archive import CT, ORGANIZATION
from services.processes import free_ports
from services.retrieving import SR, Receiver, images, receiving
from services.schema import fresh_url
from services.scp import ScpDoor, scp_door

IAN = "1.2.840.10008.5.1.4.33"
STUDY = images(2, series=2)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@dataclass
class Telling:
    door: ScpDoor
    clock: ManualClock
    notifier: AvailabilityNotifier

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.notifier.turn()

    async def states(self, organization_id: int = ORGANIZATION) -> dict[tuple[str, str], NoticeState]:
        found = await self.notifier.notices.find(organization_id)
        return {(one.ae_title, one.study_instance_uid): one.state for one in found}

    async def listener(self, title: str, port: int, after_s: int | None = 60, to: int = ORGANIZATION) -> None:
        await self.door.destination(title, port, to=to, availability_after_s=after_s)
        await self.notifier.turn()


@asynccontextmanager
async def telling_of(url: str, folder: Path) -> AsyncIterator[Telling]:
    clock = ManualClock()
    async with scp_door(folder, database_url=url, clock=clock) as door:
        notifier = availability_notifier(door.archive.database, clock, door.outgoing, door.trail)
        yield Telling(door, clock, notifier)


@pytest.fixture
async def telling(url: str, tmp_path: Path) -> AsyncIterator[Telling]:
    async with telling_of(url, tmp_path) as made:
        yield made


class Ris(Receiver):
    """Takes notifications: the study, and each of its objects with series, class, availability and title."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, list[tuple[str, ...]]]] = []
        self.status = 0

    async def n_create(
        self, association: AssociationInfo, request: Any, data_set: bytes | None, transfer_syntax: str
    ) -> NAnswer:
        assert request.affected_sop_class_uid == IAN and data_set is not None
        self.infos.append(association)
        elements = {one.tag: one.value for one in read_dataset(data_set, transfer_syntax)}
        assert elements[0x00081111] == []
        objects = []
        for series in elements[0x00081115]:  # type: ignore[union-attr]
            inside = {one.tag: one.value for one in series}  # type: ignore[union-attr]
            for item in inside[0x00081199]:  # type: ignore[union-attr]
                values = {one.tag: _text(one.value) for one in item}  # type: ignore[union-attr]
                tags = (0x00081155, 0x00081150, 0x00080056, 0x00080054)
                objects.append((_text(inside[0x0020000E]), *(values[tag] for tag in tags)))
        self.told.append((_text(elements[0x0020000D]), objects))
        return NAnswer(self.status)


def _text(value: Any) -> str:
    return bytes(value).decode().rstrip(" \0")


async def test_a_study_that_rests_is_told_whole_and_once(telling: Telling) -> None:
    ris = Ris()
    async with receiving(ris) as server:
        await telling.door.archive.send(*images(1, study=9))  # before anybody listened
        await telling.listener("RIS", server.port)
        await telling.door.archive.send(*STUDY[:2])
        await telling.pass_time(40)
        await telling.door.archive.send(*STUDY[2:], *images(1, study=1, first_series=5, sop_class=SR))
        await telling.pass_time(40)
        assert ris.told == [], "something came to it 40 seconds ago"
        assert await telling.states() == {("RIS", "1.5.1"): NoticeState.WAITING}
        await telling.pass_time(21)
        [(study, objects)] = ris.told
        assert study == "1.5.1"
        assert objects == [
            *((one.series, one.sop, CT, "ONLINE", "ISOCENTER") for one in STUDY),
            ("1.5.1.5", "1.5.1.5.1", SR, "ONLINE", "ISOCENTER"),
        ]
        assert await telling.states() == {("RIS", "1.5.1"): NoticeState.TOLD}
        for _ in range(3):
            await telling.pass_time(100)
        assert len(ris.told) == 1
        # The same object again is nothing new; another one is.
        await telling.door.archive.send(STUDY[0])
        await telling.pass_time(100)
        assert len(ris.told) == 1
        await telling.door.archive.send(*images(1, study=1, first_series=6))
        await telling.pass_time(100)
        assert len(ris.told) == 2 and len(ris.told[1][1]) == 6
    [info, _] = ris.infos
    assert (info.calling_ae_title, info.called_ae_title) == ("ISOCENTER", "RIS")
    await telling.door.trail.settled()
    rows = await telling.door.archive.rows(
        "SELECT subject_kind, resource_id, details FROM audit_event WHERE subject_id = 'availability'"
    )
    assert tuple(rows[0].values()) == (
        "service",
        "1.5.1",
        '{"objects":5,"part":"availability","told":"RIS"}',
    )


async def test_each_listener_in_its_own_time_and_only_of_its_own_organisation(telling: Telling) -> None:
    other = await telling.door.archive.add_organization("x")
    soon, late, theirs, never = Ris(), Ris(), Ris(), Ris()
    async with (
        receiving(soon) as one,
        receiving(late) as two,
        receiving(theirs) as three,
        receiving(never) as four,
    ):
        await telling.listener("SOON", one.port, 10)
        await telling.listener("LATE", two.port, 1000)
        await telling.listener("THEIRS", three.port, 10, to=other)
        await telling.listener("NEVER", four.port, None)
        await telling.door.archive.send(*STUDY)
        await telling.door.archive.send(*images(1, study=4), to=other)
        await telling.pass_time(11)
        assert [study for study, _ in soon.told] == ["1.5.1"]
        assert [study for study, _ in theirs.told] == ["1.5.4"]
        assert late.told == []
        await telling.pass_time(1000)
        assert [study for study, _ in late.told] == ["1.5.1"]
    assert never.told == []
    assert await telling.states(other) == {("THEIRS", "1.5.4"): NoticeState.TOLD}


async def test_who_cannot_be_told_is_told_later(telling: Telling) -> None:
    (port,) = free_ports(1)
    await telling.listener("RIS", port, 10)
    await telling.door.archive.send(*STUDY)
    await telling.pass_time(11)
    for attempts in range(1, 4):
        [notice] = await telling.notifier.notices.find(ORGANIZATION)
        assert (notice.state, notice.attempts) == (NoticeState.WAITING, attempts)
        assert "no connection" in notice.last_error
        assert notice.due_at_us == telling.notifier.notices._now_us() + 2**attempts * 1_000_000
        await telling.pass_time(2**attempts - 1)
        assert (await telling.notifier.notices.find(ORGANIZATION))[0].attempts == attempts
        await telling.pass_time(1)
    ris = Ris()
    ris.status = 0x0110
    async with receiving(ris) as server:
        await telling.door.destination("RIS", server.port, availability_after_s=10)
        await telling.pass_time(16)
        [notice] = await telling.notifier.notices.find(ORGANIZATION)
        assert notice.attempts == 5 and "0110H" in notice.last_error
        ris.status = 0
        await telling.pass_time(32)
        assert await telling.states() == {("RIS", "1.5.1"): NoticeState.TOLD}
    assert len(ris.told) == 2


async def test_enough_is_enough(telling: Telling) -> None:
    (port,) = free_ports(1)
    await telling.listener("RIS", port, 10)
    await telling.door.archive.send(*STUDY)
    await telling.pass_time(11)
    await telling.door.archive.execute(
        "UPDATE availability_notice SET attempts = :most", most=ATTEMPTS_MAX - 1
    )
    await telling.pass_time(3600)
    assert await telling.states() == {("RIS", "1.5.1"): NoticeState.GIVEN_UP}
    await telling.door.archive.send(*images(1, first_series=7))
    await telling.pass_time(1)
    assert await telling.states() == {("RIS", "1.5.1"): NoticeState.WAITING}


async def test_what_was_deleted_meanwhile_or_is_wanted_no_more_is_not_told(telling: Telling) -> None:
    ris = Ris()
    async with receiving(ris) as server:
        await telling.listener("RIS", server.port, 10)
        await telling.door.archive.send(*STUDY, *images(1, study=2))
        await telling.notifier.turn()
        await Deletions(telling.door.archive.database, telling.clock).delete(ORGANIZATION, Scope("1.5.1"))
        await telling.pass_time(11)
        assert [study for study, _ in ris.told] == ["1.5.2"]
        await telling.door.archive.send(*images(1, study=3))
        await telling.notifier.turn()
        await telling.door.destination("RIS", server.port)
        await telling.pass_time(11)
    assert await telling.states() == {
        ("RIS", "1.5.1"): NoticeState.GONE,
        ("RIS", "1.5.2"): NoticeState.TOLD,
        ("RIS", "1.5.3"): NoticeState.GIVEN_UP,
    }
    assert len(ris.told) == 1


async def test_what_comes_while_it_is_told_is_told_again(telling: Telling) -> None:
    ris = Ris()
    creating = ris.n_create

    async def while_more_comes(*arguments: Any) -> NAnswer:
        if not ris.told:
            await telling.door.archive.send(*images(1, first_series=7))
            await telling.notifier._follow((await telling.notifier._listeners())[0])
        return await creating(*arguments)

    ris.n_create = while_more_comes  # type: ignore[method-assign]
    async with receiving(ris) as server:
        await telling.listener("RIS", server.port, 10)
        await telling.door.archive.send(*STUDY)
        await telling.pass_time(11)
        assert await telling.states() == {("RIS", "1.5.1"): NoticeState.WAITING}
        await telling.pass_time(11)
        assert [len(objects) for _, objects in ris.told] == [4, 5]
        assert await telling.states() == {("RIS", "1.5.1"): NoticeState.TOLD}


async def test_two_processes_tell_once_and_what_one_left_the_other_tells(telling: Telling) -> None:
    ris = Ris()
    other = availability_notifier(
        telling.door.archive.database, telling.clock, telling.door.outgoing, telling.door.trail
    )
    async with receiving(ris) as server:
        await telling.listener("RIS", server.port, 10)
        for number in range(10):
            await telling.door.archive.send(*images(1, study=number))
        await telling.notifier.turn()
        telling.clock.advance(11)
        await asyncio.gather(telling.notifier.turn(), other.turn())
        assert sorted(study for study, _ in ris.told) == [f"1.5.{number}" for number in range(10)]
        await telling.door.archive.send(*images(1, study=77))
        await telling.notifier.turn()
        telling.clock.advance(11)
        assert len(await other.notices.claim_due()) == 1  # and it dies
        await telling.pass_time(1)
        assert len(ris.told) == 10
        await telling.pass_time(timedelta(minutes=3).total_seconds())
        assert len(ris.told) == 11


async def test_the_worker_goes_on_whatever_happens(tmp_path: Path) -> None:
    async with telling_of("", tmp_path) as telling:
        ris = Ris()
        async with receiving(ris) as server:
            await telling.door.destination("RIS", server.port, availability_after_s=1)
            await telling.notifier.turn()
            await telling.door.archive.send(*STUDY)
            await telling.door.archive.execute("ALTER TABLE change_feed RENAME TO away")
            telling.notifier._poll_s = 0.01
            telling.notifier.start()
            await telling.door.archive.execute("ALTER TABLE away RENAME TO change_feed")
            telling.clock.advance(10)
            async with asyncio.timeout(30):
                while not ris.told:
                    await telling.door.archive.one("SELECT 1")
            await telling.notifier.stop()
