"""One door into the archive: whatever brings an object, in whatever form, the same file lies in the store."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames

from isocenter.dicom.validation import Problem
from isocenter.features.archive.entry import Declared, Entry, OutcomeKind, Source, Suspect
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.kit.errors import NotFound, OutOfSpace, TooLarge
from services.archive import (
    CT,
    EXPLICIT,
    ORGANIZATION,
    SOURCE,
    Image,
    TestArchive,
    broken_promises,
    element,
    fill,
    opened,
    part10,
)
from services.schema import fresh_url

STORED, DUPLICATE, QUARANTINED = OutcomeKind.STORED, OutcomeKind.DUPLICATE, OutcomeKind.QUARANTINED
IMAGE = Image()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    async with opened(url, tmp_path) as made:
        yield made
        assert await broken_promises(made) == []
        assert list(made.spool.folder.iterdir()) == []
        assert made.spool.budget.used_bytes == 0


async def stored_row(archive: TestArchive, sop: str = IMAGE.sop) -> dict[str, object]:
    [row] = await archive.rows(
        "SELECT * FROM instance WHERE sop_instance_uid = :sop AND current = 1", sop=sop
    )
    return row


async def stored_file(archive: TestArchive, sop: str = IMAGE.sop) -> bytes:
    row = await stored_row(archive, sop)
    return await archive.store.get(str(row["object_key"]))


# --- the forms in which an object comes ---------------------------------------------------------------------


async def test_a_file_is_stored_as_it_is(archive: TestArchive):
    outcome = await archive.send_one(IMAGE)
    assert (outcome.kind, outcome.sop_instance_uid, outcome.problems) == (STORED, IMAGE.sop, ())
    assert await stored_file(archive) == IMAGE.file
    row = await stored_row(archive)
    assert row["sha256"] == IMAGE.sha256
    assert row["header_size"] == len(IMAGE.file) - len(IMAGE.data_set)
    assert (row["door"], row["peer"], row["transfer_syntax_uid"]) == ("stow", "tester", EXPLICIT)


async def test_a_c_store_gets_a_header_and_keeps_its_data_set(archive: TestArchive):
    assert (await archive.c_store(IMAGE)).kind is STORED
    content = await stored_file(archive)
    assert content.endswith(IMAGE.data_set)
    read = pydicom.dcmread(io.BytesIO(content))
    assert read.file_meta.MediaStorageSOPInstanceUID == IMAGE.sop
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.file_meta.SourceApplicationEntityTitle == "SCANNER"
    assert read == pydicom.dcmread(io.BytesIO(IMAGE.file))


@pytest.mark.parametrize("form", ["bare", "no preamble", "bare and large", "no preamble and large"])
async def test_what_comes_without_a_header_gets_one(archive: TestArchive, form: str):
    large = "large" in form
    image = IMAGE.but(pixels=os.urandom(9 << 20)) if large else IMAGE
    content = image.data_set if form.startswith("bare") else image.file[132:]
    assert (await archive.send_one(content)).kind is STORED
    stored = await stored_file(archive)
    assert stored.endswith(image.data_set)
    assert pydicom.dcmread(io.BytesIO(stored)) == pydicom.dcmread(io.BytesIO(image.file))
    row = await stored_row(archive)
    assert len(stored) == row["size"] == int(str(row["header_size"])) + len(image.data_set)
    start, length = int(str(row["pixel_offset"])), int(str(row["pixel_length"]))
    assert stored[start : start + length] == image.pixels


async def test_the_same_image_by_every_door_is_one_object(archive: TestArchive):
    assert (await archive.send_one(IMAGE)).kind is STORED
    assert (await archive.send_one(IMAGE)).kind is DUPLICATE
    assert (await archive.c_store(IMAGE)).kind is DUPLICATE
    assert (await archive.send_one(IMAGE.data_set)).kind is DUPLICATE
    assert (await archive.send_one(IMAGE.file[132:])).kind is DUPLICATE
    row = await stored_row(archive)
    assert row["duplicate_count"] == 4
    report = await archive.sweep().run()
    assert report.removed == 2  # a C-STORE and a bare data set get headers of their own
    assert await stored_file(archive) == IMAGE.file


async def test_pieces_of_any_size_make_the_same_object(archive: TestArchive):
    image = IMAGE.but(pixels=os.urandom(5000))
    for piece_bytes in (1, 7, 4096, 1 << 20):
        received = await archive.receive(image.data_set, image.declared, piece_bytes=piece_bytes)
        assert isinstance(received, Entry)
        assert received.stored.sha256 == image.sha256
        await archive.ingest.commit(ORGANIZATION, [received])
    assert (await stored_row(archive))["duplicate_count"] == 3


async def test_a_large_object_goes_through_a_file(archive: TestArchive):
    image = IMAGE.but(pixels=os.urandom(20 << 20))
    assert (await archive.send_one(image)).kind is STORED
    assert (await archive.c_store(image)).kind is DUPLICATE
    assert hashlib.sha256(await stored_file(archive)).digest() == hashlib.sha256(image.file).digest()


async def test_when_memory_is_used_up_objects_go_through_files(url: str, tmp_path: Path):
    async with opened(url, tmp_path, memory_budget_bytes=300_000) as archive:
        holder = archive.ingest.receive(ORGANIZATION, SOURCE)
        holder.write(b"held")
        peak = 0
        for number in range(5):
            image = IMAGE.but(sop=f"1.2.3.1.1.{number + 1}", pixels=os.urandom(200_000))
            for content, declared in ((image.file, None), (image.data_set, image.declared)):
                reception = archive.ingest.receive(ORGANIZATION, SOURCE, declared)
                received = await fill(reception, content, 10_000)
                peak = max(peak, archive.spool.budget.used_bytes)
                [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
                assert outcome.kind is (STORED if declared is None else DUPLICATE)
            assert (await stored_file(archive, image.sop)) == image.file
        assert peak <= 300_000
        await holder.abort()
        assert archive.spool.budget.used_bytes == 0
        assert await broken_promises(archive) == []


async def test_an_object_over_the_limit_is_refused(url: str, tmp_path: Path):
    async with opened(url, tmp_path, object_bytes_max=1000) as archive:
        with pytest.raises(TooLarge):
            await archive.send_one(IMAGE.but(pixels=bytes(1000)))
        assert await archive.keys() == set()
        assert archive.spool.budget.used_bytes == 0


async def test_a_nearly_full_disk_refuses_before_anything_is_stored(url: str, tmp_path: Path):
    async with opened(url, tmp_path, min_free_bytes=1 << 62) as archive:
        with pytest.raises(OutOfSpace):
            await archive.send_one(IMAGE)
        assert await archive.keys() == set()


async def test_a_sender_that_goes_away_leaves_nothing(archive: TestArchive):
    for content in (IMAGE.file, bytes(20 << 20)):
        reception = archive.ingest.receive(ORGANIZATION, SOURCE)
        waiting = reception.write(content)
        if waiting is not None:
            await waiting
        await reception.abort()
    assert await archive.keys() == set()


async def test_an_organisation_that_is_not_there_is_refused(archive: TestArchive):
    with pytest.raises(NotFound):
        await fill(archive.ingest.receive(7, SOURCE), IMAGE.file)
    assert await archive.keys() == set()


# --- real files ---------------------------------------------------------------------------------------------

REASONS = {"missing", "invalid-uid", "truncated", "not-dicom"}
"""What some of these files deserve: several of them are broken on purpose."""


async def test_real_files_are_stored_as_they_are_or_quarantined_with_a_reason(
    url: str, tmp_path: Path, dicom_test_files: list[Path]
):
    stored = 0
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        for path in dicom_test_files:
            content = path.read_bytes()
            received = await archive.receive(content, source=Source("import", path.name))
            [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
            if outcome.kind is QUARANTINED:
                assert {problem.code for problem in outcome.problems} <= REASONS, path
                assert all(problem.detail and problem.remedy for problem in outcome.problems), path
                assert deserves_quarantine(content, outcome.problems), (path, outcome.problems)
                continue
            assert outcome.kind in {STORED, DUPLICATE, OutcomeKind.REPLACED}, path
            stored += 1
            assert_same_object(await stored_file(archive, outcome.sop_instance_uid), content, path)
        assert stored > 50  # of pydicom's own files alone
        assert await broken_promises(archive) == []


def deserves_quarantine(content: bytes, problems: Sequence[Problem]) -> bool:
    """pydicom, which reads nearly everything, agrees that something is wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for problem in problems:
            if problem.code == "missing":
                dataset = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=True)
                if dataset.get(problem.tag) and dataset[problem.tag].value:
                    return False
            if problem.code == "not-dicom":
                dataset = pydicom.dcmread(io.BytesIO(content), force=True)
                if "SOPInstanceUID" in dataset:
                    return False
    return True


