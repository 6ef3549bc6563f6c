"""QIDO-RS by PatientID with an API key, against the same build with logins switched off."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import uvloop

from bench import qido
from bench.filled import fill_isocenter, make_files
from bench.rounds import alternate, write_results
from bench.servers import IsocenterServer

SEARCHES = 4_000


def run(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="isocenter-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        make_files(folder / "objects")
        servers = []
        for auth in ("required", "off"):
            server = IsocenterServer(folder / auth, "--auth", auth)
            stack.callback(server.stop)
            fill_isocenter(server, folder / "objects")
            servers.append(server)
        known, unguarded = servers
        authorization = f"Api-Key {key_of(known)}"
        case = alternate(
            f"GET /dicom-web/studies?PatientID= with an API key, {qido.CLIENTS} at once",
            lambda _: uvloop.run(qido.measure(known, SEARCHES, authorization=authorization)),
            lambda _: uvloop.run(qido.measure(unguarded, SEARCHES)),
            rounds=rounds,
            peer_name="without logins",
        )
    write_results("authenticated", [case])


def key_of(server: IsocenterServer) -> str:
    command = ("isocenter", "key", "create", "bench", "--role", "clinician", "--json")
    made = subprocess.run(
        [sys.executable, "-m", *command, "--data-dir", str(server.data_dir)],
        check=True,
        capture_output=True,
    )
    return str(json.loads(made.stdout)["secret"])
