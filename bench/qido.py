"""QIDO-RS: studies by PatientID, eight clients, each asking again as soon as it was answered; and the
instances of series of 100 objects, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any
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
    address = urlsplit(server.dicom_web_url)
    who = f"Authorization: {authorization}\r\n" if authorization else ""
    rest = f" HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: application/dicom+json\r\n{who}\r\n"
    requests = iter([f"GET {address.path}{path_of(number)}{rest}".encode() for number in range(count)])
    took: list[float] = []
    loop = asyncio.get_running_loop()
    asking = []
    for _ in range(clients):
        _, client = await loop.create_connection(
            lambda: _Client(requests, matches, took), address.hostname, address.port
        )
        asking.append(client)
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    for client in asking:
        client.ask()
    await asyncio.gather(*(client.done for client in asking))
    elapsed = time.perf_counter() - begun
    took.sort()
    return Sample(
        count / elapsed,
        (cpu_s(server.pid) - cpu) / count * 1000,
        {"p50 ms": took[len(took) // 2] * 1000, "p99 ms": took[len(took) * 99 // 100] * 1000},
    )


class _Client(asyncio.Protocol):
    """Asks the next of ``requests`` as soon as it was answered. It shares two cores with the server that is
    measured, so it looks at no more of an answer than its length and how many matches it has."""

    def __init__(self, requests: Iterator[bytes], matches: int, took: list[float]) -> None:
        self._requests = requests
        self._matches = matches
        self._took = took
        self._received = bytearray()
        self._needed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(SystemExit(f"the server hung up: {error}"))

    def ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._begun = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._needed:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower() + b"\r\n"
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(f"the server answered {head[:100]!r}")
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._needed = end + 4 + int(length)
        if len(self._received) < self._needed:
            return
        if self._received.count(b'"0020000D"') < self._matches:
            raise SystemExit(f"too little found: {bytes(self._received[:300])!r}")
        self._took.append(time.perf_counter() - self._begun)
        self._received.clear()
        self._needed = 0
        self.ask()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer with a Content-Length, as both servers give it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"the server answered {head[:40]!r}: {body[:500]!r}")
    return body
