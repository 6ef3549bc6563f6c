"""``isocenter import``: a folder tree through the archive's door.

Old CDs and shares hold much that is not DICOM: viewers, read-me files, DICOMDIRs. A file is taken for DICOM
when it carries the Part-10 mark, or when its name says so, or when it has no extension and its bytes can
be read as a data set. What names itself DICOM and cannot be read goes to quarantine like any bad object; the
rest is counted and left alone.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from isocenter.dicom.part10 import is_part10
from isocenter.dicom.scanner import ScanError, Wanted, scan
from isocenter.dicom.tags import MEDIA_STORAGE_SOP_CLASS_UID, SOP_CLASS_UID
from isocenter.features.archive.entry import Outcome, OutcomeKind, Source
from isocenter.features.archive.ingest import Ingest
from isocenter.features.archive.policies import BatchPolicy
from isocenter.kit.errors import Busy, Conflict, IsocenterError, TooLarge

_DICOM_EXTENSIONS = frozenset({".dcm", ".dicom", ".ima"})
_MEDIA_STORAGE_DIRECTORY = b"1.2.840.10008.1.3.10"
_READ_BYTES = 4 << 20
_HEAD_BYTES = 64 << 10
_AT_ONCE = 32
_BUSY_TRIES = 5
_WALK_AHEAD = 10_000
_WALK_BATCH = 256
_LISTED_MAX = 1000
_SOME_DATA_SET = Wanted([SOP_CLASS_UID])


@dataclass(slots=True)
class ImportReport:
    """``reasons`` counts problem codes in quarantine. ``refused`` are (path, outcome, problem codes) of what
    was rejected or quarantined, ``failures`` are (path, why): at most 1,000 each."""

    found: int = 0
    walked: bool = False
    done: int = 0
    done_bytes: int = 0
    outcomes: Counter[OutcomeKind] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, OutcomeKind, tuple[str, ...]]] = field(default_factory=list)
    not_dicom: int = 0
    directories: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


class FolderImport:
    def __init__(self, ingest: Ingest, organization_id: int) -> None:
        self._ingest = ingest
        self._organization_id = organization_id

    async def run(
        self, root: Path, *, progress: Callable[[ImportReport], None] = lambda report: None
    ) -> ImportReport:
        """Import every DICOM file under ``root`` (or the one file it is).

        A file that cannot be read or kept is noted and passed over. Raises Unavailable or OutOfSpace when the
        archive cannot take more: what was reported by then is stored, and running it again goes on there.
        """
        report = ImportReport()
        paths: asyncio.Queue[Path | None] = asyncio.Queue(_WALK_AHEAD)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._walk(root, paths, report))
            for _ in range(_AT_ONCE):
                tasks.create_task(self._work(paths, report, progress))
        progress(report)
        return report

    async def _walk(self, root: Path, paths: asyncio.Queue[Path | None], report: ImportReport) -> None:
        files = _files(root, report)
        while batch := await asyncio.to_thread(lambda: list(islice(files, _WALK_BATCH))):
            report.found += len(batch)
            for path in batch:
                await paths.put(path)
        report.walked = True
        for _ in range(_AT_ONCE):
            await paths.put(None)

    async def _work(
        self,
        paths: asyncio.Queue[Path | None],
        report: ImportReport,
        progress: Callable[[ImportReport], None],
    ) -> None:
        while (path := await paths.get()) is not None:
            try:
                outcome = await self._import(path, report)
            except OSError as error:
                _note_failure(report, path, error.strerror or type(error).__name__)
            except (TooLarge, Conflict) as error:
                _note_failure(report, path, error.detail)
            else:
                if outcome is not None:
                    _note_outcome(report, path, outcome)
            report.done += 1
            progress(report)

    async def _import(self, path: Path, report: ImportReport) -> Outcome | None:
        for attempt in range(1, _BUSY_TRIES + 1):
            try:
                return await self._import_once(path, report)
            except Busy as error:
                if attempt == _BUSY_TRIES:
                    raise
                await asyncio.sleep(error.retry_after_s or 1)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _import_once(self, path: Path, report: ImportReport) -> Outcome | None:
        file, head, size = await _opened(path)
        with file:
            if _is_directory(head):
                report.directories += 1
                return None
            if not _is_wanted(path, head):
                report.not_dicom += 1
                return None
            reception = self._ingest.receive(self._organization_id, Source("import", str(path)))
            try:
                piece = head
                while piece:
                    waiting = reception.write(piece)
                    if waiting is not None:
                        await waiting
                    more = reception.size < size
                    piece = await asyncio.to_thread(file.read, _READ_BYTES) if more else b""
                received = await reception.finish()
            except BaseException:
                await reception.abort()
                raise
            report.done_bytes += reception.size
        # A folder is no batch: what is bad in it goes to quarantine, whatever the batches' policy.
        policies = replace(
            await self._ingest.policies.of(self._organization_id), batch=BatchPolicy.ACCEPT_VALID
        )
        [outcome] = await self._ingest.commit(self._organization_id, [received], policies)
        return outcome


def _files(root: Path, report: ImportReport) -> Iterator[Path]:
    """Every regular file, folder by folder in the order of names; links are not followed."""
    if root.is_file():
        yield root
        return
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            _note_failure(report, folder, error.strerror or type(error).__name__)
            continue
        folders += [Path(entry) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        yield from (Path(entry) for entry in entries if entry.is_file(follow_symlinks=False))


_Opened = tuple[BinaryIO, bytes, int]


async def _opened(path: Path) -> _Opened:
    """Closed also where nobody waits for it any more: a thread cannot be cancelled."""
    opening = asyncio.ensure_future(asyncio.to_thread(_open, path))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[_Opened]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()


def _open(path: Path) -> _Opened:
    """The open file, its beginning and its size."""
    file = path.open("rb", buffering=0)
    try:
        return file, file.read(_HEAD_BYTES), os.fstat(file.fileno()).st_size
    except BaseException:
        file.close()
        raise


def _is_directory(head: bytes) -> bool:
    """A DICOMDIR (PS3.3 F): an index of the medium, which has no place in an archive."""
    if not is_part10(head):
        return False
    try:
        meta = scan(head, _SOME_DATA_SET).file_meta
    except ScanError:
        return False
    return meta.get(MEDIA_STORAGE_SOP_CLASS_UID, b"").rstrip(b"\0 ") == _MEDIA_STORAGE_DIRECTORY


def _is_wanted(path: Path, head: bytes) -> bool:
    if is_part10(head) or path.suffix.lower() in _DICOM_EXTENSIONS:
        return True
    if path.suffix:
        return False
    try:
        return SOP_CLASS_UID in scan(head, _SOME_DATA_SET).elements
    except ScanError:
        return False


def _note_outcome(report: ImportReport, path: Path, outcome: Outcome) -> None:
    report.outcomes[outcome.kind] += 1
    if outcome.kind.accepted:
        return
    codes = tuple(dict.fromkeys(problem.code for problem in outcome.problems))
    if outcome.kind is OutcomeKind.QUARANTINED:
        report.reasons.update(codes)
    if len(report.refused) < _LISTED_MAX:
        report.refused.append((str(path), outcome.kind, codes))


def _note_failure(report: ImportReport, path: Path, why: str) -> None:
    report.failed += 1
    if len(report.failures) < _LISTED_MAX:
        report.failures.append((os.fsencode(path).decode("utf-8", "backslashreplace"), why))


def stopped_by(error: BaseException) -> IsocenterError | None:
    """The archive's own reason among those that ended an import's tasks."""
    if isinstance(error, IsocenterError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := stopped_by(one))), None)
    return None
