"""What was deleted is not to be found, can be restored while its grace lasts, and is then gone for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from isocenter.features.archive.changes import read_changes
from isocenter.features.archive.deletion.deleting import GRACE_DAYS, Scope
from isocenter.features.archive.deletion.deletions import Deletions, Waiting
from isocenter.features.archive.deletion.restoring import Restored, Restoring
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.features.archive.quota import QuotaReached
from isocenter.features.archive.usage import find_usage
from isocenter.kit.clock import DAY_US, ManualClock
from isocenter.kit.errors import Conflict, InvalidInput, NotFound
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

IMAGE = Image()
OTHER = IMAGE.but(sop="1.2.3.1.1.2", pixels=b"\5\6\7\7")
SECOND_SERIES = IMAGE.but(series="1.2.3.1.2", sop="1.2.3.1.2.1", modality="SR")
SECOND_STUDY = IMAGE.but(study="1.2.3.2", series="1.2.3.2.1", sop="1.2.3.2.1.1")
SAID = {"by": "alice", "reason": "the wrong patient"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgresql"])
async def archive(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[TestArchive]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with opened(url, tmp_path, clock=clock) as one:
            yield one
            assert await broken_promises(one) == []
            report = await one.check.run(ORGANIZATION)
            assert not report.sick, report


@pytest.fixture
def deletions(archive: TestArchive, clock: ManualClock) -> Deletions:
    return Deletions(archive.database, clock)


@pytest.fixture
def restoring(archive: TestArchive, clock: ManualClock) -> Restoring:
    return Restoring(archive.database, archive.ingest, clock)


async def index_of(archive: TestArchive) -> list[dict[str, Any]]:
    """All that the index says, but for its own keys and times."""
    return await archive.rows("""
        SELECT patient.patient_id, patient.fragments AS p, study.study_instance_uid, study.fragments AS s,
            study.series_count, study.instance_count, series.series_instance_uid, series.fragments AS e,
            instance.sop_instance_uid, instance.fragments AS i, instance.object_key, instance.size,
            instance.sha256, instance.version, instance.current, instance.door, instance.peer,
            instance.received_at_us, instance.duplicate_count, instance.received_sha256,
            instance.received_transfer_syntax_uid, instance.pixel_offset, instance.pixel_length
        FROM instance JOIN series ON series.id = instance.series_pk JOIN study ON study.id = series.study_pk
        JOIN patient ON patient.id = study.patient_pk
        ORDER BY sop_instance_uid, version
    """)


async def usage_of(archive: TestArchive) -> tuple[int, int]:
    usage = await archive.database.read(find_usage, ORGANIZATION)
    return usage.objects, usage.bytes


async def test_a_study_waits_and_comes_back_as_it_was(
    archive: TestArchive, deletions: Deletions, restoring: Restoring, clock: ManualClock
) -> None:
    await archive.send(IMAGE, OTHER, SECOND_SERIES, SECOND_STUDY)
    await archive.send(IMAGE)  # counted as a duplicate
    before, kept = await index_of(archive), await usage_of(archive)
    clock.advance(3600)
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    assert deleted.instances == 3
    assert [row["sop_instance_uid"] for row in await index_of(archive)] == [SECOND_STUDY.sop]
    assert await usage_of(archive) == kept, "until it is purged"
    assert await deletions.waiting(ORGANIZATION) == Waiting(1, 3, kept[1] - len(SECOND_STUDY.file))
    [waiting] = await deletions.list(ORGANIZATION)
    assert (waiting.id, waiting.state, waiting.objects) == (deleted.deletion, "waiting", 3)
    assert (waiting.deleted_by, waiting.reason) == ("alice", "the wrong patient")
    assert waiting.purge_at_us - waiting.deleted_at_us == GRACE_DAYS * DAY_US
    assert waiting.known["00100020"] == {"vr": "LO", "Value": ["P1"]}
    assert waiting.known["00080020"] == {"vr": "DA", "Value": ["20260101"]}
    assert await restoring.restore(ORGANIZATION, deleted.deletion, by="bob") == Restored(3, complete=True)
    assert await index_of(archive) == before
    assert await usage_of(archive) == kept
    settled = await deletions.get(ORGANIZATION, deleted.deletion)
    assert (settled.state, settled.settled_by, settled.known, settled.objects) == ("restored", "bob", {}, 0)
    assert await archive.rows("SELECT * FROM deleted_object") == []


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        (Scope(IMAGE.study, IMAGE.series), [SECOND_SERIES.sop]),
        (Scope(IMAGE.study, IMAGE.series, IMAGE.sop), [OTHER.sop, SECOND_SERIES.sop]),
    ],
)
async def test_so_do_a_series_and_an_instance(
    archive: TestArchive, deletions: Deletions, restoring: Restoring, scope: Scope, left: list[str]
) -> None:
    await archive.send(IMAGE, OTHER, SECOND_SERIES)
    before = await index_of(archive)
    deleted = await deletions.delete(ORGANIZATION, scope, **SAID)
    assert [row["sop_instance_uid"] for row in await index_of(archive)] == left
    found = await deletions.get(ORGANIZATION, deleted.deletion)
    told = (found.study_instance_uid, found.series_instance_uid, found.sop_instance_uid)
    assert told == (scope.study, scope.series, scope.instance)
    assert (await restoring.restore(ORGANIZATION, deleted.deletion)).complete
    assert await index_of(archive) == before


async def test_a_patient_goes_with_all_studies_and_with_whom_was_merged_into_it(
    archive: TestArchive, deletions: Deletions, restoring: Restoring, clock: ManualClock
) -> None:
    theirs = Image(study="1.9", series="1.9.1", sop="1.9.1.1", patient_id="P2", name="ROE^RICHARD")
    old = Image(study="1.8", series="1.8.1", sop="1.8.1.1", patient_id="OLD")
    await archive.send(IMAGE, SECOND_STUDY, theirs, old)
    merges = PatientMerges(archive.database, clock)
    await merges.merge(ORGANIZATION, PatientIdentity("OLD"), PatientIdentity("P1"))
    before = await index_of(archive)
    with pytest.raises(Conflict, match="merged"):
        await deletions.delete_patient(ORGANIZATION, PatientIdentity("OLD"), **SAID)
    deleted = await deletions.delete_patient(ORGANIZATION, PatientIdentity("P1"), **SAID)
    assert deleted.instances == 3
    assert [row["patient_id"] for row in await index_of(archive)] == ["P2"]
    [waiting] = await deletions.list(ORGANIZATION)
    assert waiting.study_instance_uid == "" and "00080020" not in waiting.known
    feed = await read_changes(archive.database, ORGANIZATION)
    gone = [change for change in feed if change.kind == "deleted"]
    assert {change.study_instance_uid for change in gone} == {IMAGE.study, SECOND_STUDY.study, old.study}
    assert all(change.detail["deletion"] == deleted.deletion for change in gone)
    assert (await restoring.restore(ORGANIZATION, deleted.deletion)).complete
    assert await index_of(archive) == before
    with pytest.raises(NotFound):
        await deletions.delete_patient(ORGANIZATION, PatientIdentity("nobody"), **SAID)


async def test_versions_come_back_in_their_order(
    archive: TestArchive, deletions: Deletions, restoring: Restoring
) -> None:
    await archive.policies.change(ORGANIZATION, conflict="keep-both")
    for pixels in (b"\1\1", b"\2\2", b"\3\3"):
        await archive.send(IMAGE.but(pixels=pixels))
    await archive.policies.change(ORGANIZATION, conflict="reject")
    before = await index_of(archive)
    assert [row["current"] for row in before] == [0, 0, 1]
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    assert deleted.instances == 1
    assert await restoring.restore(ORGANIZATION, deleted.deletion) == Restored(3, complete=True)
    assert await index_of(archive) == before


@pytest.mark.parametrize("policy", list(ConflictPolicy))
async def test_what_was_sent_again_meanwhile_is_never_overwritten(
    archive: TestArchive, deletions: Deletions, restoring: Restoring, policy: ConflictPolicy
) -> None:
    await archive.send(IMAGE, OTHER)
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    await archive.policies.change(ORGANIZATION, conflict=policy)
    changed = IMAGE.but(pixels=b"\7\7\7\7")
    await archive.send(changed, OTHER)
    sent = await index_of(archive)
    restored = await restoring.restore(ORGANIZATION, deleted.deletion)
    assert (restored.objects, restored.complete) == (1, False)
    [waiting] = restored.waiting
    assert (waiting.sop_instance_uid, waiting.reason) == (IMAGE.sop, "in-the-way")
    now = await index_of(archive)
    assert [row["sha256"] for row in now] == [row["sha256"] for row in sent]
    assert (await deletions.get(ORGANIZATION, deleted.deletion)).objects == 1
    await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)  # out of the way
    assert (await restoring.restore(ORGANIZATION, deleted.deletion)).complete
    [row] = await index_of(archive)
    assert row["sha256"] == IMAGE.sha256


async def test_a_study_that_is_another_patient_s_now_is_left_alone(
    archive: TestArchive, deletions: Deletions, restoring: Restoring
) -> None:
    await archive.send(IMAGE)
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    await archive.send(OTHER.but(patient_id="P2"))
    restored = await restoring.restore(ORGANIZATION, deleted.deletion)
    assert [one.reason for one in restored.waiting] == ["refused"]
    assert [row["patient_id"] for row in await index_of(archive)] == ["P2"]
    assert await archive.quarantine.count(ORGANIZATION) == 0


async def test_lost_and_damaged_objects_are_named_and_the_others_restored(
    archive: TestArchive, deletions: Deletions, restoring: Restoring, tmp_path: Path
) -> None:
    third = IMAGE.but(sop="1.2.3.1.1.3", pixels=b"\3\3\3\3")
    await archive.send(IMAGE, OTHER, third)
    keys = {row["sop_instance_uid"]: row["object_key"] for row in await index_of(archive)}
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    await archive.store.delete(keys[IMAGE.sop])
    damaged = tmp_path / "objects" / keys[OTHER.sop]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    report = await archive.check.run(ORGANIZATION)
    assert report.missing == [f"deleted {IMAGE.sop}"] and report.damaged == [f"deleted {OTHER.sop}"]
    restored = await restoring.restore(ORGANIZATION, deleted.deletion)
    assert restored.objects == 1
    assert {one.sop_instance_uid: one.reason for one in restored.waiting} == {
        IMAGE.sop: "lost",
        OTHER.sop: "lost",
    }
    await deletions.purge(ORGANIZATION, deleted.deletion)


async def test_purging_is_for_good_and_gives_room(
    archive: TestArchive, deletions: Deletions, restoring: Restoring, clock: ManualClock
) -> None:
    await archive.send(IMAGE, SECOND_STUDY)
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    clock.advance(7 * 86_400)
    everything = timedelta(days=-3650)
    assert (await archive.sweep(everything).run()).removed == 0, "it waits"
    purged = await deletions.purge(ORGANIZATION, deleted.deletion, by="carol")
    assert (purged.state, purged.settled_by, purged.known) == ("purged", "carol", {})
    assert await usage_of(archive) == (1, len(SECOND_STUDY.file))
    for again in (
        deletions.purge(ORGANIZATION, deleted.deletion),
        restoring.restore(ORGANIZATION, deleted.deletion),
    ):
        with pytest.raises(Conflict, match="purged"):
            await again
    assert (await archive.sweep(everything).run()).removed == 1
    assert [row["sop_instance_uid"] for row in await index_of(archive)] == [SECOND_STUDY.sop]


async def test_what_is_due_is_purged_and_nothing_else(
    archive: TestArchive, deletions: Deletions, clock: ManualClock
) -> None:
    await archive.send(IMAGE, SECOND_STUDY)
    first = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    clock.advance(86_400)
    await deletions.delete(ORGANIZATION, Scope(SECOND_STUDY.study), **SAID)
    clock.advance((GRACE_DAYS - 1) * 86_400 - 1)
    assert await deletions.purge_due(ORGANIZATION) == []
    clock.advance(1)
    assert [one.id for one in await deletions.purge_due(ORGANIZATION)] == [first.deletion]
    assert [one.study_instance_uid for one in await deletions.list(ORGANIZATION)] == [SECOND_STUDY.study]


async def test_an_organisation_decides_how_long(archive: TestArchive, deletions: Deletions) -> None:
    await archive.send(IMAGE, SECOND_STUDY)
    await archive.execute(
        "UPDATE organization SET settings = :settings",
        settings=orjson.dumps({"deletion_grace_days": 3}).decode(),
    )
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    waiting = await deletions.get(ORGANIZATION, deleted.deletion)
    assert waiting.purge_at_us - waiting.deleted_at_us == 3 * DAY_US
    await archive.execute("UPDATE organization SET settings = '{\"deletion_grace_days\": 0}'")
    deleted = await deletions.delete(ORGANIZATION, Scope(SECOND_STUDY.study), **SAID)
    assert deleted.deletion == ""
    assert len(await deletions.list(ORGANIZATION)) == 1
    assert await usage_of(archive) == (1, len(IMAGE.file))


async def test_what_is_sent_after_a_deletion_is_filed_anew_and_restoring_meets_it(
    archive: TestArchive, deletions: Deletions, restoring: Restoring
) -> None:
    await archive.send(IMAGE)
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    assert (await archive.send_one(IMAGE)).kind == "stored"
    assert await usage_of(archive) == (2, 2 * len(IMAGE.file))
    assert (await restoring.restore(ORGANIZATION, deleted.deletion)).complete
    assert await usage_of(archive) == (1, len(IMAGE.file))
    [row] = await index_of(archive)
    assert row["door"] == "stow", "as it was sent again"


async def test_a_full_quota_is_not_in_the_way_of_restoring(
    archive: TestArchive, deletions: Deletions, restoring: Restoring
) -> None:
    await archive.send(IMAGE)
    await archive.policies.change(ORGANIZATION, quota_bytes=len(IMAGE.file))
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    with pytest.raises(QuotaReached):
        await archive.send(SECOND_STUDY)
    assert (await restoring.restore(ORGANIZATION, deleted.deletion)).complete


async def test_nothing_is_anybody_else_s(
    archive: TestArchive, deletions: Deletions, restoring: Restoring
) -> None:
    theirs = await archive.add_organization("theirs")
    await archive.send(IMAGE)
    await archive.send(IMAGE, to=theirs)
    deleted = await deletions.delete(ORGANIZATION, Scope(IMAGE.study), **SAID)
    assert await deletions.list(theirs) == []
    for foreign in (
        deletions.get(theirs, deleted.deletion),
        deletions.purge(theirs, deleted.deletion),
        restoring.restore(theirs, deleted.deletion),
        deletions.list(theirs, after=deleted.deletion),
    ):
        with pytest.raises(NotFound):
            await foreign
    assert len(await index_of(archive)) == 1


async def test_pages(archive: TestArchive, deletions: Deletions) -> None:
    images = [Image(study=f"1.5.{n}", series=f"1.5.{n}.1", sop=f"1.5.{n}.1.1") for n in range(5)]
    await archive.send(*images)
    for image in images:
        await deletions.delete(ORGANIZATION, Scope(image.study), **SAID)
    first = await deletions.list(ORGANIZATION, limit=3)
    second = await deletions.list(ORGANIZATION, limit=3, after=first[-1].id)
    assert [one.study_instance_uid for one in first + second] == [image.study for image in images]


async def test_names_and_reasons_that_are_none(archive: TestArchive, deletions: Deletions) -> None:
    await archive.send(IMAGE)
    for scope in (Scope("1.9"), Scope(IMAGE.study, "1.9"), Scope(IMAGE.study, IMAGE.series, "1.9")):
        with pytest.raises(NotFound):
            await deletions.delete(ORGANIZATION, scope, **SAID)
    with pytest.raises(InvalidInput):
        await deletions.delete(ORGANIZATION, Scope(IMAGE.study), reason="x" * 1001)
    assert len(await index_of(archive)) == 1 and await deletions.list(ORGANIZATION) == []
