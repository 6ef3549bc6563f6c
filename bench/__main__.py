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
    "search": "C-FIND and QIDO-RS by PatientID, QIDO-RS of a series, over 23,110 objects, against Orthanc",
    "scan_headers": "header scan of 20,000 small files against pydicom",
    "index": "the same files, with the index written",
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