def assert_same_object(stored: bytes, sent: bytes, path: Path) -> None:
    if stored == sent:
        return
    assert stored.endswith(sent.removeprefix(bytes(128) + b"DICM")) or stored.endswith(sent), path
    assert stored[128:132] == b"DICM", path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(io.BytesIO(sent), force=True)
        assert pydicom.dcmread(io.BytesIO(stored)) == theirs, path


async def test_real_files_come_the_same_by_c_store(url: str, tmp_path: Path, pydicom_test_files: list[Path]):
    """A sender strips the header and says the rest in its request; what is filed is the same data set."""
    count = 0
    async with opened(url, tmp_path, conflict=ConflictPolicy.REPLACE) as archive:
        for path in pydicom_test_files:
            content = path.read_bytes()
            received = await archive.receive(content)
            if isinstance(received, Suspect) or content[128:132] != b"DICM":
                continue
            await archive.ingest.commit(ORGANIZATION, [received])
            syntax = received.stored.transfer_syntax_uid
            declared = Declared(received.sop_class_uid, received.sop_instance_uid, syntax)
            again = await archive.receive(content[received.stored.header_size :], declared)
            [second] = await archive.ingest.commit(ORGANIZATION, [again])
            assert second.kind is DUPLICATE, path
            assert again.stored.transfer_syntax_uid == syntax
            count += 1
    assert count > 50


