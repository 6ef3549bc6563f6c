"""Reading 20,000 small files in place and writing the index: scan, decode, judge, commit in batches of 500.

One process and one event loop, as a NAS indexer would run it; no object is copied. Files are in a warm cache.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path

import uvloop
from pydicom import dcmread

from bench.rounds import Sample, alternate, write_results
from bench.synthetic_ct import synthetic_ct
from isocenter.dicom.scanner import scan
from isocenter.features.archive.committer import GroupCommitter
from isocenter.features.archive.entry import Entry, Received, Source, StoredObject
from isocenter.features.archive.judging import judge
from isocenter.features.archive.policies import Policies
from isocenter.features.archive.reading import WANTED, HeaderReader
from isocenter.kit.clock import SystemClock
from isocenter.platform.db import open_database

FILES = 20_000
FILES_A_COMMIT = 500
PEER_FILES = 1_000


def run(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="isocenter-index-") as name:
        folder = Path(name)
        paths = make_files(folder / "files")
        case = alternate(
            f"index of {FILES} files, 50 attributes each, written to SQLite",
            lambda number: uvloop.run(index(paths, folder / f"{number}.db")),
            lambda number: read_with_pydicom(paths[:PEER_FILES]),
            rounds=rounds,
            peer_name="pydicom (reads headers, writes nothing)",
        )
    write_results("index", [case])


def make_files(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for number in range(FILES):
        path = folder / f"{number:06d}.dcm"
        study = number // 100
        path.write_bytes(synthetic_ct(study, study, number % 100 // 50, number % 50, rows=8, columns=8))
        paths.append(path)
    return paths


async def index(paths: list[Path], database_path: Path) -> Sample:
    database = await open_database(f"sqlite:///{database_path}")
    committer, reader, policies = GroupCommitter(database, SystemClock()), HeaderReader(), Policies()
    source = Source("bench")
    cpu, begun = time.process_time(), time.perf_counter()
    for first in range(0, len(paths), FILES_A_COMMIT):
        batch = [read_entry(path, reader, policies, source) for path in paths[first : first + FILES_A_COMMIT]]
        outcomes = await committer.submit(1, batch, policies)
        assert all(outcome.kind == "stored" for outcome in outcomes)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    await committer.close()
    await database.close()
    return Sample(len(paths) / took, cpu / len(paths) * 1000)


def read_entry(path: Path, reader: HeaderReader, policies: Policies, source: Source) -> Received:
    data = path.read_bytes()
    found = scan(data, WANTED)
    header = reader.read(found)
    stored = StoredObject(
        key=str(path),
        size=len(data),
        header_size=found.header_size,
        sha256=hashlib.sha256(memoryview(data)[found.header_size :]).hexdigest(),
        transfer_syntax_uid=found.transfer_syntax_uid,
    )
    entry = Entry(stored, source, header.levels, header.instance)
    return judge(entry, found, policies, None)


def read_with_pydicom(paths: list[Path]) -> Sample:
    cpu, begun = time.process_time(), time.perf_counter()
    for path in paths:
        dcmread(path, stop_before_pixels=True)
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return Sample(len(paths) / took, cpu / len(paths) * 1000)


if __name__ == "__main__":
    run(3)
