"""What the retrieving benches share: objects put into both servers, answers read and counted."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from bench.rounds import Sample
from bench.servers import IsocenterServer, OrthancServer, cpu_s, resident_bytes
from bench.stow import body_of, post

Server = IsocenterServer | OrthancServer
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_CHUNK = 1 << 20


def fill(server: Server, objects: Iterable[bytes], a_request: int = 20) -> None:
    """By STOW-RS, some in a request."""
    waiting: list[bytes] = []
    for one in objects:
        waiting.append(one)
        if len(waiting) == a_request:
            post(server, [body_of(waiting)])
            waiting = []
    if waiting:
        post(server, [body_of(waiting)])


class Reader:
    """One connection that is kept."""

    def __init__(self, dicom_web_url: str) -> None:
        address = urlsplit(dicom_web_url)
        self._base = address.path
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port)

    def get(self, path: str, accept: str) -> int:
        """The length of the answer's body, which must be a 200."""
        self._connection.request("GET", self._base + path, headers={"Accept": accept})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"GET {path} answered {answer.status}: {answer.read()[:300]!r}")
        length = 0
        while piece := answer.read(_CHUNK):
            length += len(piece)
        return length

    def close(self) -> None:
        self._connection.close()


def megabytes(server: Server, path: str, accept: str, times: int = 1) -> Sample:
    """One answer after another over one connection: MB a second, the server's CPU for each MB."""
    reader = Reader(server.dicom_web_url)
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    count = sum(reader.get(path, accept) for _ in range(times)) / 1e6
    took = time.perf_counter() - begun
    reader.close()
    return Sample(count / took, (cpu_s(server.pid) - cpu) / count * 1000)


def repeated(server: Server, paths: Iterable[str], accept: str) -> Sample:
    """One answer after another: how many a second, how long each, what the server's memory grew by."""
    reader = Reader(server.dicom_web_url)
    took: list[float] = []
    before = resident_bytes(server.pid)
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    for path in paths:
        started = time.perf_counter()
        reader.get(path, accept)
        took.append(time.perf_counter() - started)
    elapsed = time.perf_counter() - begun
    reader.close()
    count = len(took)
    took.sort()
    return Sample(
        count / elapsed,
        (cpu_s(server.pid) - cpu) / count * 1000,
        {
            "p50 ms": took[count // 2] * 1000,
            "p99 ms": took[count * 99 // 100] * 1000,
            "memory grew MB": (resident_bytes(server.pid) - before) / 1e6,
        },
    )


def forget_files(folder: Path) -> None:
    """Make the kernel read the files below ``folder`` from the disk again."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
