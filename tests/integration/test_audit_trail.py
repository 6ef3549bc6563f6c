"""The trail: kept at once and in order, on both databases; whatever is done to it afterwards is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.features.audit.chain import BEFORE_THE_FIRST, hash_of
from isocenter.features.audit.entries import Entry, Head
from isocenter.features.audit.reading import Filter, all_entries, find_entries, newest_entry
from isocenter.features.audit.trail import AuditTrail
from isocenter.features.audit.verifying import Damage, Verdict, verify
from isocenter.kit.clock import ManualClock, microseconds
from isocenter.kit.errors import Busy, Unavailable
from isocenter.platform.db import Database, DatabaseUnreachable, IntegrityViolation, open_database
from isocenter.platform.security import Action, EventOutcome
from services.archive import ORGANIZATION
from services.audit import disarm, event, execute
from services.schema import fresh_url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url, migrate=False)
    yield opened
    await opened.close()


@pytest.fixture
async def trail(database: Database) -> AsyncIterator[AuditTrail]:
    made = AuditTrail(database, ManualClock())
    yield made
    await made.close()


async def entries(database: Database, organization_id: int = ORGANIZATION) -> list[Entry]:
    return [entry async for entry in all_entries(database, organization_id, Filter())]


async def ten(trail: AuditTrail) -> None:
    for number in range(1, 11):
        trail.record(event(number))
    await trail.settled()


# --- recording


async def test_what_is_recorded_is_kept_in_order_with_the_time_of_the_recording(database: Database) -> None:
    clock = ManualClock()
    trail = AuditTrail(database, clock)
    start_us = microseconds(clock.now())
    for number in range(1, 6):
        trail.record(event(number, action=Action.SEARCH, outcome=EventOutcome.DENIED))
        clock.advance(1)
    await trail.settled()
    kept = await entries(database)
    assert [entry.sequence for entry in kept] == [1, 2, 3, 4, 5]
    assert [entry.at_us - start_us for entry in kept] == [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]
    assert [orjson.loads(entry.details) for entry in kept] == [{"number": number} for number in range(1, 6)]
    first = kept[0]
    assert (first.action, first.outcome) == ("search", "denied")
    assert (first.subject_kind, first.subject_id) == ("user", "7")
    assert (first.subject_name, first.address) == ("Dr. Grey", "192.0.2.7")
    assert (first.resource_kind, first.resource_id, first.trace_id) == ("study", "1.2.3.1", f"{1:032x}")
    assert first.previous_hash == BEFORE_THE_FIRST.hash
    assert [entry.previous_hash for entry in kept[1:]] == [entry.hash for entry in kept[:-1]]
    assert await newest_entry(database, ORGANIZATION) == Head(5, kept[-1].hash)
    assert (await verify(database, ORGANIZATION)).intact
    await trail.close()


async def test_without_anybody_waiting_it_is_written_soon(database: Database, monkeypatch: Any) -> None:
    trail = AuditTrail(database, ManualClock())
    written = asyncio.Event()
    write = database.write

    async def told(*args: Any) -> None:
        await write(*args)
        written.set()

    monkeypatch.setattr(database, "write", told)
    trail.record(event(1))
    await asyncio.wait_for(written.wait(), 20)
    assert len(await entries(database)) == 1
    await trail.close()


async def test_many_share_a_transaction(trail: AuditTrail, database: Database, monkeypatch: Any) -> None:
    writes = 0
    write = database.write

    async def counted(*args: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(*args)

    monkeypatch.setattr(database, "write", counted)
    for number in range(900):
        trail.record(event(number))
    await trail.settled()
    assert writes == 1
    assert len(await entries(database)) == 900


async def test_closing_writes_everything_and_takes_nothing_more(database: Database) -> None:
    trail = AuditTrail(database, ManualClock(), linger_s=1000, per_commit_max=7)
    for number in range(20):
        trail.record(event(number))
    await trail.close()
    assert len(await entries(database)) == 20
    with pytest.raises(Unavailable):
        trail.record(event(1))


async def test_several_processes_make_one_chain(url: str, database: Database) -> None:
    others = [await open_database(url, migrate=False) for _ in range(3)]
    trails = [AuditTrail(one, ManualClock(), linger_s=0, per_commit_max=5) for one in (database, *others)]
    for number in range(40):
        for trail in trails:
            trail.record(event(number))
    await asyncio.gather(*(trail.close() for trail in trails))
    for other in others:
        await other.close()
    verdict = await verify(database, ORGANIZATION, page=7)
    assert verdict == Verdict(160, verdict.head, None)


async def test_organisations_have_a_chain_each(trail: AuditTrail, database: Database) -> None:
    await execute(
        database, "INSERT INTO organization (id, slug, created_at_us) VALUES (:id, 'other', 0)", id=2
    )
    for number in range(1, 7):
        trail.record(event(number, 1 + number % 2))
    trail.record(event(7, 99))  # an organisation that does not exist takes no other's entries with it
    await trail.settled()
    for organization_id in (1, 2):
        kept = await entries(database, organization_id)
        assert [entry.sequence for entry in kept] == [1, 2, 3]
        assert {entry.organization_id for entry in kept} == {organization_id}
        assert (await verify(database, organization_id)).intact


async def test_hostile_text_is_kept_as_far_as_it_can_be(trail: AuditTrail, database: Database) -> None:
    nasty = "\0 \ud800 'x'; DROP TABLE audit_event; -- \N{SNOWMAN} " + "x" * 5000
    details = {f"key {number} \0\udfff": nasty for number in range(500)}
    texts = dict.fromkeys(("subject_name", "resource_id", "address", "trace_id"), nasty)
    odd = {"huge": 10**30, "none": None, "yes": True, "half": 0.5, "not": float("nan")}
    trail.record(event(1, **texts, details=details))
    trail.record(event(2, details=odd))
    await trail.settled()
    first, second = await entries(database)
    assert len(first.subject_name) == 1024 and "\N{SNOWMAN}" in first.subject_name
    assert len(orjson.loads(first.details)) == 65 and len(first.details) < 200_000
    assert orjson.loads(second.details) == odd | {"huge": str(10**30), "not": None}
    assert (await verify(database, ORGANIZATION)).intact


# --- when the database is away


class Away:
    """A database that can be taken away. ``answer_lost``: the next write commits and then fails."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.away = False
        self.answer_lost = False
        self.tried = asyncio.Event()

    async def write(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        if self.away:
            self.tried.set()
            raise DatabaseUnreachable("gone")
        result = await self._inner.write(work, *args, **kwargs)
        if self.answer_lost:
            self.answer_lost = False
            raise DatabaseUnreachable("gone after the commit")
        return result


async def test_an_outage_keeps_order_and_loses_nothing(database: Database) -> None:
    away = Away(database)
    trail = AuditTrail(away, ManualClock(), linger_s=0, waiting_max=10, settle_s=0.01)  # type: ignore[arg-type]
    away.away = True
    for number in range(1, 11):
        trail.record(event(number))
    with pytest.raises(Busy) as refused:
        trail.record(event(11))
    assert refused.value.code == "audit-behind"
    await away.tried.wait()
    with pytest.raises(Unavailable):
        await trail.settled()
    away.away = False
    await trail.close()
    assert [orjson.loads(entry.details)["number"] for entry in await entries(database)] == list(range(1, 11))


async def test_a_commit_whose_answer_was_lost_is_not_repeated(database: Database) -> None:
    away = Away(database)
    trail = AuditTrail(away, ManualClock())  # type: ignore[arg-type]
    away.answer_lost = True
    await ten(trail)
    await trail.close()
    assert (await verify(database, ORGANIZATION)).entries == 10


async def test_closing_without_a_database_ends_and_says_so(database: Database, capsys: Any) -> None:
    away = Away(database)
    away.away = True
    trail = AuditTrail(away, ManualClock(), close_s=0.01)  # type: ignore[arg-type]
    trail.record(event(1))
    await trail.close()
    assert "lost" in capsys.readouterr().out


# --- append-only


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_event SET details = '{}'", "DELETE FROM audit_event WHERE sequence = 3"]
)
async def test_the_database_refuses_changes(trail: AuditTrail, database: Database, statement: str) -> None:
    await ten(trail)
    with pytest.raises(IntegrityViolation):
        await execute(database, statement)
    assert (await verify(database, ORGANIZATION)).entries == 10


