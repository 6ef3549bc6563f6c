"""One question to a fleet of eight simulated archives, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench.qido import read_answer
from bench.rounds import Sample, median, write_results
from bench.servers import IsocenterServer, cpu_s
from isocenter.dicom.dictionary import tag_of
from isocenter.dimse.scu.finding import Level, Question, find
from isocenter.dimse.scu.peers import Peer, Remotes
from services.processes import Process, can_connect, free_ports

ARCHIVES = 8
AT_ONCE = 1_000
ROWS = 10
LATENCY_S = 0.05
_PATIENTS = 4_000
_TESTS = Path(__file__).parent.parent / "tests"


def run(rounds: int) -> None:
    cases: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, _fleet(Path(folder), ARCHIVES, LATENCY_S) as ports:
        server = IsocenterServer(Path(folder) / "isocenter")
        try:
            config = _configure(server, ports, timeout_seconds=30)
            patients = iter(range(_PATIENTS))
            uvloop.run(_burst(server, config, [next(patients) for _ in range(50)]))  # associations open
            cases.append(
                _case(
                    f"{AT_ONCE:,} questions at once to {ARCHIVES} archives, {ROWS} rows after 50 ms each",
                    lambda: _burst(server, config, [next(patients) for _ in range(AT_ONCE)]),
                    min(rounds, 3),
                )
            )
            cases.append(
                _case("one after the other", lambda: _one_by_one(server, config, patients), min(rounds, 3))
            )
            cases.append(
                _case("first row by server-sent events", lambda: _first_row(server, config, patients), 1)
            )
        finally:
            server.stop()
    with tempfile.TemporaryDirectory() as folder, _fleet(Path(folder), 1, 0.0) as ports:
        server = IsocenterServer(Path(folder) / "isocenter")
        try:
            config = _configure(server, ports, timeout_seconds=30)
            cases.append(
                _case(
                    "one archive: spanned, against asking it directly",
                    lambda: _overhead(server, config, ports[0]),
                    min(rounds, 3),
                )
            )
        finally:
            server.stop()
    write_results("spanning", cases)


def _case(name: str, measure: Callable[[], Awaitable[Sample]], rounds: int) -> dict[str, object]:
    print(name)
    samples = []
    for number in range(rounds):
        sample = uvloop.run(measure())  # type: ignore[arg-type]
        samples.append(sample)
        print(f"  round {number + 1}: {_told(sample)}", flush=True)
    middle = median(samples)
    print(f"  median:  {_told(middle)}", flush=True)
    return {"case": name, "median": _told(middle), "rounds": [_told(sample) for sample in samples]}


def _told(sample: Sample) -> str:
    cpu = "" if sample.cpu_ms is None else f", {sample.cpu_ms:.3f} ms CPU a source's question"
    return f"{sample.per_s:.1f}/s{cpu}" + "".join(
        f", {name} {value:.1f}" for name, value in sample.more.items()
    )


@contextlib.contextmanager
def _fleet(folder: Path, count: int, latency_s: float) -> Iterator[list[int]]:
    ports = free_ports(count)
    environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
    processes = []
    try:
        for port in ports:
            command = [
                *(sys.executable, "-m", "services.pacs", str(port)),
                *(str(latency_s), str(_PATIENTS), str(ROWS)),
            ]
            processes.append(Process(command, log=folder / f"pacs-{port}.log", env=environment))
        for process, port in zip(processes, ports, strict=True):
            process.wait_until(lambda port=port: can_connect(port), "listen")  # type: ignore[misc]
        yield ports
    finally:
        for process in processes:
            process.stop()


def _configure(server: IsocenterServer, ports: list[int], **fields: Any) -> int:
    config: int = call(server, "/api/v1/config/spanner/", {"name": "fleet", "cache_seconds": 0, **fields})[
        "id"
    ]
    for number, port in enumerate(ports):
        source = {
            "name": f"PACS {number}",
            "type": "dimse",
            "ae_title": f"PACS{number}",
            "host": "127.0.0.1",
            "port": port,
            "limits": {"at_once": 128, "waiting": 10_000},
        }
        made = call(server, "/api/v1/sources", source)
        call(server, f"/api/v1/config/spanner/{config}/sources/", {"source_id": made["id"]})
    return config


def call(server: IsocenterServer, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(server: IsocenterServer) -> Connection:
    address = urlsplit(server.url)
    return await asyncio.open_connection(address.hostname, address.port, limit=1 << 22)


async def _ask(connection: Connection, config: int, patient: int) -> float:
    """Seconds until the whole answer was there."""
    reader, writer = connection
    path = f"/api/v1/spanner/qido/studies?spanner_config_id={config}&PatientID=P{patient}"
    begun_s = time.perf_counter()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    body = await read_answer(reader)
    took_s = time.perf_counter() - begun_s
    found = body.count(b'"0020000D"')
    if found != ROWS:
        raise SystemExit(f"{found} studies instead of {ROWS}: {body[:300]!r}")
    return took_s


async def _burst(server: IsocenterServer, config: int, patients: list[int]) -> Sample:
    connections = [await _connect(server) for _ in patients]
    cpu, begun_s = cpu_s(server.pid), time.perf_counter()
    took = sorted(
        await asyncio.gather(
            *(_ask(one, config, patient) for one, patient in zip(connections, patients, strict=True))
        )
    )
    elapsed_s = time.perf_counter() - begun_s
    cpu = cpu_s(server.pid) - cpu
    for _, writer in connections:
        writer.close()
    return _sample(took, elapsed_s, cpu / len(patients) / ARCHIVES * 1000)


async def _one_by_one(server: IsocenterServer, config: int, patients: Iterator[int]) -> Sample:
    connection = await _connect(server)
    cpu, begun_s = cpu_s(server.pid), time.perf_counter()
    took = sorted([await _ask(connection, config, next(patients)) for _ in range(50)])
    elapsed_s, cpu = time.perf_counter() - begun_s, cpu_s(server.pid) - cpu
    connection[1].close()
    return _sample(took, elapsed_s, cpu / len(took) / ARCHIVES * 1000)


def _sample(took: list[float], elapsed_s: float, cpu_ms: float | None) -> Sample:
    marks = {
        "p50 ms": took[len(took) // 2] * 1000,
        "p95 ms": took[len(took) * 95 // 100] * 1000,
        "p99 ms": took[len(took) * 99 // 100] * 1000,
    }
    return Sample(len(took) / elapsed_s, cpu_ms, marks)


async def _first_row(server: IsocenterServer, config: int, patients: Iterator[int]) -> Sample:
    """From the question to the first event, less the archives' 50 ms."""
    took = []
    begun_s = time.perf_counter()
    for _ in range(30):
        reader, writer = await _connect(server)
        path = f"/api/v1/spanner/qido/studies?spanner_config_id={config}&PatientID=P{next(patients)}"
        asked_s = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
        await reader.readuntil(b"event: rows")
        took.append(time.perf_counter() - asked_s - LATENCY_S)
        writer.close()
    return _sample(sorted(took), time.perf_counter() - begun_s, None)


async def _overhead(server: IsocenterServer, config: int, port: int) -> Sample:
    """p50 of both, alternating, and what spanning adds."""
    connection = await _connect(server)
    peer = Peer("127.0.0.1", port, "PACS0", "BENCH")
    keys = dict.fromkeys(
        map(tag_of, ("StudyInstanceUID", "PatientName", "StudyDate", "PatientBirthDate")), ""
    )
    spanned, direct = [], []
    begun_s = time.perf_counter()
    async with Remotes() as remotes:
        for patient in range(300):
            spanned.append(await _ask(connection, config, patient))
            asked_s = time.perf_counter()
            question = Question(Level.STUDY, {**keys, tag_of("PatientID"): f"P{patient}"})
            found = [match async for match in find(remotes, peer, question)]
            direct.append(time.perf_counter() - asked_s)
            assert len(found) == ROWS
    connection[1].close()
    middle_spanned, middle_direct = (sorted(took)[len(took) // 2] * 1000 for took in (spanned, direct))
    return Sample(
        600 / (time.perf_counter() - begun_s),
        None,
        {
            "spanned p50 ms": middle_spanned,
            "direct p50 ms": middle_direct,
            "added ms": middle_spanned - middle_direct,
        },
    )
