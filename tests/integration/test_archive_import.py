"""A folder tree through the archive's door: everything is counted, nothing stops it but the archive."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import pydicom
import pydicom.data
import pytest

from isocenter.features.archive import importing
from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.importing import FolderImport, ImportReport, stopped_by
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import OutOfSpace, Unavailable
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.memory import MemoryStore
from services.archive import ORGANIZATION, Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"


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


def old_cd(root: Path) -> None:
    """Ten good objects, two bad ones, two directories of the medium, and what else lies on CDs."""
    images = root / "DICOM" / "ST1" / "SE1"
    images.mkdir(parents=True)
    for n in range(8):
        (images / f"IM{n}").write_bytes(Image(sop=f"1.2.3.{n}").file)
    (images / "bare").write_bytes(Image(sop="1.2.3.8").data_set)
    (images / "bare.dcm").write_bytes(Image(sop="1.2.3.9").data_set)
    (images / "again.dcm").write_bytes(Image(sop="1.2.3.0").file)
    (images / "cut.dcm").write_bytes(Image(sop="1.2.3.10").file[:-3])
    (images / "no modality.IMA").write_bytes(Image(sop="1.2.3.11", modality=None).file)
    (root / "DICOMDIR").write_bytes((TEST_FILES / "dicomdirtests" / "DICOMDIR").read_bytes())
    (root / "DICOM" / "DICOMDIR.bak").write_bytes((TEST_FILES / "dicomdirtests" / "DICOMDIR").read_bytes())
    (root / "empty.dcm").write_bytes(b"")
    for name in ("VIEWER.EXE", "README.TXT", "LICENSE", "image.jpg", "Makefile", "empty"):
        (root / name).write_bytes(b"" if name == "empty" else f"{name}: not a word of DICOM\n".encode() * 50)
    (root / "link").symlink_to(images)
    (root / "link.dcm").symlink_to(images / "IM0")
    os.mkfifo(root / "pipe.dcm")


async def import_(archive: TestArchive, root: Path) -> ImportReport:
    return await FolderImport(archive.ingest, ORGANIZATION).run(root)


async def test_an_old_cd(archive: TestArchive, tmp_path: Path):
    root = tmp_path / "cd"
    old_cd(root)
    told: list[tuple[int, int]] = []
    importing = FolderImport(archive.ingest, ORGANIZATION)
    report = await importing.run(root, progress=lambda report: told.append((report.done, report.found)))
    assert report.outcomes == Counter({KIND.STORED: 10, KIND.DUPLICATE: 1, KIND.QUARANTINED: 3})
    assert report.reasons == Counter({"truncated": 1, "missing": 1, "not-dicom": 1})
    assert (report.directories, report.not_dicom, report.failed) == (2, 6, 0)
    assert (report.found, report.done, report.walked) == (22, 22, True)
    assert report.done_bytes > 0
    assert told[-1] == (22, 22)
    assert all(done <= found for done, found in told)
    [peer] = {
        row["peer"]
        for row in await archive.rows("SELECT peer FROM instance WHERE sop_instance_uid = '1.2.3.5'")
    }
    assert peer == str(root / "DICOM" / "ST1" / "SE1" / "IM5")


async def test_running_it_again_stores_nothing_twice(archive: TestArchive, tmp_path: Path):
    root = tmp_path / "cd"
    old_cd(root)
    await import_(archive, root)
    again = await import_(archive, root)
    assert again.outcomes == Counter({KIND.DUPLICATE: 11, KIND.QUARANTINED: 3})
    assert await archive.quarantine.count(ORGANIZATION) == 3
    assert await archive.one("SELECT count(*) FROM instance") == 10


async def test_one_file(archive: TestArchive, tmp_path: Path):
    path = tmp_path / "one.dcm"
    path.write_bytes(Image().file)
    assert (await import_(archive, path)).outcomes == Counter({KIND.STORED: 1})


async def test_what_is_not_there_is_said(archive: TestArchive, tmp_path: Path):
    report = await import_(archive, tmp_path / "nowhere")
    assert (report.found, report.failed) == (0, 1)
    assert report.failures == [(str(tmp_path / "nowhere"), "No such file or directory")]


async def test_names_that_are_no_text(archive: TestArchive, tmp_path: Path):
    root = tmp_path / "cd"
    folder = root / os.fsdecode(b"\xff\xfe")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"M\xfcller.dcm")).write_bytes(Image().file)
    (folder / "new\nline.dcm").write_bytes(Image(sop="1.2.9", modality=None).file)
    report = await import_(archive, root)
    assert report.outcomes == Counter({KIND.STORED: 1, KIND.QUARANTINED: 1})
    assert "M\\udcfcller" in await archive.one("SELECT peer FROM instance")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
async def test_unreadable_files_are_passed_over(archive: TestArchive, tmp_path: Path):
    root = tmp_path / "cd"
    old_cd(root)
    (root / "DICOM" / "ST1" / "SE1" / "IM3").chmod(0)
    report = await import_(archive, root)
    assert report.outcomes[KIND.STORED] == 9
    assert report.failed == 1


async def test_a_file_that_goes_while_it_is_imported_is_passed_over(
    archive: TestArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "cd"
    old_cd(root)
    real = Path.open

    def gone(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "IM3":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", gone)
    report = await import_(archive, root)
    assert report.outcomes[KIND.STORED] == 9
    assert report.failed == 1
    assert report.failures[0][1] == "Permission denied"


async def test_an_object_over_the_limit_is_passed_over(url: str, tmp_path: Path):
    root = tmp_path / "cd"
    old_cd(root)
    (root / "large.dcm").write_bytes(Image(sop="1.2.9", pixels=bytes(100_000)).file)
    async with opened(url, tmp_path, object_bytes_max=50_000) as archive:
        report = await import_(archive, root)
        assert report.outcomes[KIND.STORED] == 10
        assert report.failed == 1
        assert archive.spool.budget.used_bytes == 0


async def test_a_folder_is_no_batch(url: str, tmp_path: Path):
    root = tmp_path / "cd"
    old_cd(root)
    async with opened(url, tmp_path, batch=BatchPolicy.ALL_OR_NOTHING) as archive:
        report = await import_(archive, root)
        assert report.outcomes == Counter({KIND.STORED: 10, KIND.DUPLICATE: 1, KIND.QUARANTINED: 3})


@pytest.mark.parametrize("error", [OutOfSpace, Unavailable])
async def test_an_archive_that_takes_no_more_stops_it_and_it_goes_on_later(
    url: str, tmp_path: Path, error: type[Exception]
):
    root = tmp_path / "cd"
    old_cd(root)
    store = FaultyStore(MemoryStore())
    async with opened(url, tmp_path, store=store) as archive:
        store.fail(Operation.PUT, lambda: error("no more"), nth=5, times=None)
        with pytest.raises(BaseExceptionGroup) as stopped:
            await import_(archive, root)
        assert isinstance(stopped_by(stopped.value), error)
        store.heal()
        assert archive.spool.budget.used_bytes == 0
        report = await import_(archive, root)
        assert report.failed == 0
        assert await archive.one("SELECT count(*) FROM instance") == 10
        assert await broken_promises(archive) == []


async def test_a_file_is_closed_that_was_opened_for_nobody(
    archive: TestArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Cancelled while a thread opens it: that goes on."""
    path = tmp_path / "one.dcm"
    path.write_bytes(Image().file)
    opens, may_open = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    files: list[BinaryIO] = []
    really_open = importing._open

    def slowly(path: Path) -> tuple[BinaryIO, bytes, int]:
        loop.call_soon_threadsafe(opens.set)
        assert may_open.wait(30)
        opened_file = really_open(path)
        files.append(opened_file[0])
        return opened_file

    monkeypatch.setattr(importing, "_open", slowly)
    task = asyncio.create_task(import_(archive, path))
    await opens.wait()
    task.cancel()
    await asyncio.wait([task])
    may_open.set()
    async with asyncio.timeout(30):
        while not files or not files[0].closed:  # noqa: ASYNC110 - a thread does it
            await asyncio.sleep(0)


async def test_real_files(archive: TestArchive):
    report = await import_(archive, TEST_FILES)
    assert report.done == report.found
    assert report.failed == 0
    assert report.outcomes[KIND.STORED] > 60
    assert report.directories >= 1
