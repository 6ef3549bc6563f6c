"""dciodvfy finds nothing in what we write that it does not find in what we were given."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest
import pytest_asyncio

from isocenter.dicom.json_model import text_fragment
from isocenter.dicom.validation import Strictness
from isocenter.features.archive.images import open_images
from isocenter.features.archive.judging import Declared
from isocenter.features.archive.presented import find_instances
from isocenter.features.archive.recompressing import Recompression
from isocenter.features.archive.retrieve import StoredInstance
from isocenter.features.archive.spare_time import SpareTime
from isocenter.imaging.errors import PixelDataBroken, PixelDataUnsupported
from isocenter.kit.errors import IsocenterError
from isocenter.platform.workers.pool import WorkerPool
from services.archive import ORGANIZATION, TestArchive, opened
from services.dciodvfy import CannotRead, Dciodvfy, find_dciodvfy
from services.dcmtk import Dcmtk
from services.dicom_files import pydicom_files, shared_files
from services.dicomweb import http_server
from services.schema import fresh_url
from services.scp import scp_door
from services.stow import JSON, XML, passed_on
from services.transcoding import content_of, instance_of, read, transcoding

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

J = "1.2.840.10008.1.2.4."
IMPLICIT = "1.2.840.10008.1.2"
TARGETS = (
    *(IMPLICIT, f"{IMPLICIT}.1", f"{IMPLICIT}.1.98", f"{IMPLICIT}.1.99", f"{IMPLICIT}.2", f"{IMPLICIT}.5"),
    *(J + end for end in ["50", "51", "57", "70", "80", "81", "90", "91", "110", "201", "202", "203"]),
    f"{IMPLICIT}.8.1",
)
LARGE_BYTES = 128 << 10
SETTINGS = {"strictness": Strictness.LENIENT, "accept_unknown_sop_classes": True}
LOSSY_METHODS = {
    J + "50": "ISO_10918_1",
    J + "51": "ISO_10918_1",
    J + "81": "ISO_14495_1",
    J + "91": "ISO_15444_1",
    J + "203": "ISO_15444_15",
}
# What it dies of: 32 bits allocated in OW, as PS3.5 A.2 has them; what it cannot tell in Implicit VR: US from
# SS where float pixels leave no Pixel Representation.
ITS_FAILINGS = ("Assertion `bitsallocated <= bytesinword", "Missing Pixel Representation, can't set VR")


def real_files() -> list[Path]:
    """One of each series that is in many files."""
    by_name = {path.name: path for path in (*shared_files(), *pydicom_files())}
    small = [path for _, path in sorted(by_name.items()) if path.stat().st_size < LARGE_BYTES]
    numbered = [path for path in small if re.match(r"\d{4}-", path.name)]
    return [path for path in small if path not in numbered[1:]]


@pytest.fixture
def dciodvfy(tmp_path: Path) -> Dciodvfy:
    return find_dciodvfy(tmp_path)


@pytest_asyncio.fixture
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestArchive]:
    with fresh_url(request, "sqlite", tmp_path) as url:
        async with opened(url, tmp_path, **SETTINGS) as made:
            yield made


class Judge:
    """Compares, and gathers what is new and what of ours could not be read. What is so broken that the source
    cannot be read is let pass."""

    def __init__(self, dciodvfy: Dciodvfy) -> None:
        self._dciodvfy = dciodvfy
        self.new: list[tuple[str, ...]] = []
        self.unread: list[tuple[str, str]] = []
        self.compared = 0

    def compare(self, name: str, source: bytes, given: bytes) -> None:
        try:
            before = self._dciodvfy.findings(source)
        except CannotRead:
            return
        syntax = str(read(given).file_meta.TransferSyntaxUID)
        try:
            after = self._dciodvfy.findings(given)
        except CannotRead as error:
            if not any(failing in str(error) for failing in ITS_FAILINGS):
                self.unread.append((name, syntax))
            return
        self.compared += 1
        self.new += [(name, syntax, line) for line in after - before if not excused(line, given, syntax)]


def excused(line: str, given: bytes, syntax: str) -> bool:
    """What it says wrongly."""
    if "<ISO_15444_15>" in line:  # PS3.3 C.7.6.1.1.5.1; it is older than HTJ2K
        return syntax == J + "203"
    if "method inconsistent with Transfer Syntax" in line:
        # The earlier of two lossy steps stays told (PS3.3 C.7.6.1.1.5): the last is this transfer syntax's.
        methods = read(given).LossyImageCompressionMethod
        return not isinstance(methods, str) and methods[-1] == LOSSY_METHODS.get(syntax)
    # A comma in a name: delimiters at its end, which say nothing (PS3.5 §6.2.1.1) and XML cannot tell, had
    # kept it quiet; and in Implicit VR it has to guess which private elements are names.
    return line.endswith("Retired Person Name form")


@pytest.fixture
def judge(dciodvfy: Dciodvfy) -> Iterator[Judge]:
    made = Judge(dciodvfy)
    yield made
    assert made.new == []
    assert made.unread == []


async def filed(
    archive: TestArchive, *, c_store: bool = False
) -> AsyncIterator[tuple[str, bytes, StoredInstance]]:
    """Each real file that is taken, alone in the archive; ``c_store``: without its file header."""
    for path in real_files():
        file = path.read_bytes()
        meta = read(file).file_meta
        if not {"TransferSyntaxUID", "MediaStorageSOPClassUID"} <= set(meta.dir()):
            continue
        if c_store:
            syntax = meta.TransferSyntaxUID
            declared = Declared(meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, syntax)
            received = await archive.receive(file[header_size(file) :], declared)
            [outcome] = await archive.ingest.commit(ORGANIZATION, [received])
        else:
            outcome = await archive.send_one(file)
        if outcome.kind.accepted:
            yield path.name, file, await instance_of(archive, file)
        for table in ("instance", "series", "study", "quarantine"):
            await archive.execute(f"DELETE FROM {table}")


async def test_in_each_transfer_syntax(archive: TestArchive, judge: Judge) -> None:
    """Each file in a third of them, which third in turn: they are many files, and each is a process."""
    count = itertools.count()
    async with transcoding(archive) as transcoder:
        async for name, file, instance in filed(archive):
            for target in TARGETS[next(count) % 3 :: 3]:
                with suppress(PixelDataBroken, PixelDataUnsupported):
                    judge.compare(name, file, await content_of(await transcoder.given(instance, target)))
    assert judge.compared > 300


async def test_compressed_where_it_is_stored(archive: TestArchive, judge: Judge) -> None:
    images = open_images(archive.store, workers=WorkerPool(2))
    verifying = images.verifying(archive.store)
    async for name, file, _ in filed(archive):
        recompression = Recompression(
            archive.database, archive.store, archive.ingest, verifying, archive.clock
        )
        if (await recompression.run(SpareTime())).compressed:
            instance = await instance_of(archive, file)
            judge.compare(name, file, await archive.store.get(instance.object_key))
    await images.close()
    assert judge.compared > 10


async def test_with_another_patient_than_they_came_with(archive: TestArchive, judge: Judge) -> None:
    """A name that few character sets have, so that texts change theirs; the ID is one's own."""
    store = archive.leaving
    name_line = text_fragment(0x00100010, "PN", ["ROE^JANE=\N{CJK UNIFIED IDEOGRAPH-5F20}"])
    async for name, file, stored in filed(archive):
        await archive.execute("UPDATE patient SET corrected = 1, fragments = :line", line=name_line)
        uids = (stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid)
        [instance] = await find_instances(archive.database, store, ORGANIZATION, *uids)
        assert instance.object_key != stored.object_key
        judge.compare(name, file, await store.get(instance.object_key))
    assert judge.compared > 40


