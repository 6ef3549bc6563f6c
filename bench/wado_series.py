"""WADO-RS of a series of 100 slices of 525 KB, from disk and from the kernel's cache: as stored, and in
JPEG-LS, made for the first time and asked for again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.rounds import Sample, alternate, write_results
from bench.servers import both_servers
from bench.synthetic_ct import series_instance_uid, study_instance_uid, synthetic_ct
from bench.wado import AS_STORED, Server, fill, forget_files, megabytes

SLICES = 100
ASKED_WARM = 8
"""Of what is in the cache: one answer is over before either server is in its stride."""
_JPEG_LS = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80'


def run(rounds: int) -> None:
    with both_servers() as (ours, peer, folder):
        for study in range(rounds):
            for server in (ours, peer):
                fill(server, (synthetic_ct(study, study, 1, number) for number in range(SLICES)))

        cases = [
            alternate(
                f"MB/s of a series of {SLICES} slices {name}, {temperature}",
                partial(measure, ours, folder / "isocenter", accept, temperature),
                partial(measure, peer, folder / "orthanc", accept, temperature),
                rounds=rounds,
            )
            for name, accept in (("as stored", AS_STORED), ("in JPEG-LS", _JPEG_LS))
            for temperature in ("cold", "warm")
        ]
    write_results("wado_series", cases)


def measure(server: Server, folder: Path, accept: str, temperature: str, study: int) -> Sample:
    if temperature == "cold":
        forget_files(folder)
        return megabytes(server, series_path(study), accept)
    return megabytes(server, series_path(study), accept, ASKED_WARM)


def series_path(study: int) -> str:
    return f"/studies/{study_instance_uid(study)}/series/{series_instance_uid(study, 1)}"
