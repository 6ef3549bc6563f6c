"""Two organisations with the same Patient ID and UIDs: what one gets is decided without the other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from isocenter.dicom.levels import Level
from isocenter.features.archive import queries
from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.filing import stripes
from isocenter.features.archive.queries_usage import ADVANCE
from isocenter.features.archive.query import Query, Search
from isocenter.features.archive.retrieve import find_stored, stream_bytes
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import NotFound
from isocenter.platform.storage.interface import InMemory
from isocenter.platform.storage.memory import MemoryStore
from services.archive import broken_promises, delete_for_good
from services.schema import fresh_url
from services.two_organizations import (
    IMAGE,
    LEVELS,
    OURS,
    PATIENT_NAME,
    THEIR_IMAGE,
    TwoOrganizations,
    everything_seen,
    fill_both,
    two_organizations,
)

KIND = OutcomeKind
NAMES = {OURS: "DOE^JANE", "theirs": "ROE^RICHARD"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def two(url: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[TwoOrganizations]:
    async with two_organizations(url, tmp_path, clock=clock, store=MemoryStore(clock=clock)) as made:
        await fill_both(made)
        yield made
        assert await broken_promises_of_each(made) == []


async def broken_promises_of_each(two: TwoOrganizations) -> list[str]:
    """One current version of a UID is what each organisation has."""
    return [one for one in await broken_promises(two.archive) if not one.startswith("not one current")]


def name_of(two: TwoOrganizations, organization_id: int) -> str:
    return NAMES[OURS] if organization_id == OURS else NAMES["theirs"]


async def content(two: TwoOrganizations, organization_id: int) -> bytes:
    [found] = await find_stored(two.archive.database, organization_id, IMAGE.study)
    return b"".join([piece async for piece in stream_bytes(two.archive.store, found)])


# --- what is asked ---------------------------------------------------------------------------------------


async def test_each_finds_its_own_at_every_level(two: TwoOrganizations) -> None:
    for organization_id in two.both:
        for level in LEVELS:
            for matches in ({}, {0x00100020: "P1"}, {0x0020000D: IMAGE.study}, {PATIENT_NAME: "*"}):
                query = Query(level, matches, frozenset({PATIENT_NAME}))
                if level is Level.PATIENT and 0x0020000D in matches:
                    continue
                search = Search(two.archive.database, organization_id, query)
                by_page = (await search.page()).matches
                streamed = [match async for page in search.pages() for match in page]
                for found in (by_page, streamed):
                    assert len(found) == 1, (level, matches)
                    text = "\n".join(found[0].lines)
                    assert name_of(two, organization_id) in text
                    assert name_of(two, two.other(organization_id)) not in text


async def test_what_only_the_other_has_is_not_there(two: TwoOrganizations) -> None:
    await two.archive.send(THEIR_IMAGE.but(study="1.2.5", series="1.2.5.1", sop="1.2.5.1.1"), to=two.theirs)
    answers = []
    for study in ("1.2.5", "1.2.6"):  # the other's, and nobody's
        with pytest.raises(NotFound) as missing:
            await find_stored(two.archive.database, OURS, study)
        with pytest.raises(NotFound) as undeleted:
            await delete_for_good(two.archive.database, two.archive.clock, OURS, study)
        search = Search(two.archive.database, OURS, Query(Level.STUDY, {0x0020000D: study}, frozenset()))
        told = [(one.value.code, one.value.detail, one.value.remedy) for one in (missing, undeleted)]
        answers.append((told, (await search.page()).matches))
    assert answers[0] == answers[1]
    assert len(await find_stored(two.archive.database, two.theirs, "1.2.5")) == 1


async def test_each_gets_its_own_bytes_from_its_own_place(two: TwoOrganizations) -> None:
    assert await content(two, OURS) == IMAGE.file
    assert await content(two, two.theirs) == THEIR_IMAGE.file
    for organization_id in two.both:
        rows = await two.archive.rows(
            "SELECT object_key FROM instance WHERE organization_id = :id"
            " UNION SELECT object_key FROM quarantine WHERE organization_id = :id",
            id=organization_id,
        )
        assert len(rows) == 2
        assert all(row["object_key"].startswith(f"{organization_id}/") for row in rows)


# --- what is decided about an object ---------------------------------------------------------------------


async def test_the_same_uid_is_no_conflict_and_the_same_bytes_no_duplicate(two: TwoOrganizations) -> None:
    again = await two.archive.send_one(IMAGE, to=OURS)
    foreign = await two.archive.send_one(IMAGE, to=two.theirs)
    assert (again.kind, foreign.kind) == (KIND.DUPLICATE, KIND.REJECTED)
    fresh = IMAGE.but(sop="1.2.3.7")
    kinds = [(await two.archive.send_one(fresh, to=one)).kind for one in (OURS, two.theirs, OURS)]
    assert kinds == [KIND.STORED, KIND.STORED, KIND.DUPLICATE]


async def test_each_has_its_own_conflict_policy(two: TwoOrganizations) -> None:
    await two.archive.policies.of(
        OURS
    )  # known by now: a policy of one must not come from memory of the other
    await two.archive.policies.change(two.theirs, conflict="replace")
    other_pixels = b"\x21\x22\x23\x24"
    kinds = [
        (await two.archive.send_one(image.but(pixels=other_pixels), to=one)).kind
        for one, image in ((OURS, IMAGE), (two.theirs, THEIR_IMAGE))
    ]
    assert kinds == [KIND.REJECTED, KIND.REPLACED]
    assert await content(two, OURS) == IMAGE.file
    assert await content(two, two.theirs) == THEIR_IMAGE.but(pixels=other_pixels).file


async def test_a_patient_is_one_organisations(two: TwoOrganizations) -> None:
    """A study of another patient is so within an organisation; the other's patient has no say."""
    changed = IMAGE.but(patient_id="P2", name="POE^ANN", study="1.2.8", series="1.2.8.1", sop="1.2.8.1.1")
    assert (await two.archive.send_one(changed, to=OURS)).kind is KIND.STORED
    mine = changed.but(patient_id="P3", name="MOE^MAX")
    assert (await two.archive.send_one(mine, to=two.theirs)).kind is KIND.STORED
    assert (await two.archive.send_one(mine.but(sop="1.2.8.1.2"), to=OURS)).kind is KIND.QUARANTINED
    patients = await two.archive.rows(
        "SELECT organization_id, patient_id FROM patient ORDER BY organization_id, patient_id"
    )
    assert [tuple(row.values()) for row in patients] == [
        (OURS, "P1"),
        (OURS, "P2"),
        (two.theirs, "P1"),
        (two.theirs, "P3"),
    ]
    assert await two.archive.rows("SELECT * FROM patient_conflict") == []


