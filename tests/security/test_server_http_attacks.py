"""The whole server attacked on its HTTP port, with a well-behaved sender at work all the while."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from isocenter.dicom.part10 import encode_file_meta
from services.archive import CT
from services.attacked import (
    MARKED_NAME,
    AttackedServer,
    HttpAnswer,
    image,
    multipart,
    read_answer,
    running,
)
from services.hostile_data import DEFLATED, deflate_bomb, nested_sequences
from services.under_attack import next_image, under_attack

STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}
PART = b"--B\r\nContent-Type: application/dicom\r\n\r\n"
FLAGS = ("--min-free-disk", "0", "--memory-budget", "64MB")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedServer]:
    with running(tmp_path_factory.mktemp("attacked-http") / "server", *FLAGS) as server:
        yield server


@pytest.fixture
async def attacked(server: AttackedServer) -> AsyncIterator[AttackedServer]:
    async with under_attack(server):
        yield server


@contextlib.asynccontextmanager
async def connection(
    server: AttackedServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # what is still unsent is of no use to anybody


async def raw(server: AttackedServer, *pieces: bytes, timeout_s: float = 40) -> HttpAnswer | None:
    """The answer to these very bytes; None where the server hung up instead."""
    async with asyncio.timeout(timeout_s), connection(server) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        try:
            return await read_answer(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


# --- requests that are none

GET = b"GET /dicom-web/studies HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\n"
HEADS = {
    "header of 10 MB": [GET, b"X-Long: ", *[b"a" * 100_000] * 100, b"\r\n\r\n"],
    "headers without end": [GET, *[b"X-Another: one\r\n" * 10_000] * 100],
    "address of 10 MB": [b"GET /", *[b"a" * 100_000] * 100, b" HTTP/1.1\r\n\r\n"],
    "query of 1 MB": [
        b"GET /dicom-web/studies?PatientID=",
        b"a" * 1_000_000,
        b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    "no HTTP": [bytes(range(256)) * 100],
    "a DICOM association": [b"\1\0\0\0\0\xcd\0\1\0\0ISOCENTER" + bytes(200)],
    "two lengths": [
        b"POST /dicom-web/studies HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"
    ],
    "length and chunks": [POST, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    "negative length": [b"POST /dicom-web/studies HTTP/1.1\r\nContent-Length: -1\r\n\r\n"],
    "chunk of 16 EB": [POST, b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"],
    "header with a NUL": [GET, b"X-Nul: a\0b\r\n\r\n"],
    "folded header": [GET, b"X-Fold: a\r\n b\r\n\r\n"],
    "HTTP/9.9": [b"GET / HTTP/9.9\r\n\r\n"],
}


@pytest.mark.parametrize("pieces", HEADS.values(), ids=HEADS)
async def test_hostile_heads(attacked: AttackedServer, pieces: list[bytes]) -> None:
    answers = await asyncio.gather(*(raw(attacked, *pieces) for _ in range(4)))
    assert all(answer is None or 400 <= answer.status < 500 for answer in answers)


async def test_five_hundred_that_never_finish_asking(attacked: AttackedServer) -> None:
    """They keep nobody out while they are there; that they are given up is test_http_connections' matter."""
    async with contextlib.AsyncExitStack() as opened:
        several = [await opened.enter_async_context(connection(attacked)) for _ in range(500)]
        for number, (_, writer) in enumerate(several):
            writer.write(GET[: number % len(GET)])
        for _ in range(3):
            one = next_image()
            assert await attacked.c_store(one) == 0
            assert (await attacked.http("GET", f"/dicom-web/studies/{one.study}/metadata")).status == 200


@pytest.mark.parametrize(
    "method", ["TRACE", "OPTIONS", "HEAD", "PUT", "PATCH", "CONNECT", "PROPFIND", "BREW"]
)
async def test_methods(attacked: AttackedServer, method: str) -> None:
    for target in ("/dicom-web/studies", "/dicom-web/studies/1.2.3", "/", "/health/live", "*"):
        async with asyncio.timeout(10), connection(attacked) as (reader, writer):
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-Secret: mirrored\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.read()
        status = int(answer.split(b" ")[1])
        assert status < 500 or status == 501, (target, answer)
        assert b"mirrored" not in answer


# --- bodies


async def endless(piece: bytes, head: bytes = b"", pieces: int = 200) -> AsyncIterator[bytes]:
    yield head
    for _ in range(pieces):
        yield piece


