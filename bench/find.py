"""C-FIND at study level by PatientID, a new association for each: one at a time, and 64 at once."""

from __future__ import annotations

import asyncio
import time

import uvloop

from bench.filled import some_patient
from bench.rounds import Sample, alternate
from bench.servers import IsocenterServer, OrthancServer, cpu_s
from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.sop_classes import STUDY_ROOT_FIND
from isocenter.dicom.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.dimse.net.client import Proposal, connect


def cases(ours: IsocenterServer, peer: OrthancServer, rounds: int) -> list[dict[str, object]]:
    return [
        alternate(
            f"C-FIND by PatientID, {at_once} at once",
            lambda number, at_once=at_once: measure(ours, 2_000, at_once),
            lambda number, at_once=at_once: measure(peer, 300, at_once),
            rounds=rounds,
        )
        for at_once in (1, 64)
    ]


def measure(server: IsocenterServer | OrthancServer, count: int, at_once: int) -> Sample:
    return uvloop.run(_measure(server, count, at_once))


async def _measure(server: IsocenterServer | OrthancServer, count: int, at_once: int) -> Sample:
    numbers = iter(range(count))
    took: list[float] = []
    failed = 0

    async def work() -> None:
        nonlocal failed
        for number in numbers:
            begun = time.perf_counter()
            try:
                found = await find(server, some_patient(number))
            except Exception as error:  # what failed is the figure; why, is printed
                failed += 1
                print(f"    failed: {error!r}")
                continue
            if not found:
                failed += 1
            took.append(time.perf_counter() - begun)

    cpu, begun = cpu_s(server.pid), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    elapsed = time.perf_counter() - begun
    took.sort()
    return Sample(
        len(took) / elapsed,
        (cpu_s(server.pid) - cpu) / count * 1000,
        {
            "p50 ms": took[len(took) // 2] * 1000,
            "p99 ms": took[len(took) * 99 // 100] * 1000,
            "failed": failed,
        },
    )


async def find(server: IsocenterServer | OrthancServer, patient: str) -> int:
    """How many studies the server finds of the patient."""
    identifier = write_dataset(
        [
            Element(0x00080020, "DA", b""),
            Element(0x00080052, "CS", b"STUDY "),
            Element(0x00100010, "PN", b""),
            Element(0x00100020, "LO", patient.encode().ljust(len(patient) + len(patient) % 2)),
            Element(0x0020000D, "UI", b""),
        ],
        IMPLICIT_VR_LITTLE_ENDIAN,
    )
    association = await connect(
        "127.0.0.1",
        server.dicom_port,
        calling_ae_title="BENCH",
        called_ae_title=server.ae_title,
        contexts=[Proposal(STUDY_ROOT_FIND, (IMPLICIT_VR_LITTLE_ENDIAN,))],
    )
    found = 0
    async for _ in association.find(STUDY_ROOT_FIND, identifier):
        found += 1
    await association.release()
    return found
