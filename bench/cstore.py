"""C-STORE by DCMTK's storescu: one and four associations at once, each object answered when it is durable."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench.rounds import Sample, alternate, write_results
from bench.servers import IsocenterServer, OrthancServer, both_servers, cpu_s, environment
from bench.synthetic_ct import synthetic_ct

OBJECTS = 200


def run(rounds: int, *, nagle: bool = False) -> None:
    objects = 60 if nagle else OBJECTS
    cases = []
    with both_servers(nagle=nagle) as (ours, peer, folder):
        for associations in (1, 4):
            folders = make_rounds(folder, rounds, associations, objects)
            label = f"C-STORE, {associations} association(s), {'Nagle on' if nagle else 'TCP_NODELAY'}"
            cases.append(
                alternate(
                    label,
                    lambda number, sets=folders: send(ours, sets[number], nagle=nagle),
                    lambda number, sets=folders: send(peer, sets[number], nagle=nagle),
                    rounds=rounds,
                )
            )
    write_results("cstore_nagle" if nagle else "cstore", cases)


def make_rounds(folder: Path, rounds: int, associations: int, objects: int) -> list[list[Path]]:
    """For each round, a folder of new slices for each association."""
    sets = []
    for number in range(rounds):
        senders = []
        for sender in range(associations):
            study = associations * 1000 + number * 10 + sender
            target = folder / f"send-{associations}-{number}-{sender}"
            target.mkdir()
            for instance in range(objects):
                (target / f"{instance:04d}.dcm").write_bytes(synthetic_ct(study, study, 1, instance))
            senders.append(target)
        sets.append(senders)
    return sets


def send(server: IsocenterServer | OrthancServer, folders: list[Path], *, nagle: bool) -> Sample:
    """One storescu for each folder, all at once."""
    count = sum(1 for folder in folders for _ in folder.iterdir())
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    with environment(TCP_NODELAY=None if nagle else "1"):
        senders = [
            subprocess.Popen(
                [
                    "storescu",
                    "-aec",
                    server.ae_title,
                    "+sd",
                    "127.0.0.1",
                    str(server.dicom_port),
                    str(folder),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for folder in folders
        ]
    for sender in senders:
        output, _ = sender.communicate()
        if sender.returncode:
            raise SystemExit(f"storescu failed: {output.decode(errors='replace')[-2000:]}")
    took = time.perf_counter() - begun
    return Sample(count / took, (cpu_s(server.pid) - cpu) / count * 1000)
