"""WADO-RS metadata of a series, 100 and 600 instances, again and again."""

from __future__ import annotations

from bench.rounds import alternate, write_results
from bench.servers import both_servers
from bench.synthetic_ct import synthetic_ct
from bench.wado import fill, repeated
from bench.wado_series import series_path

SIZES = (100, 600)
ASKED = 20
ASKED_OF_ORTHANC = 3
_JSON = "application/dicom+json"


def run(rounds: int) -> None:
    cases = []
    with both_servers() as (ours, peer, _):
        for study, size in enumerate(SIZES):
            for server in (ours, peer):
                fill(server, (synthetic_ct(study, study, 1, n, rows=64, columns=64) for n in range(size)))
            path = series_path(study) + "/metadata"
            cases.append(
                alternate(
                    f"metadata of a series of {size} instances",
                    lambda _, p=path: repeated(ours, [p] * ASKED, _JSON),
                    lambda _, p=path: repeated(peer, [p] * ASKED_OF_ORTHANC, _JSON),
                    rounds=rounds,
                )
            )
    write_results("series_metadata", cases)
