"""``python -m bench NAME|all [--rounds N]``: measure, print ratios, write bench/results/NAME.json."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

BENCHES = {
    "cstore": "C-STORE of 525 KB slices by DCMTK's storescu, durable, against Orthanc",
    "cstore_nagle": "the same from a sender with Nagle's algorithm on (DCMTK's default)",
    "authenticated": "QIDO-RS by PatientID with an API key against logins switched off",
    "encryption": "C-STORE with encryption at rest on against off",
    "stow": "STOW-RS, 20 objects a request, against Orthanc",
    "wado_series": "WADO-RS of a series of 100 slices, cold and warm, as stored and in JPEG-LS",
    "frame": "one frame of a 500-frame object of 250 MB, at random, against Orthanc; and from S3",
    "series_metadata": "WADO-RS metadata of 100 and 600 instances, against Orthanc",
    "rendered": "WADO-RS rendered 512 x 512 slices as JPEG, against Orthanc",
    "search": "C-FIND and QIDO-RS by PatientID, QIDO-RS of a series, over 23,110 objects, against Orthanc",
    "cmove": "C-MOVE of studies of 500 slices of 525 KB to DCMTK's storescp, against Orthanc",
    "cget": "C-GET of the same by DCMTK's getscu, against Orthanc",
    "scan_headers": "header scan of 20,000 small files against pydicom",
    "index": "the same files, with the index written",
    "spanning": "one question to eight simulated archives: a burst, one by one, first row, overhead",
    "spanned_retrieval": "a study of another archive through a spanner configuration, against that archive",
    "large": "memory while a 2 GB object and ten of 1 GB pass through C-STORE and STOW-RS",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "name", choices=["all", *BENCHES], help="; ".join(f"{n}: {s}" for n, s in BENCHES.items())
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    # Peers are started by the same harness as in the tests.
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    for name in BENCHES if options.name == "all" else [options.name]:
        print(f"\n== {name}: {BENCHES[name]}", flush=True)
        importlib.import_module(f"bench.{name}").run(options.rounds)


if __name__ == "__main__":
    main()