# --- what is taken away ----------------------------------------------------------------------------------


async def test_deleting_and_sweeping_leaves_the_others(two: TwoOrganizations, clock: ManualClock) -> None:
    theirs_before = await everything_seen(two, two.theirs, two.archive.database)
    shared = IMAGE.but(study="1.2.9", series="1.2.9.1", sop="1.2.9.1.1")
    for organization_id in two.both:  # byte for byte the same: two objects all the same
        await two.archive.send(shared, to=organization_id)
    theirs_before += await everything_of(two, two.theirs, "1.2.9")
    for study in (IMAGE.study, shared.study):
        assert await delete_for_good(two.archive.database, two.archive.clock, OURS, study) == 1
    clock.advance(7200)
    report = await two.archive.sweep(timedelta(hours=1)).run()
    assert report.removed == 2
    assert await everything_of(two, two.theirs, "1.2.9") == theirs_before[-1:]
    assert await content(two, two.theirs) == THEIR_IMAGE.file
    keys = await two.archive.keys()
    assert sorted(key.split("/")[0] for key in keys) == ["1", "2", "2", "2"]  # ours: the quarantined one
    with pytest.raises(NotFound):
        await find_stored(two.archive.database, OURS, IMAGE.study)


async def everything_of(two: TwoOrganizations, organization_id: int, study: str) -> list[str]:
    return [one.object_key for one in await find_stored(two.archive.database, organization_id, study)]


