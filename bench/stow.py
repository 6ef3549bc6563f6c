"""STOW-RS: 20 objects of 525 KB a request, one request after another on one connection."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from bench.rounds import Sample, alternate, write_results
from bench.servers import IsocenterServer, OrthancServer, both_servers, cpu_s
from bench.synthetic_ct import synthetic_ct

OBJECTS_A_REQUEST = 20
REQUESTS = 10
_BOUNDARY = "isocenter-bench"


def run(rounds: int) -> None:
    bodies = [[body(number * REQUESTS + request) for request in range(REQUESTS)] for number in range(rounds)]
    with both_servers() as (ours, peer, _):
        case = alternate(
            f"STOW-RS, {OBJECTS_A_REQUEST} objects a request",
            lambda number: post(ours, bodies[number]),
            lambda number: post(peer, bodies[number]),
            rounds=rounds,
        )
    write_results("stow", [case])


def body(study: int) -> bytes:
    return body_of([synthetic_ct(study, study, 1, instance) for instance in range(OBJECTS_A_REQUEST)])


def body_of(objects: list[bytes]) -> bytes:
    parts = [
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (_BOUNDARY.encode(), one)
        for one in objects
    ]
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def post(server: IsocenterServer | OrthancServer, bodies: list[bytes]) -> Sample:
    address = urlsplit(server.dicom_web_url)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
        "Accept": "application/dicom+json",
    }
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    for content in bodies:
        connection.request("POST", f"{address.path}/studies", content, headers)
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise SystemExit(f"STOW-RS answered {answer.status}: {told[:500]!r}")
    took = time.perf_counter() - begun
    connection.close()
    count = len(bodies) * OBJECTS_A_REQUEST
    return Sample(count / took, (cpu_s(server.pid) - cpu) / count * 1000)
