"""Rendered slices of 512 x 512 as JPEG, none asked for twice, by WADO-RS of both.

Both read, window and encode each time. Our workers' CPU counts as ours: the machine is busy with them.
"""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench.qido import read_answer
from bench.rounds import Sample, alternate, write_results
from bench.servers import IsocenterServer, OrthancServer, both_servers
from bench.synthetic_ct import (
    series_instance_uid,
    sop_instance_uid,
    study_instance_uid,
    synthetic_ct,
)

SLICES = int(os.environ.get("BENCH_SLICES", "400"))
CLIENTS = 4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def run(rounds: int) -> None:
    with both_servers() as (ours, peer, _):
        paths = _fill(ours)
        _fill(peer)
        for server in (ours, peer):  # workers start when they are first needed
            uvloop.run(_measure(server, paths[:20], 50))
        case = alternate(
            f"GET …/rendered, 512 x 512, {CLIENTS} at once",
            lambda number: uvloop.run(_measure(ours, paths, 90 - number)),
            lambda number: uvloop.run(_measure(peer, paths, 90 - number)),
            rounds=rounds,
        )
        write_results("rendered", [case])


def _fill(server: IsocenterServer | OrthancServer) -> list[str]:
    """Store the slices; their paths below the DICOMweb root."""
    paths = []
    for number in range(SLICES):
        made = synthetic_ct(1, 1, 1, number)
        body = b"--b\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--b--\r\n" % made
        request = urllib.request.Request(
            f"{server.dicom_web_url}/studies",
            body,
            {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()
        uids = study_instance_uid(1), series_instance_uid(1, 1), sop_instance_uid(1, 1, number)
        paths.append("/studies/{}/series/{}/instances/{}".format(*uids))
    return paths


async def _measure(server: IsocenterServer | OrthancServer, paths: list[str], quality: int) -> Sample:
    """``quality`` differs from round to round: nothing is asked for twice."""
    waiting = iter(paths)
    took: list[float] = []
    address = urlsplit(server.dicom_web_url)

    async def work() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for path in waiting:
            begun = time.perf_counter()
            target = f"{address.path}{path}/rendered?quality={quality}"
            head = f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept: image/jpeg\r\n\r\n"
            writer.write(head.encode())
            body = await read_answer(reader)
            if not body.startswith(b"\xff\xd8"):
                raise SystemExit(f"no JPEG at {path}: {body[:100]!r}")
            took.append(time.perf_counter() - begun)
        writer.close()

    cpu, begun = _cpu_of_all_s(server.pid), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    elapsed = time.perf_counter() - begun
    took.sort()
    return Sample(
        len(paths) / elapsed,
        (_cpu_of_all_s(server.pid) - cpu) / len(paths) * 1000,
        {"p50 ms": took[len(took) // 2] * 1000, "p99 ms": took[len(took) * 99 // 100] * 1000},
    )


def _cpu_of_all_s(pid: int) -> float:
    """Of a process and of those that it started."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S