async def test_a_sweeps_mark_is_one_organisations(two: TwoOrganizations) -> None:
    """The same bytes, of which one copy is just being swept: the other's sender is not told to come again."""
    image = IMAGE.but(sop="1.2.3.8", name=None)
    ours = await two.archive.receive(image.file, to=OURS)
    theirs = await two.archive.receive(image.file, to=two.theirs)
    now_us = two.archive.committer.now_us()
    await two.archive.execute(
        "INSERT INTO sweep_mark (organization_id, object_key, marked_at_us) VALUES (:id, :key, :at)",
        id=OURS,
        key=ours.stored.key,
        at=now_us + 1,
    )
    [outcome] = await two.archive.ingest.commit(two.theirs, [theirs])
    assert outcome.kind is KIND.STORED


async def test_a_sweep_goes_on_past_objects_of_an_organisation_that_is_not_there(
    two: TwoOrganizations, clock: ManualClock
) -> None:
    """As after restoring an older database: what cannot be attributed is nobody's to delete."""
    stranger = await two.archive.receive(IMAGE.but(sop="1.2.3.6").file, to=OURS)
    lost = stranger.stored.key.replace("1/", "77/", 1)
    await two.archive.store.put(lost, InMemory([b"whose?"]))
    clock.advance(7200)
    assert (await two.archive.sweep(timedelta(hours=1)).run()).removed == 1
    assert lost in await two.archive.keys()


# --- quarantine, changes, check --------------------------------------------------------------------------


async def test_each_has_its_own_quarantine(two: TwoOrganizations) -> None:
    quarantine = two.archive.quarantine
    entries = {one: (await quarantine.list(one))[0] for one in two.both}
    for organization_id in two.both:
        assert await quarantine.count(organization_id) == 1
        foreign, nobodys = entries[two.other(organization_id)].id, "9" * 32
        told = []
        for entry_id in (foreign, nobodys):
            for attempt in (
                quarantine.get(organization_id, entry_id),
                quarantine.content(organization_id, entry_id),
                quarantine.accept(organization_id, entry_id, {"Modality": "CT"}),
                quarantine.discard(organization_id, entry_id),
            ):
                with pytest.raises(NotFound) as refused:
                    await attempt
                told.append(refused.value.detail.replace(entry_id, "N"))
        assert told[:4] == told[4:]
    await quarantine.discard(OURS, entries[OURS].id)
    assert [await quarantine.count(one) for one in two.both] == [0, 1]
    accepted = await quarantine.accept(two.theirs, entries[two.theirs].id, {"Modality": "CT"})
    assert accepted.kind is KIND.STORED
    assert len(await find_stored(two.archive.database, two.theirs, IMAGE.study)) == 2
    assert len(await find_stored(two.archive.database, OURS, IMAGE.study)) == 1


async def test_an_entry_s_id_tells_nothing_of_anybody_s_entries(two: TwoOrganizations) -> None:
    bad = IMAGE.but(modality=None)
    for number in range(20):
        await two.archive.send(bad.but(sop=f"1.2.4.{number}"), to=two.both[number % 2])
    ids = {one: [entry.id for entry in await two.archive.quarantine.list(one)] for one in two.both}
    every = ids[OURS] + ids[two.theirs]
    assert len(set(every)) == 22 and all(re.fullmatch("[0-9a-f]{32}", one) for one in every)
    for found in ids.values():
        assert found != sorted(found), "the order is the one they came in, and no property of the ids"
    page = await two.archive.quarantine.list(OURS, after=ids[OURS][3], limit=2)
    assert [entry.id for entry in page] == ids[OURS][4:6]
    for foreign in (ids[two.theirs][0], "9" * 32):
        with pytest.raises(NotFound):
            await two.archive.quarantine.list(OURS, after=foreign)


