"""Both servers holding studies of 525 KB slices, and DCMTK's clients that retrieve them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from bench.filled import fill_isocenter, fill_orthanc
from bench.rounds import Sample
from bench.servers import IsocenterServer, OrthancServer, both_servers, cpu_s, environment
from bench.synthetic_ct import study_instance_uid, synthetic_ct

OBJECTS = int(os.environ.get("ISOCENTER_BENCH_OBJECTS", "500"))
ROWS = int(os.environ.get("ISOCENTER_BENCH_ROWS", "512"))
STUDIES = 4

Server = IsocenterServer | OrthancServer


class CalledServer(Protocol):
    """What DCMTK's clients call, and the process that answers."""

    @property
    def ae_title(self) -> str: ...

    @property
    def dicom_port(self) -> int: ...

    @property
    def pid(self) -> int: ...


@contextlib.contextmanager
def servers_with_studies() -> Iterator[tuple[IsocenterServer, OrthancServer, Path]]:
    """``STUDIES`` studies of ``OBJECTS`` slices each."""
    with both_servers() as (ours, peer, folder):
        objects = folder / "objects"
        objects.mkdir()
        paths = []
        for study in range(STUDIES):
            for instance in range(OBJECTS):
                path = objects / f"{study}-{instance:04d}.dcm"
                path.write_bytes(synthetic_ct(study, study, 1, instance, rows=ROWS, columns=ROWS))
                paths.append(path)
        print(f"  filling both servers with {len(paths)} objects …", flush=True)
        fill_isocenter(ours, objects)
        fill_orthanc(peer, paths)
        yield ours, peer, folder


def retrieve(
    server: CalledServer, tool: str, options: Sequence[str], at_once: int, *, first: int = 0
) -> Sample:
    """So many of DCMTK's clients at once, each for a study of its own, from the ``first``."""
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    with environment(TCP_NODELAY="1"):
        clients = [
            subprocess.Popen(
                [
                    *(tool, "-S", "-aec", server.ae_title, *options),
                    *("127.0.0.1", str(server.dicom_port), "-k", "QueryRetrieveLevel=STUDY"),
                    *("-k", f"StudyInstanceUID={study_instance_uid(study)}"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for study in range(first, first + at_once)
        ]
    for client in clients:
        output, _ = client.communicate()
        if client.returncode or b"Failed" in output:
            raise SystemExit(f"{tool} failed: {output.decode(errors='replace')[-2000:]}")
    took, count = time.perf_counter() - begun, at_once * OBJECTS
    megabytes = count * ROWS * ROWS * 2 / 1e6
    return Sample(count / took, (cpu_s(server.pid) - cpu) / count * 1000, {"MB/s": megabytes / took})


def add_destination(ours: IsocenterServer, title: str, port: int) -> None:
    command = (
        sys.executable,
        "-m",
        "isocenter",
        "ae",
        "destination",
        "add",
        "--data-dir",
        str(ours.data_dir),
    )
    subprocess.run([*command, title, "127.0.0.1", str(port)], check=True, stdout=subprocess.DEVNULL)
