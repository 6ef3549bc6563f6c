"""Both servers holding the same 23,000 small objects in 2,020 studies, for the searches."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench.servers import IsocenterServer, OrthancServer, both_servers
from bench.synthetic_ct import patient_id, series_instance_uid, study_instance_uid, synthetic_ct

STUDIES = 2_010
INSTANCES_A_STUDY = 11
PATIENTS = 1_500
LARGE_SERIES = 10
LARGE_INSTANCES = 100


@contextlib.contextmanager
def filled_servers() -> Iterator[tuple[IsocenterServer, OrthancServer]]:
    with both_servers() as (ours, peer, folder):
        paths = make_files(folder / "objects")
        print(f"  filling both servers with {len(paths)} objects in {STUDIES} studies …", flush=True)
        fill_isocenter(ours, folder / "objects")
        fill_orthanc(peer, paths)
        yield ours, peer


def fill_isocenter(ours: IsocenterServer, objects: Path) -> None:
    command = (sys.executable, "-m", "isocenter", "import", "--data-dir", str(ours.data_dir), "--json")
    subprocess.run([*command, str(objects)], check=True, stdout=subprocess.DEVNULL)


def make_files(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    sizes = [INSTANCES_A_STUDY] * STUDIES + [LARGE_INSTANCES] * LARGE_SERIES
    for study, instances in enumerate(sizes):
        # The large ones are patients of their own, so that a search by PatientID finds the same as ever.
        patient = study % PATIENTS if study < STUDIES else study
        for instance in range(instances):
            path = folder / f"{study:05d}-{instance:02d}.dcm"
            path.write_bytes(synthetic_ct(patient, study, 1, instance, rows=8, columns=8))
            paths.append(path)
    return paths


def fill_orthanc(peer: OrthancServer, paths: list[Path]) -> None:
    address = urlsplit(peer.url)

    def post(some: list[Path]) -> None:
        connection = HTTPConnection(address.hostname or "", address.port)
        for path in some:
            connection.request("POST", "/instances", path.read_bytes())
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"Orthanc refused {path.name}: {answer.status}")

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(post, [paths[first::4] for first in range(4)]):
            pass


def some_large_series(number: int) -> tuple[str, str]:
    """The UIDs of the study and the series."""
    study = STUDIES + number % LARGE_SERIES
    return study_instance_uid(study), series_instance_uid(study, 1)


def some_patient(number: int) -> str:
    return patient_id(number * 7919 % PATIENTS)
