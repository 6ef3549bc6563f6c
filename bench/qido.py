"""QIDO-RS: studies by PatientID, eight clients, each asking again as soon as it was answered; and the
instances of series of 100 objects, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import uvloop

from bench.filled import LARGE_INSTANCES, some_large_series, some_patient
from bench.rounds import Sample, alternate
from bench.servers import IsocenterServer, OrthancServer, cpu_s

CLIENTS = 8

Server = IsocenterServer | OrthancServer


def cases(ours: IsocenterServer, peer: OrthancServer, rounds: int) -> list[dict[str, object]]:
    return [
        alternate(
            f"GET /dicom-web/studies?PatientID=, {CLIENTS} at once",
            lambda number: uvloop.run(measure(ours, 4_000)),
            lambda number: uvloop.run(measure(peer, 200)),
            rounds=rounds,
        ),
        alternate(
            f"QIDO {LARGE_INSTANCES}-instance series",
            lambda number: uvloop.run(measure_series(ours, 400)),
            lambda number: uvloop.run(measure_series(peer, 20)),
            rounds=rounds,
        ),
    ]


async def measure(server: Server, count: int, *, authorization: str = "") -> Sample:
    def path(number: int) -> str:
        return f"/studies?PatientID={some_patient(number)}"

    return await measure_paths(server, count, path, clients=CLIENTS, authorization=authorization)


async def measure_series(server: Server, count: int) -> Sample:
    def path(number: int) -> str:
        study, series = some_large_series(number)
        return f"/studies/{study}/series/{series}/instances"

    return await measure_paths(server, count, path, clients=1, matches=LARGE_INSTANCES)


async def measure_paths(
    server: Server,
    count: int,
    path_of: Callable[[int], str],
    *,
    clients: int,
    matches: int = 1,
    authorization: str = "",
) -> Sample:
    """``matches``: the least that each answer must hold."""
    numbers = iter(range(count))
    took: list[float] = []

    async def work() -> None:
        address = urlsplit(server.dicom_web_url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for number in numbers:
            begun = time.perf_counter()
            path = f"{address.path}{path_of(number)}"
            head = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: application/dicom+json\r\n"
            who = f"Authorization: {authorization}\r\n" if authorization else ""
            writer.write(f"{head}{who}\r\n".encode())
            body = await read_answer(reader)
            if body.count(b'"0020000D"') < matches:
                raise SystemExit(f"too little found at {path}: {body[:200]!r}")
            took.append(time.perf_counter() - begun)
        writer.close()

    cpu, begun = cpu_s(server.pid), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    elapsed = time.perf_counter() - begun
    took.sort()
    return Sample(
        count / elapsed,
        (cpu_s(server.pid) - cpu) / count * 1000,
        {"p50 ms": took[len(took) // 2] * 1000, "p99 ms": took[len(took) * 99 // 100] * 1000},
    )


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer with a Content-Length, as both servers give it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"the server answered {head[:40]!r}: {body[:500]!r}")
    return body