async def test_taken_and_given_over_dimse(judge: Judge, dcmtk: Dcmtk, tmp_path: Path) -> None:
    """The file header is ours then; DCMTK writes one of its own around what C-GET brings."""
    async with scp_door(tmp_path, **SETTINGS) as door:
        async for name, file, instance in filed(door.archive, c_store=True):
            judge.compare(name, file, await door.archive.store.get(instance.object_key))
            folder = tmp_path / name
            folder.mkdir()
            options = ("-S", "+B", "-od", folder.as_posix(), "-k", "QueryRetrieveLevel=IMAGE")
            done = await door.run(
                dcmtk, "getscu", *options, "-k", f"SOPInstanceUID={instance.sop_instance_uid}"
            )
            for got in folder.iterdir():
                judge.compare(name, file, got.read_bytes())
            assert done.returncode == 0 or not list(folder.iterdir()), done.stdout
    assert judge.compared > 100


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_stored_as_metadata_and_bulk_data(judge: Judge, tmp_path: Path, kind: str) -> None:
    async with (
        http_server(tmp_path / "one", **SETTINGS) as source,
        http_server(tmp_path / "two", **SETTINGS) as target,
    ):
        async for name, file, instance in filed(source.archive):
            uids = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
            path = "/studies/{}/series/{}/instances/{}".format(*uids)
            response = await passed_on(source, path, kind, target)
            assert response.status_code in {200, 202}, (name, response.text)
            stored = await target.get(path, Accept="application/dicom; transfer-syntax=*")
            assert stored.status_code == 200, stored.text
            judge.compare(name, file, stored.content)
            await target.client.delete(target.dicomweb + path)
    assert judge.compared > 50


async def test_corrected_in_quarantine(archive: TestArchive, judge: Judge) -> None:
    await archive.policies.change(ORGANIZATION, strictness=Strictness.STANDARD)
    for path in real_files():
        before, without = read(path.read_bytes()), read(path.read_bytes())
        if "TransferSyntaxUID" not in before.file_meta or not before.get("Modality"):
            continue
        del without.Modality
        try:
            whole, broken = saved(before), saved(without)
        except Exception:  # pydicom cannot write all of its own broken files
            continue
        await archive.send_one(broken)
        for entry in await archive.quarantine.list(ORGANIZATION):
            with suppress(IsocenterError):
                outcome = await archive.quarantine.accept(
                    ORGANIZATION, entry.id, {"Modality": before.Modality}
                )
                instance = await instance_of(archive, whole)
                judge.compare(path.name, whole, await archive.store.get(instance.object_key))
                assert outcome.kind.accepted
        for table in ("instance", "series", "study", "quarantine"):
            await archive.execute(f"DELETE FROM {table}")
    assert judge.compared > 30


def header_size(file: bytes) -> int:
    """By File Meta Information Group Length, which comes first (PS3.10 §7.1)."""
    return 144 + int.from_bytes(file[140:144], "little")


def saved(made: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    made.save_as(buffer)
    return buffer.getvalue()


def test_what_is_new_is_found(dciodvfy: Dciodvfy) -> None:
    """A fault of each kind, planted in an object as given."""
    path = next(path for path in pydicom_files() if path.name == "CT_small.dcm")
    source = path.read_bytes()
    for spoil in (
        lambda made: delattr(made, "Rows"),
        lambda made: setattr(made, "Modality", "XX"),
        lambda made: setattr(made, "NumberOfFrames", 1),
    ):
        made = read(source)
        spoil(made)
        judge = Judge(dciodvfy)
        judge.compare(path.name, source, saved(made))
        assert judge.new
