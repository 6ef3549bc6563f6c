"""Header scan against pydicom: small CT files in a warm cache, 23 attributes, one process.

    .venv/bin/python -m bench.scan_headers [--files 20000] [--rounds 5]

Both open and read each file; rounds alternate, medians count. Results go to bench/results/scan_headers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pydicom import dcmread

from bench.synthetic_ct import synthetic_ct
from isocenter.dicom.dictionary import tag_of
from isocenter.dicom.scanner import Wanted, scan

KEYWORDS = (  # noqa: SIM905
    "SpecificCharacterSet SOPClassUID SOPInstanceUID StudyDate SeriesDate StudyTime AccessionNumber Modality "
    "ReferringPhysicianName StudyDescription SeriesDescription PatientName PatientID PatientBirthDate "
    "PatientSex StudyInstanceUID SeriesInstanceUID StudyID SeriesNumber InstanceNumber Rows Columns "
    "BitsAllocated"
).split(" ")
RESULTS = Path(__file__).parent / "results" / "scan_headers.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pydicom-files", type=int, default=2_000, help="pydicom reads the first so many")
    options = parser.parse_args()
    run(options.rounds, files=options.files, pydicom_files=options.pydicom_files)


def run(rounds: int, *, files: int = 20_000, pydicom_files: int = 2_000) -> None:
    with tempfile.TemporaryDirectory(prefix="isocenter-scan-") as folder:
        paths = make_files(Path(folder), files)
        result = measure(paths, rounds, pydicom_files)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {RESULTS}")


def make_files(folder: Path, count: int) -> list[str]:
    paths = []
    for number in range(count):
        path = folder / f"{number:06d}.dcm"
        path.write_bytes(
            synthetic_ct(number // 100, number // 50, number % 50 // 25, number % 25, rows=8, columns=8)
        )
        paths.append(str(path))
    return paths


def measure(paths: list[str], rounds: int, pydicom_files: int) -> dict[str, object]:
    tags = [tag_of(keyword) for keyword in KEYWORDS]
    wanted = Wanted(tags)
    assert len(scan(read(paths[0]), wanted).elements) == len(KEYWORDS) == 23

    contenders: dict[str, tuple[Callable[[str], object], list[str]]] = {
        "isocenter": (lambda path: scan(read(path), wanted), paths),
        "pydicom": (
            lambda path: dcmread(path, stop_before_pixels=True, specific_tags=tags),
            paths[:pydicom_files],
        ),
    }
    for path in paths:
        read(path)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    cpu_us: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(1, rounds + 1):
        for name, (work, files) in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for path in files:
                work(path)
            rates[name].append(len(files) / (time.perf_counter() - wall))
            cpu_us[name].append((time.process_time() - cpu) / len(files) * 1e6)
            rate, cpu_each = rates[name][-1], cpu_us[name][-1]
            print(f"round {round_number}  {name:<10} {rate:>10,.0f} files/s {cpu_each:>8.1f} us CPU a file")
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*rates.values(), strict=True))
    for name in contenders:
        rate, cpu = statistics.median(rates[name]), statistics.median(cpu_us[name])
        print(f"median   {name:<10} {rate:>10,.0f} files/s {cpu:>8.1f} us CPU a file")
    print(f"ratio    {ratio:.1f}")
    return {
        "bench": "scan_headers",
        "files": len(paths),
        "file_bytes": Path(paths[0]).stat().st_size,
        "attributes": len(KEYWORDS),
        "files_per_s": rates,
        "cpu_us_per_file": cpu_us,
        "ratio_median": ratio,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def read(path: str) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(handle).st_size
        return os.read(handle, size)
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