async def test_postgresql_refuses_to_truncate(trail: AuditTrail, database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    await ten(trail)
    with pytest.raises(IntegrityViolation):
        await execute(database, "TRUNCATE audit_event")


# --- tampering


async def renumber(database: Database, first: int, by: int) -> None:
    """Move the entries from ``first`` on; one at a time, or their numbers would collide on the way."""
    kept = [entry.sequence for entry in await entries(database) if entry.sequence >= first]
    for sequence in sorted(kept, reverse=by > 0):
        await place(database, sequence, sequence + by)


async def place(database: Database, sequence: int, to: int) -> None:
    await execute(
        database, "UPDATE audit_event SET sequence = :to WHERE sequence = :sequence", to=to, sequence=sequence
    )


async def insert(database: Database, entry: Entry) -> None:
    columns = asdict(entry)
    names, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    await execute(database, f"INSERT INTO audit_event ({names}) VALUES ({values})", **columns)


async def rewrite(database: Database, sequence: int, **changes: Any) -> None:
    """A forger who knows how entries are hashed."""
    entry = next(entry for entry in await entries(database) if entry.sequence == sequence)
    forged = replace(entry, **changes)
    forged = replace(forged, hash=hash_of(forged))
    await execute(
        database,
        "UPDATE audit_event SET details = :details, previous_hash = :previous_hash, hash = :hash "
        "WHERE sequence = :sequence",
        details=forged.details,
        previous_hash=forged.previous_hash,
        hash=forged.hash,
        sequence=sequence,
    )


async def change(database: Database) -> None:
    await execute(database, "UPDATE audit_event SET subject_name = 'Nobody' WHERE sequence = 5")


async def change_the_time(database: Database) -> None:
    await execute(database, "UPDATE audit_event SET at_us = at_us + 1 WHERE sequence = 5")


async def shift_text_between_fields(database: Database) -> None:
    await execute(
        database,
        "UPDATE audit_event SET resource_kind = 'stud', resource_id = 'y1.2.3.5' WHERE sequence = 5",
    )


async def change_and_hash_anew(database: Database) -> None:
    await rewrite(database, 5, details="{}")


async def change_and_link_anew(database: Database) -> None:
    """Would do if an entry's hash did not hold its predecessor's."""
    await rewrite(database, 5, details="{}")
    forged = (await entries(database))[4]
    await execute(
        database, "UPDATE audit_event SET previous_hash = :hash WHERE sequence = 6", hash=forged.hash
    )


async def delete(database: Database) -> None:
    await execute(database, "DELETE FROM audit_event WHERE sequence = 5")


async def delete_and_renumber(database: Database) -> None:
    await delete(database)
    await renumber(database, 6, -1)


async def delete_the_first(database: Database) -> None:
    await execute(database, "DELETE FROM audit_event WHERE sequence = 1")


async def insert_between(database: Database) -> None:
    kept = await entries(database)
    await renumber(database, 5, 1)
    forged = replace(kept[4], details='{"number":0}', previous_hash=kept[3].hash)
    await insert(database, replace(forged, hash=hash_of(forged)))


async def insert_at_the_end(database: Database) -> None:
    last = (await entries(database))[-1]
    forged = replace(last, sequence=11, previous_hash=last.hash)
    await insert(database, replace(forged, hash=hash_of(forged)))


async def swap(database: Database) -> None:
    await place(database, 5, 99)
    await place(database, 8, 5)
    await place(database, 99, 8)


async def truncate(database: Database) -> None:
    await execute(database, "DELETE FROM audit_event WHERE sequence > 7")


async def truncate_everything(database: Database) -> None:
    await execute(database, "DELETE FROM audit_event")


async def take_the_head(database: Database) -> None:
    await execute(database, "DELETE FROM audit_head")


@pytest.mark.parametrize(
    ("tamper", "damage", "sequence"),
    [
        (change, Damage.CHANGED, 5),
        (change_the_time, Damage.CHANGED, 5),
        (shift_text_between_fields, Damage.CHANGED, 5),
        (change_and_hash_anew, Damage.CHANGED, 5),
        (change_and_link_anew, Damage.CHANGED, 6),
        (delete, Damage.REMOVED, 5),
        (delete_and_renumber, Damage.REMOVED, 5),
        (delete_the_first, Damage.REMOVED, 1),
        (insert_between, Damage.INSERTED, 5),
        (insert_at_the_end, Damage.INSERTED, 11),
        (swap, Damage.REORDERED, 5),
        (truncate, Damage.TRUNCATED, 8),
        (truncate_everything, Damage.TRUNCATED, 1),
        (take_the_head, Damage.TRUNCATED, 11),
    ],
)
@pytest.mark.parametrize("page", [3, 1000])
async def test_tampering_is_named(
    trail: AuditTrail, database: Database, tamper: Any, damage: Damage, sequence: int, page: int
) -> None:
    await ten(trail)
    await disarm(database)
    await tamper(database)
    verdict = await verify(database, ORGANIZATION, page=page)
    assert verdict.broken is not None
    assert (verdict.broken.damage, verdict.broken.sequence) == (damage, sequence), verdict.broken.detail
    trail.record(event(11))  # recording goes on, and does not cover the traces
    await trail.settled()
    after = await verify(database, ORGANIZATION, page=page)
    assert after.broken is not None
    if tamper in {take_the_head, insert_at_the_end}:
        assert after.broken.sequence == sequence - (tamper is take_the_head)
    else:
        assert after.broken.sequence == sequence


async def test_a_chain_rewritten_as_a_whole_betrays_itself_by_what_was_noted(
    trail: AuditTrail, database: Database
) -> None:
    await ten(trail)
    noted = await newest_entry(database, ORGANIZATION)
    assert (await verify(database, ORGANIZATION, expected=noted)).intact
    await disarm(database)
    last = Head(0, BEFORE_THE_FIRST.hash)
    for entry in await entries(database):
        await rewrite(database, entry.sequence, details="{}", previous_hash=last.hash)
        last = Head(entry.sequence, (await entries(database))[entry.sequence - 1].hash)
    await execute(database, "UPDATE audit_head SET hash = :hash", hash=last.hash)
    assert (await verify(database, ORGANIZATION)).intact  # nothing inside the database tells
    broken = (await verify(database, ORGANIZATION, expected=noted)).broken
    assert broken is not None and broken.damage is Damage.CHANGED


async def test_an_end_cut_off_together_with_the_head_betrays_itself_too(
    trail: AuditTrail, database: Database
) -> None:
    await ten(trail)
    noted = await newest_entry(database, ORGANIZATION)
    await disarm(database)
    await truncate(database)
    kept = await entries(database)
    await execute(database, "UPDATE audit_head SET sequence = 7, hash = :hash", hash=kept[-1].hash)
    assert (await verify(database, ORGANIZATION)).intact
    broken = (await verify(database, ORGANIZATION, expected=noted)).broken
    assert broken is not None and (broken.damage, broken.sequence) == (Damage.TRUNCATED, 8)


# --- searching


async def test_finding(trail: AuditTrail, database: Database) -> None:
    clock_us = int(ManualClock().now().timestamp() * 1_000_000)
    trail.record(event(1, action=Action.LOGIN, outcome=EventOutcome.DENIED, subject_name="Ms 100%_Sure"))
    trail.record(event(2, action=Action.SEARCH, details={"PatientName": "DOE*"}))
    trail.record(event(3, resource_kind="ae-title", resource_id="CT1"))
    await trail.settled()

    async def numbers(**wanted: Any) -> list[int]:
        found = await find_entries(database, ORGANIZATION, Filter(**wanted), limit=10)
        return [entry.sequence for entry in found]

    assert await numbers() == [3, 2, 1]
    assert await numbers(action=Action.LOGIN) == [1]
    assert await numbers(outcome=EventOutcome.SUCCESS) == [3, 2]
    assert await numbers(subject="7") == [3, 2, 1]
    assert await numbers(subject="Ms 100%_Sure") == [1]
    assert await numbers(resource_kind="ae-title") == await numbers(resource="CT1") == [3]
    assert await numbers(text="doe*") == [2]
    assert await numbers(text="0%_s") == [1]
    assert await numbers(text="%") == [1]
    assert await numbers(from_us=clock_us, to_us=clock_us) == []
    assert await numbers(from_us=clock_us, to_us=clock_us + 1, before=3) == [2, 1]
    assert await numbers(after=1) == [3, 2]