@pytest.mark.parametrize(
    "path", ["/dicom-web/studies?PatientID=1", "/api/v1/ae-titles", "/health/ready", "/"]
)
async def test_bodies_where_none_is_wanted(attacked: AttackedServer, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        with contextlib.suppress(ConnectionError):  # hung up on: an answer too
            answer = await attacked.http(method, path, body=endless(bytes(1 << 20)), timeout_s=20)
            assert answer.status < 500, (method, answer)


async def test_body_that_breaks_off(attacked: AttackedServer) -> None:
    """Chunks that go on and on as one object: to the disk, and gone when the sender is."""

    async def send() -> None:
        async with connection(attacked) as (_, writer):
            head = "".join(f"{name}: {value}\r\n" for name, value in STOW.items())
            writer.write(POST + f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            async for piece in endless(bytes(1 << 20), PART + next_image().file, 50):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()

    await asyncio.gather(*(send() for _ in range(4)))
    spool = attacked.data_dir / "spool"
    await asyncio.to_thread(attacked.wait_until, lambda: not list(spool.iterdir()), "empty spool folder")


OBJECT = image(1).file
BODIES = {
    "nothing": b"",
    "100,000 tiny parts": (PART + b"x\r\n") * 100_000 + b"--B--\r\n",
    "100,000 empty parts": (PART + b"\r\n") * 100_000 + b"--B--\r\n",
    "part headers of 10 MB": b"--B\r\n" + b"X: y\r\n" * 1_700_000 + b"\r\n",
    "boundary within the object": multipart([OBJECT[:200] + b"\r\n--B\r\n" + OBJECT[200:]]),
    "no closing boundary": PART + OBJECT,
    "line feeds only": multipart([OBJECT]).replace(b"\r\n", b"\n"),
    "content type with line breaks": b"--B\r\nContent-Type: a\r\n\tSet-Cookie: x=y\r\n\r\n"
    + OBJECT
    + b"\r\n--B--",
    "gzip": gzip.compress(bytes(100_000_000)),
    "nested 100,000 deep": multipart([nested_sequences(100_000)]),
    "an object twice in one request": multipart([OBJECT, OBJECT[:-4] + b"zzzz"]),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_hostile_bodies(attacked: AttackedServer, body: bytes) -> None:
    encodings = [{"Content-Encoding": "gzip"}, {}] if body[:2] == b"\x1f\x8b" else [{}]
    for encoding in encodings:
        answers = await asyncio.gather(
            *(
                attacked.http("POST", "/dicom-web/studies", headers=STOW | encoding, body=body)
                for _ in range(2)
            )
        )
        for answer in answers:
            assert 200 < answer.status < 500, answer
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("tag", [0x7FE00010, 0x00091010, None], ids=["pixels", "before", "elements"])
async def test_deflate_bombs(attacked: AttackedServer, tag: int | None) -> None:
    one = next_image()
    header = encode_file_meta(sop_class_uid=CT, sop_instance_uid=one.sop, transfer_syntax_uid=DEFLATED)
    body = multipart([header + deflate_bomb(one, tag)] * 3)
    begun_s = time.monotonic()
    answer = await attacked.http("POST", "/dicom-web/studies", headers=STOW, body=body)
    assert answer.status == 409
    assert time.monotonic() - begun_s < 30


async def test_deflate_bombs_imported(attacked: AttackedServer, tmp_path) -> None:
    folder = tmp_path / "cd"
    folder.mkdir()
    for number, tag in enumerate((0x7FE00010, 0x00091010, None)):
        header = encode_file_meta(
            sop_class_uid=CT, sop_instance_uid=f"2.25.{number}", transfer_syntax_uid=DEFLATED
        )
        (folder / f"{number}.dcm").write_bytes(header + deflate_bomb(image(0), tag))
    command = ("prlimit", "--data=1000000000", "--")
    done = await asyncio.to_thread(attacked.command, "import", str(folder), launcher=command)
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode in {0, 1}


# --- questions

QUERIES = {
    "10,000 includefields": "&".join(["includefield=PatientName"] * 10_000),
    "an includefield of 10,000": "includefield=" + ",".join(["00100010"] * 5_000),
    "10,000 patterns": "&".join(f"PatientName=a{n}*" for n in range(2_000)),
    "SQL": "PatientID='%20OR%201=1;%20DROP%20TABLE%20instance;--",
    "SQL in a name": "PatientID');DROP%20TABLE%20instance;--=1",
    "NUL": "PatientID=a%00b",
    "no UTF-8": "PatientName=%ff%fe%80",
    "a surrogate": "PatientName=%ed%a0%80",
    "stars": "PatientName=" + "*a" * 400 + "b",
    "percent signs": "PatientName=" + "%25_" * 300 + "*",
    "a number of 10,000 digits": "InstanceNumber=" + "9" * 10_000,
    "an endless limit": "limit=99999999999999999999",
    "a negative offset": "offset=-1",
    "dates": "StudyDate=" + "-" * 1_000,
    "markup": "PatientName=<script>alert(1)</script>&<b>=1",
    "nested": ".".join(["00081140"] * 1_000) + "=1",
    "braces": "{}[]=&&&===;;;",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_hostile_searches(attacked: AttackedServer, query: str) -> None:
    for level in ("studies", "series", "instances"):
        begun_s = time.monotonic()
        answer = await attacked.http("GET", f"/dicom-web/{level}?{query}")
        assert time.monotonic() - begun_s < 5
        assert answer.status < 500, answer
        assert "json" in answer.headers["content-type"]
        assert answer.headers["x-content-type-options"] == "nosniff"


PATHS = [
    "/dicom-web/studies/..%2f..%2f..%2fetc%2fpasswd",
    "/dicom-web/studies/../../../../etc/passwd",
    "/dicom-web/studies/%2e%2e/%2e%2e/isocenter.db",
    "/dicom-web/studies/1.2.3/series/%00",
    "/dicom-web/studies/1.2.3/series/1/instances/1%0d%0aSet-Cookie:%20a=b",
    "/dicom-web/studies/" + "1." * 5_000 + "1",
    "/dicom-web/studies/%ff%fe/metadata",
    "/dicom-web/studies/*/metadata",
    "/dicom-web//studies///",
    "//dicom-web/studies",
    "/objects/1/00/",
    "/dicom-web/studies/1.2.3'%20OR%20'1'='1/metadata",
    "/dicom-web/studies/1/series/2/instances/3/frames/" + ",".join(["1"] * 10_000),
    "/dicom-web/studies/1/series/2/instances/3/frames/-1",
    "/api/v1/quarantine/..%2f..%2f1",
    "/api/v1/quarantine/99999999999999999999999999",
    "/api/v1/quarantine/99999999999999999999999999999999",
    "/api/v1/changes?after=99999999999999999999999999",
    "/api/v1/quarantine?limit=99999999999999999999999999",
    "http://example.org/dicom-web/studies",
]


@pytest.mark.parametrize("path", PATHS)
async def test_hostile_paths(attacked: AttackedServer, path: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await attacked.http(method, path)
        assert answer.status < 500, (method, answer)
        assert b"root:" not in answer.body
        assert "set-cookie" not in answer.headers


RANGES = [
    "bytes=" + ",".join(["0-"] * 10_000),
    "bytes=" + ",".join(f"{n}-{n}" for n in range(500)),
    "bytes=5-1",
    "bytes=-99999999999999999999",
    "bytes=99999999999999999999-",
    "bytes=-0",
    "bytes=--1",
    "lines=1-2",
    "bytes=\u0661-",
]


@pytest.mark.parametrize("asked", RANGES, ids=range(len(RANGES)))
async def test_hostile_ranges(attacked: AttackedServer, asked: str) -> None:
    """Never more than the object, whole or in part."""
    one = next_image(pixels=bytes(range(256)) * 400)
    assert await attacked.c_store(one) == 0
    path = f"/dicom-web/studies/{one.study}/series/{one.series}/instances/{one.sop}"
    headers = {"Range": asked.encode().decode("latin-1"), "Accept": "application/dicom; transfer-syntax=*"}
    answer = await attacked.http("GET", path, headers=headers)
    assert answer.status in {200, 206, 400, 416}
    assert len(answer.body) < 2 * len(one.file)


@pytest.mark.parametrize(
    "name", ["Accept", "Accept-Encoding", "If-None-Match", "traceparent", "Host", "Cookie"]
)
async def test_hostile_headers(attacked: AttackedServer, name: str) -> None:
    values: list[Callable[[], str]] = [
        lambda: ",".join(["a/b;q=0.1"] * 4_000),
        lambda: ";" * 30_000,
        lambda: '"' + "\\" * 30_000,
        lambda: "\xff\xfe<script>",
        lambda: "(" * 30_000,
    ]
    for value in values:
        begun_s = time.monotonic()
        answer = await attacked.http("GET", "/dicom-web/studies", headers={name: value()})
        assert time.monotonic() - begun_s < 3
        assert answer.status < 500
        assert b"<script>" not in answer.body


async def test_markup_in_names(attacked: AttackedServer) -> None:
    """Answers are JSON that no browser takes for a page."""
    name = f"{MARKED_NAME}<script>alert(1)</script>\"'--><b>"  # an equals sign would begin another group
    one = next_image(study="2.25.777", series="2.25.777.1", patient_id="MARKEDID-2", name=name)
    assert await attacked.c_store(one) == 0
    for path in (
        f"/dicom-web/studies?StudyInstanceUID={one.study}",
        f"/dicom-web/studies/{one.study}/metadata",
    ):
        answer = await attacked.http("GET", path, headers={"Accept": "*/*"})
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/dicom+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert json.loads(answer.body)[0]["00100010"]["Value"][0]["Alphabetic"] == name
