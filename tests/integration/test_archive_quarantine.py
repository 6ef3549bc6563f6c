"""What validation refused waits for a person, who looks at it, corrects and accepts, or discards (A5)."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest

from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.policies import BatchPolicy, ConflictPolicy
from isocenter.features.archive.quarantine import Quarantined, StillRefused
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict, InvalidInput, NotFound, Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.memory import MemoryStore
from services.archive import EXPLICIT, ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind
BAD = Image(modality=None)
NOWHERE = "7" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []
        assert made.spool.budget.used_bytes == 0


async def quarantined(archive: TestArchive, image: Image | bytes = BAD) -> Quarantined:
    assert (await archive.send_one(image)).kind is KIND.QUARANTINED
    return (await archive.quarantine.list(ORGANIZATION))[-1]


async def content(archive: TestArchive, entry: Quarantined) -> bytes:
    return b"".join([piece async for piece in await archive.quarantine.content(ORGANIZATION, entry.id)])


# --- looking --------------------------------------------------------------------------------------------


async def test_an_entry_shows_what_is_wrong_and_what_could_be_read(archive: TestArchive):
    entry = await quarantined(archive)
    assert (entry.state, entry.times_seen, entry.door, entry.peer) == ("waiting", 1, "stow", "tester")
    assert entry.transfer_syntax_uid == EXPLICIT
    [problem] = entry.problems
    assert (problem["code"], problem["tag"]) == ("missing", "00080060")
    assert problem["remedy"]
    assert entry.known["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]}
    assert entry.known["00080018"]["Value"] == [BAD.sop]
    assert await content(archive, entry) == BAD.file
    assert await archive.quarantine.get(ORGANIZATION, entry.id) == entry


async def test_the_same_object_again_is_the_same_entry(archive: TestArchive):
    await quarantined(archive)
    entry = await quarantined(archive)
    assert entry.times_seen == 2
    assert await archive.quarantine.count(ORGANIZATION) == 1


async def test_entries_come_page_by_page(archive: TestArchive):
    await archive.send(*(BAD.but(sop=f"1.2.{n}") for n in range(7)))
    first = await archive.quarantine.list(ORGANIZATION, limit=4)
    rest = await archive.quarantine.list(ORGANIZATION, after=first[-1].id, limit=4)
    sops = [entry.known["00080018"]["Value"][0] for entry in first + rest]
    assert sops == [f"1.2.{n}" for n in range(7)]
    assert await archive.quarantine.list(ORGANIZATION, state="discarded") == []


async def test_a_bare_data_set_can_be_looked_at_as_a_file(archive: TestArchive):
    received = await archive.receive(BAD.data_set, BAD.declared)
    await archive.ingest.commit(ORGANIZATION, [received])
    [entry] = await archive.quarantine.list(ORGANIZATION)
    assert pydicom.dcmread(io.BytesIO(await content(archive, entry))).PatientName == "DOE^JANE"


async def test_what_is_not_there_is_not_found(archive: TestArchive):
    for call in (
        archive.quarantine.get(ORGANIZATION, NOWHERE),
        archive.quarantine.content(ORGANIZATION, NOWHERE),
        archive.quarantine.accept(ORGANIZATION, NOWHERE),
        archive.quarantine.discard(ORGANIZATION, NOWHERE),
    ):
        with pytest.raises(NotFound):
            await call
    entry = await quarantined(archive)
    with pytest.raises(NotFound):
        await archive.quarantine.get(2, entry.id)  # another organisation's eyes


# --- accepting ------------------------------------------------------------------------------------------


async def test_accepting_files_the_very_object(archive: TestArchive):
    entry = await quarantined(archive)
    outcome = await archive.quarantine.accept(ORGANIZATION, entry.id)
    assert (outcome.kind, outcome.sop_instance_uid) == (KIND.STORED, BAD.sop)
    [row] = await archive.rows("SELECT object_key, door, peer FROM instance")
    assert row == {"object_key": entry.object_key, "door": "quarantine", "peer": "tester"}
    settled = await archive.quarantine.get(ORGANIZATION, entry.id)
    assert (settled.state, settled.settled_at_us is None) == ("accepted", False)
    assert await archive.quarantine.count(ORGANIZATION) == 0
    with pytest.raises(Conflict):
        await archive.quarantine.accept(ORGANIZATION, entry.id)
    with pytest.raises(Conflict):
        await archive.quarantine.discard(ORGANIZATION, entry.id)


async def test_an_object_accepted_once_is_a_duplicate_afterwards(archive: TestArchive):
    entry = await quarantined(archive)
    await archive.quarantine.accept(ORGANIZATION, entry.id)
    assert (await archive.send_one(BAD)).kind is KIND.DUPLICATE
    assert (await archive.c_store(BAD)).kind is KIND.DUPLICATE
    assert await archive.quarantine.count(ORGANIZATION) == 0
    # Announced as something else it is not what its sender believes to have stored.
    received = await archive.receive(BAD.data_set, BAD.but(sop="1.2.99").declared)
    [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
    assert outcome.kind is KIND.QUARANTINED


async def test_corrections_are_applied_and_everything_else_stays(archive: TestArchive):
    entry = await quarantined(archive, BAD.but(sop="1.2.bad", pixels=bytes(range(200))))
    corrections = {"Modality": "CT", "SOPInstanceUID": "1.2.840.7", "00081030": "Abdomen", "Rows": "3"}
    outcome = await archive.quarantine.accept(ORGANIZATION, entry.id, corrections)
    assert (outcome.kind, outcome.sop_instance_uid) == (KIND.STORED, "1.2.840.7")
    [row] = await archive.rows("SELECT object_key FROM instance")
    stored = pydicom.dcmread(io.BytesIO(await archive.store.get(row["object_key"])))
    assert stored.file_meta.MediaStorageSOPInstanceUID == "1.2.840.7"
    expected = pydicom.dcmread(io.BytesIO(BAD.but(pixels=bytes(range(200))).file))
    expected.Modality, expected.SOPInstanceUID, expected.StudyDescription = "CT", "1.2.840.7", "Abdomen"
    expected.Rows = 3
    assert stored == expected
    settled = await archive.quarantine.get(ORGANIZATION, entry.id)
    assert "Modality" in settled.settled_note
    assert (await archive.sweep().run()).removed == 1  # the uncorrected bytes


@pytest.mark.parametrize(
    ("corrections", "code"),
    [
        ({"NoSuchAttribute": "x"}, "unknown-attribute"),
        ({"Rows": "many"}, "correction-failed"),
        ({"Rows": "70000"}, "correction-failed"),
        ({"StudyInstanceUID": "not a uid"}, "correction-failed"),
        ({"PatientName": "Müller"}, "correction-failed"),
        ({"TransferSyntaxUID": "1.2.3"}, "correction-failed"),
        ({"PixelData": "x"}, "correction-failed"),
        ({"ReferencedStudySequence": "x"}, "correction-failed"),
        ({"StudyDate": "yesterday"}, "correction-failed"),
        ({"Modality": "x" * 100_000}, "correction-failed"),
    ],
)
async def test_corrections_that_cannot_be_are_refused_and_the_entry_waits(
    archive: TestArchive, corrections: dict[str, str], code: str
):
    entry = await quarantined(archive)
    with pytest.raises(InvalidInput) as refused:
        await archive.quarantine.accept(ORGANIZATION, entry.id, corrections)
    assert refused.value.code == code
    assert (await archive.quarantine.get(ORGANIZATION, entry.id)).state == "waiting"
    assert await archive.one("SELECT count(*) FROM instance") == 0


async def test_a_name_in_the_objects_own_character_set_is_kept(archive: TestArchive):
    entry = await quarantined(archive, BAD.but(more=((0x00080005, "CS", "ISO_IR 192"),)))
    await archive.quarantine.accept(ORGANIZATION, entry.id, {"PatientName": "Müller^Jürgen"})
    assert await archive.one("SELECT name_key FROM patient") == "muller^jurgen"


async def test_what_cannot_be_read_can_only_be_discarded(archive: TestArchive):
    entry = await quarantined(archive, b"no DICOM at all" * 100)
    with pytest.raises(StillRefused):
        await archive.quarantine.accept(ORGANIZATION, entry.id)
    with pytest.raises(InvalidInput):
        await archive.quarantine.accept(ORGANIZATION, entry.id, {"Modality": "CT"})
    await archive.quarantine.discard(ORGANIZATION, entry.id, "a text file")
    discarded = await archive.quarantine.get(ORGANIZATION, entry.id)
    assert (discarded.state, discarded.settled_note) == ("discarded", "a text file")


@pytest.mark.parametrize("batch", list(BatchPolicy))
async def test_another_patients_study_stays_refused_until_somebody_corrects_it(
    url: str, tmp_path: Path, batch: BatchPolicy
):
    async with opened(url, tmp_path, batch=batch) as archive:
        await archive.send_one(Image(sop="1.2.1"))
        received = await archive.receive(BAD.but(patient_id="P2").file)
        alone = replace(await archive.policies.of(ORGANIZATION), batch=BatchPolicy.ACCEPT_VALID)
        await archive.committer.submit(ORGANIZATION, [received], alone)
        [entry] = await archive.quarantine.list(ORGANIZATION)
        with pytest.raises(StillRefused) as refused:
            await archive.quarantine.accept(ORGANIZATION, entry.id, {"Modality": "CT"})
        assert [problem.code for problem in refused.value.outcome.problems] == ["study-of-another-patient"]
        assert await archive.quarantine.list(ORGANIZATION) == [entry], "no second entry, no trace"
        await archive.quarantine.accept(ORGANIZATION, entry.id, {"Modality": "CT", "PatientID": "P1"})
        assert await archive.one("SELECT instance_count FROM study") == 2
        assert await broken_promises(archive) == []


async def test_a_conflict_is_settled_by_the_policy(url: str, tmp_path: Path):
    async with opened(url, tmp_path, conflict=ConflictPolicy.REJECT) as archive:
        await archive.send_one(Image())
        entry = await quarantined(archive)
        with pytest.raises(StillRefused) as refused:
            await archive.quarantine.accept(ORGANIZATION, entry.id)
        assert refused.value.outcome.kind is KIND.REJECTED
        assert await archive.one("SELECT count(*) FROM change_feed WHERE kind = 'rejected'") == 0
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        assert (await archive.quarantine.accept(ORGANIZATION, entry.id)).kind is KIND.REPLACED
        assert await broken_promises(archive) == []


async def test_a_private_sop_class_is_accepted_by_a_persons_word(archive: TestArchive):
    entry = await quarantined(archive, Image(sop_class="1.2.3.4.5"))
    assert entry.problems[0]["code"] == "unknown-sop-class"
    assert (await archive.quarantine.accept(ORGANIZATION, entry.id)).kind is KIND.STORED
    assert await archive.one("SELECT sop_class_uid FROM instance") == "1.2.3.4.5"


async def test_when_the_store_fails_the_entry_waits(url: str, tmp_path: Path):
    store = FaultyStore(MemoryStore())
    async with opened(url, tmp_path, store=store) as archive:
        entry = await quarantined(archive)
        for operation in (Operation.GET, Operation.PUT):
            store.fail(operation, lambda: Unavailable("gone"))
            with pytest.raises(Unavailable):
                await archive.quarantine.accept(ORGANIZATION, entry.id)
        assert (await archive.quarantine.get(ORGANIZATION, entry.id)).state == "waiting"
        assert (await archive.quarantine.accept(ORGANIZATION, entry.id)).kind is KIND.STORED
        assert archive.spool.budget.used_bytes == 0


# --- discarding -----------------------------------------------------------------------------------------


async def test_a_discarded_object_goes_with_the_sweep_and_may_come_again(url: str, tmp_path: Path):
    clock = ManualClock()
    async with opened(url, tmp_path, store=MemoryStore(clock=clock), clock=clock) as archive:
        entry = await quarantined(archive)
        await archive.quarantine.discard(ORGANIZATION, entry.id)
        clock.advance(10)
        assert (await archive.sweep(timedelta(seconds=5)).run()).removed == 1
        clock.advance(10)
        again = await quarantined(archive)
        assert again.id != entry.id
        assert await content(archive, again) == BAD.file
        assert await broken_promises(archive) == []