# --- encodings ----------------------------------------------------------------------------------------------


async def test_a_deflated_object_is_read_and_kept_deflated(archive: TestArchive):
    deflater = zlib.compressobj(wbits=-15)
    deflated = deflater.compress(IMAGE.data_set) + deflater.flush()
    deflated += b"\0" * (len(deflated) % 2)
    syntax = "1.2.840.10008.1.2.1.99"
    outcome = await archive.send_one(part10(deflated, IMAGE.sop, syntax=syntax))
    assert outcome.kind is STORED
    received = await archive.receive(deflated, Declared(CT, IMAGE.sop, syntax))
    [again] = await archive.ingest.commit(ORGANIZATION, [received])
    assert again.kind is DUPLICATE
    row = await stored_row(archive)
    assert (row["pixel_offset"], row["transfer_syntax_uid"]) == (None, syntax)
    assert pydicom.dcmread(io.BytesIO(await stored_file(archive))).PixelData == IMAGE.pixels
    assert await archive.one("SELECT name_key FROM patient") == "doe^jane"


async def test_a_deflate_bomb_ends_in_quarantine_within_its_memory(archive: TestArchive):
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = deflater.compress(element(0x00080005, "UT", bytes(64 << 20))) + deflater.flush()
    outcome = await archive.send_one(part10(bomb, syntax="1.2.840.10008.1.2.1.99"))
    assert outcome.kind is QUARANTINED


async def test_every_encoding_of_one_object_is_filed_alike(archive: TestArchive):
    dataset = pydicom.dcmread(io.BytesIO(IMAGE.file))
    dataset.PatientName = "Müller^Jürgen"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for number, (implicit, little, syntax) in enumerate(
        [
            (True, True, pydicom.uid.ImplicitVRLittleEndian),
            (False, True, pydicom.uid.ExplicitVRLittleEndian),
            (False, False, pydicom.uid.ExplicitVRBigEndian),
        ]
    ):
        dataset.SOPInstanceUID = f"1.2.3.7.{number + 1}"
        dataset.file_meta.TransferSyntaxUID = syntax
        content = io.BytesIO()
        pydicom.dcmwrite(content, dataset, implicit_vr=implicit, little_endian=little)
        assert (await archive.send_one(content.getvalue())).kind is STORED
        row = await stored_row(archive, dataset.SOPInstanceUID)
        assert (row["instance_number"], row["transfer_syntax_uid"]) == (1, syntax)
    [patient] = await archive.rows("SELECT name_key, birth_date FROM patient")
    assert patient == {"name_key": "muller^jurgen", "birth_date": "19700101"}
    assert await archive.one("SELECT count(*) FROM patient_conflict") == 0


async def test_recorded_frames_are_where_pydicom_finds_them(
    archive: TestArchive, dicom_test_files: list[Path]
):
    checked = recorded = 0
    for path in dicom_test_files:
        received = await archive.receive(path.read_bytes())
        if isinstance(received, Suspect) or received.pixel_offset is None:
            continue
        content = await archive.store.get(received.stored.key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        if dataset.file_meta.TransferSyntaxUID.type != "Transfer Syntax":
            continue
        name = next(name for name in PIXEL_KEYWORDS if name in dataset)
        pixels = content[received.pixel_offset : received.pixel_offset + (received.pixel_length or 0)]
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            assert pixels == dataset[name].value, path
            assert received.frame_offsets == "", path
            continue
        assert dataset.PixelData.startswith(pixels), path
        assert dataset.PixelData[len(pixels) :] in {b"", b"\xfe\xff\xdd\xe0\0\0\0\0"}, path
        checked += 1
        frames_count = int(dataset.get("NumberOfFrames", 1) or 1)
        theirs = list(generate_frames(dataset.PixelData, number_of_frames=frames_count))
        if received.frame_offsets:
            recorded += 1
            starts = [int(number) for number in received.frame_offsets.split()]
            assert frames(pixels, starts) == theirs, path
        else:
            assert frames_count > 1, path
    assert checked > 20
    assert recorded > 20


PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def frames(pixels: bytes, starts: list[int]) -> list[bytes]:
    """The frames' fragments joined, as whoever serves frames reads them: items from one start to the next."""
    found = []
    for start, stop in zip(starts, [*starts[1:], len(pixels)], strict=True):
        frame, position = b"", start
        while position + 8 <= stop and pixels[position : position + 4] == b"\xfe\xff\x00\xe0":
            length = int.from_bytes(pixels[position + 4 : position + 8], "little")
            frame += pixels[position + 8 : position + 8 + length]
            position += 8 + length
        found.append(frame)
    return found