async def test_numbers_of_changes_tell_nothing_of_others_activity(two: TwoOrganizations) -> None:
    """What one organisation does in between leaves no gap in the other's numbers."""
    for number in range(3):
        await two.archive.send_one(IMAGE.but(sop=f"1.2.4.{number}"), to=OURS)
        await two.archive.send(*(THEIR_IMAGE.but(sop=f"1.2.5.{number}.{n}") for n in range(5)), to=two.theirs)
    numbers = {one: [c.number for c in await read_changes(two.archive.database, one)] for one in two.both}
    assert numbers == {OURS: [1, 2, 3, 4, 5], two.theirs: list(range(1, 18))}
    await delete_for_good(two.archive.database, two.archive.clock, two.theirs, IMAGE.study)
    await delete_for_good(two.archive.database, two.archive.clock, OURS, IMAGE.study)
    assert [c.number for c in await read_changes(two.archive.database, OURS, after=5)] == [6]


async def test_each_reads_its_own_changes(two: TwoOrganizations) -> None:
    await delete_for_good(two.archive.database, two.archive.clock, two.theirs, IMAGE.study)
    kinds = {one: [c.kind for c in await read_changes(two.archive.database, one)] for one in two.both}
    assert kinds == {
        OURS: ["stored", "quarantined"],
        two.theirs: ["stored", "quarantined", "deleted"],
    }


async def test_the_storage_check_looks_at_one_and_mends_one(
    two: TwoOrganizations, clock: ManualClock
) -> None:
    archive = two.archive
    clock.advance(7200)
    orphan = await archive.receive(THEIR_IMAGE.but(sop="1.2.3.5").file, to=two.theirs)
    clock.advance(7200)
    [[key]] = [
        list(row.values())
        for row in await archive.rows(
            "SELECT object_key FROM instance WHERE organization_id = :id", id=two.theirs
        )
    ]
    await archive.store.delete(key)
    await archive.execute("UPDATE series SET instance_count = 9 WHERE organization_id = :id", id=two.theirs)
    ours = await archive.check.run(OURS, repair=True, adopt_orphans=True)
    assert ours.healthy and (ours.rows, ours.objects, ours.adopted, ours.repaired) == (2, 2, 0, [])
    theirs = await archive.check.run(two.theirs)
    assert (theirs.missing_count, theirs.orphan_count, theirs.wrong_counters) == (1, 1, 1)
    assert orphan.stored.key in await archive.keys()
    await archive.store.put(key, InMemory([THEIR_IMAGE.file]))
    await archive.check.run(two.theirs, repair=True)


# --- waiting for one another -----------------------------------------------------------------------------


async def test_no_organisation_waits_for_the_locks_of_another(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """One whose filing hangs in the middle holds up nobody else, whatever UIDs they share."""
    with fresh_url(request, "postgresql", tmp_path) as url:
        async with two_organizations(url, tmp_path) as two:
            await fill_both(two)
            holder = await asyncpg.connect(url)
            await holder.execute(f"SET isocenter.organization_id = '{OURS}'")
            begun = holder.transaction()
            await begun.start()
            for call in (
                queries.LOCK_OUT_SWEEP(organization_id=OURS),
                queries.LOCK_ENTITIES(stripes=stripes(OURS, {IMAGE.study}, {"P1"})),
                ADVANCE(organization_id=OURS, changes=0, objects=0, bytes=0),
            ):
                await holder.execute(call.sql.postgres, *call.sql.postgres_params(call.params))
            more = THEIR_IMAGE.but(sop="1.2.3.4")
            async with asyncio.timeout(20):
                assert (await two.archive.send_one(more, to=two.theirs)).kind is KIND.STORED
                await delete_for_good(two.archive.database, two.archive.clock, two.theirs, IMAGE.study)
            waiting = asyncio.create_task(two.archive.send_one(IMAGE.but(sop="1.2.3.4"), to=OURS))
            looks = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not waiting.done() and not await two.archive.one(looks):
                await asyncio.wait({waiting}, timeout=0.01)
            assert not waiting.done(), "our own sender takes its turn"
            await begun.rollback()
            await holder.close()
            assert (await waiting).kind is KIND.STORED
