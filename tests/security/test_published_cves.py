"""Published weaknesses of other archives, by their numbers, against the whole server.

What another test shows already is named in `ELSEWHERE` and not repeated. Each case runs beside a well-behaved
sender, within bounded memory, and with nothing of ours broken afterwards (`under_attack`).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from isocenter.dicom.json_dataset import elements_from_json
from isocenter.dimse.net.client import Proposal, connect
from isocenter.dimse.net.errors import AssociationRejected
from isocenter.kit.errors import InvalidInput
from isocenter.platform.settings import Settings
from isocenter.platform.storage.keys import check_key
from isocenter.platform.storage.open import open_store
from services.archive import CT, EXPLICIT, Image, part10
from services.attacked import AttackedServer, HttpAnswer, multipart, running
from services.under_attack import next_image, under_attack

HERE = Path(__file__).parent
STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}

ELSEWHERE = {
    "CVE-2026-5438 Orthanc: gzip bomb": ("test_server_http_attacks.py", "test_hostile_bodies", '"gzip"'),
    "deflate bomb in a data set": ("test_server_http_attacks.py", "test_deflate_bombs", "pixels"),
    "nested-sequence bomb by HTTP": ("test_server_http_attacks.py", "test_hostile_bodies", "nested 100,000"),
    "nested-sequence bomb by DIMSE": ("test_server_dimse_attacks.py", "test_hostile_objects", "nested"),
    "stored XSS in patient names": ("test_server_http_attacks.py", "test_markup_in_names", "<script>"),
    "path traversal in URLs": ("test_server_http_attacks.py", "test_hostile_paths", "%2e%2e"),
    "header injection by a UID": ("test_server_http_attacks.py", "test_hostile_paths", "%0d%0aSet-Cookie"),
    "header injection by a file name": ("test_http_guards.py", "test_hostile_file_names", "Set-Cookie"),
    "CVE-2025-0896 Orthanc: no authentication": (
        "test_http_declarations.py",
        "test_every_route_says_who_may_call_it",
        "undeclared",
    ),
}


@pytest.mark.parametrize(("file", "test", "word"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_shown_elsewhere(file: str, test: str, word: str) -> None:
    source = (HERE / file).read_text(encoding="utf-8")
    assert f"def {test}(" in source and word in source


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedServer]:
    flags = ("--min-free-disk", "0", "--memory-budget", "64MB")
    with running(tmp_path_factory.mktemp("cves") / "server", *flags) as server:
        yield server


@pytest.fixture
async def attacked(server: AttackedServer) -> AsyncIterator[AttackedServer]:
    async with under_attack(server):
        yield server


async def stow(server: AttackedServer, *files: bytes) -> HttpAnswer:
    return await server.http("POST", "/dicom-web/studies", headers=STOW, body=multipart(files))


async def as_it_came(server: AttackedServer, one: Image) -> bytes:
    """The object's data set, as WADO-RS gives it back."""
    path = f"/dicom-web/studies/{one.study}/series/{one.series}/instances/{one.sop}"
    answer = await server.http("GET", path, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert answer.status == 200, answer
    return answer.body


# --- CVE-2026-5437 Orthanc: out-of-bounds read in the file meta information

META_LENGTHS = {
    "group longer than the file": struct.pack("<I", 0xFFFFFFF0),
    "group shorter than its elements": struct.pack("<I", 4),
    "group of odd length": struct.pack("<I", 61),
    "group without end": struct.pack("<I", 0xFFFFFFFF),
}


@pytest.mark.parametrize(
    "length", META_LENGTHS.values(), ids=[f"CVE-2026-5437 {case}" for case in META_LENGTHS]
)
async def test_file_meta_that_lies_about_its_length(attacked: AttackedServer, length: bytes) -> None:
    file = next_image().file
    lying = file[:140] + length + file[144:]
    answer = await stow(attacked, lying)
    assert answer.status in {200, 202, 409}, answer


@pytest.mark.parametrize("at", [150, 158, 180, 240], ids=lambda at: f"CVE-2026-5437 value length at {at}")
async def test_file_meta_values_that_leave_their_group(attacked: AttackedServer, at: int) -> None:
    file = bytearray(next_image().file)
    file[at : at + 2] = b"\xff\xff"
    assert (await stow(attacked, bytes(file))).status in {200, 202, 400, 409}


# --- CVE-2026-5439 Orthanc: memory by the sizes that a ZIP archive claims


def zip_that_lies() -> bytes:
    """A few hundred bytes that claim to be 4 GB."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.dcm", bytes(100_000))
    content = archive.getvalue()
    return content.replace(struct.pack("<I", 100_000), struct.pack("<I", 0xFFFFFFF0))


@pytest.mark.parametrize(
    "kind", ["application/zip", "application/dicom"], ids=lambda kind: f"CVE-2026-5439 {kind}"
)
async def test_zip_archives_that_claim_gigabytes(attacked: AttackedServer, kind: str) -> None:
    bare = await attacked.http(
        "POST", "/dicom-web/studies", headers={"Content-Type": kind}, body=zip_that_lies()
    )
    assert 400 <= bare.status < 500
    assert (await stow(attacked, zip_that_lies())).status == 409


# --- CVE-2026-5440 Orthanc: memory by what Content-Length claims


@pytest.mark.parametrize("claimed", [1 << 32, 1 << 40, 1 << 62], ids=lambda n: f"CVE-2026-5440 {n}")
@pytest.mark.parametrize("path", ["/dicom-web/studies", "/api/v1/ae-titles", "/health/live"])
async def test_content_length_that_claims_gigabytes(
    attacked: AttackedServer, path: str, claimed: int
) -> None:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", attacked.http_port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {claimed}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in STOW.items())
        writer.write(head.encode() + b"\r\n--B\r\n")
        await writer.drain()
        if path != "/dicom-web/studies":  # where objects come in, as much may come as is sent
            assert b" 413 " in await reader.readline()
        writer.transport.abort()


# --- CVE-2026-5441 to 5445 Orthanc: decoders that leave their buffers; here nothing is decoded on arrival


def hostile_pixels() -> dict[str, Image]:
    lookup = ((0x00281101, "US", struct.pack("<3H", 0, 0, 16)), (0x00281201, "OW", b"\1\2"))
    palette = (*lookup, (0x00280004, "CS", "PALETTE COLOR"), (0x00280100, "US", struct.pack("<H", 8)))
    large = (
        (0x00280010, "UL", struct.pack("<I", 0xFFFFFFFF)),
        (0x00280011, "UL", struct.pack("<I", 0xFFFFFFFF)),
    )
    many = ((0x00280008, "IS", "2147483647"),)
    philips = ((0x07A10010, "LO", "ELSCINT1"), (0x07A1100A, "OB", b"\xff" * 64))
    pam = b"P7\nWIDTH 4294967295\nHEIGHT 4294967295\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    return {
        "CVE-2026-5441 Philips compression": Image(more=philips, pixels=b"\xa5\xff\xff\x5a" * 8),
        "CVE-2026-5442 rows and columns of 32 bits": Image(more=large),
        "CVE-2026-5443 palette that is too short": Image(more=palette, pixels=b"\xff" * 64),
        "CVE-2026-5444 PAM that claims 4 G by 4 G": Image(pixels=pam),
        "CVE-2026-5445 index beyond the table": Image(more=(*palette, *many), pixels=b"\xff\xff"),
    }


@pytest.mark.parametrize("case", hostile_pixels())
async def test_pixels_that_decoders_fall_for(attacked: AttackedServer, case: str) -> None:
    """Kept as they came; whatever is asked of them afterwards is answered or refused."""
    given = hostile_pixels()[case]
    fresh = next_image()
    one = given.but(sop=fresh.sop, series=fresh.series, study=fresh.study, patient_id=fresh.patient_id)
    one = one.but(name=fresh.name)
    assert await attacked.c_store(one) == 0
    assert (await as_it_came(attacked, one)).endswith(one.data_set)
    path = f"/dicom-web/studies/{one.study}/series/{one.series}/instances/{one.sop}"
    for asked in (
        "/metadata",
        "/frames/1",
        "/frames/2147483647",
        "/bulkdata/7FE00010",
        "/rendered",
        "/thumbnail",
    ):
        answer = await attacked.http("GET", path + asked, headers={"Accept": "*/*"})
        assert answer.status < 500 or answer.status == 501, (asked, answer)
        assert len(answer.body) < 100_000


# --- files that are overwritten, by name or UID

TRAVERSALS = {
    "climbs": "../../../../tmp/evil",
    "climbs on Windows": "..\\..\\evil",
    "absolute": "/etc/passwd",
    "within a UID": "1.2/../../3",
    "after a NUL": "1.2\x00.3",
    "home": "~/.ssh/id",
    "drive": "C:\\x",
}


def files_beside(server: AttackedServer) -> set[Path]:
    """What lies around the data folder, where a path that climbs would lead."""
    found = (path for path in server.folder.parent.rglob("*") if path.is_file())
    return {path for path in found if not path.is_relative_to(server.data_dir)}


@pytest.mark.parametrize("case", TRAVERSALS, ids="CVE-2022-2119 CVE-2023-33466 CVE-2026-50003 {}".format)
async def test_uids_that_are_paths(attacked: AttackedServer, case: str) -> None:
    """Names in the store are made of hashes: nothing of an object gets into a path."""
    uid = TRAVERSALS[case]
    beside = files_beside(attacked)
    fresh = next_image()
    for evil in (fresh.but(sop=uid), fresh.but(study=uid), fresh.but(series=uid)):
        answer = await stow(attacked, part10(evil.data_set, uid, CT))
        assert answer.status in {202, 400, 409}
        with contextlib.suppress(InvalidInput):  # our own client refuses some of them before they are sent
            assert await attacked.c_store(evil) != 0
    assert files_beside(attacked) == beside
    objects = attacked.data_dir / "objects"
    for path in objects.glob("[!.]*/**/*"):
        assert set("/".join(path.relative_to(objects).parts)) <= set("0123456789abcdef./")


CALLED = ["../OTHER", "/etc/passwd", "ISOCENTER/../B", "ISOCENTER/."]


@pytest.mark.parametrize("title", CALLED, ids="CVE-2026-52868 {}".format)
async def test_called_titles_that_are_paths(attacked: AttackedServer, title: str) -> None:
    """DCMTK's worklist took the called AE title for a folder; here it is compared and nothing else."""
    titles = {"calling_ae_title": "ATTACKED", "called_ae_title": title}
    contexts = (Proposal(CT, (EXPLICIT,)),)
    with pytest.raises(AssociationRejected):
        await connect("127.0.0.1", attacked.dicom_port, contexts=contexts, **titles)


KEYS = [
    *("../x", "a/../../x", "/etc/passwd", "a//b", ".hidden", "a/.b"),
    *("a\\..\\b", "a\0b", "a\nb", "", "a" * 901, "\u00e4"),
]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_object_keys_that_leave_the_store(key: str) -> None:
    with pytest.raises(InvalidInput):
        check_key(key)


# --- headers and log lines

INJECTIONS = ["A\r\nSet-Cookie: a=b", "A\nB", "A\x00B", "A\x1b[31mB", "A\\B"]


@pytest.mark.parametrize("title", INJECTIONS, ids=range(len(INJECTIONS)))
async def test_ae_titles_inject_no_header(attacked: AttackedServer, title: str) -> None:
    answer = await attacked.http(
        "POST",
        "/api/v1/ae-titles",
        headers={"Content-Type": "application/json"},
        body=json.dumps({"title": title}).encode(),
    )
    assert answer.status == 400
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"


async def test_names_inject_no_header_and_no_log_line(attacked: AttackedServer) -> None:
    one = next_image(name="MARKED^A\x1b[31m", description="x\u2028y".encode("utf-8").decode("latin-1"))
    assert (await stow(attacked, one.file)).status in {200, 202, 409}
    for line in attacked.log.read_text().splitlines():
        assert "\x1b[31m" not in line


# --- addresses that the server is made to call (SSRF)

FOREIGN = ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://127.0.0.1:6379/_SET"]


@pytest.mark.parametrize("url", FOREIGN)
def test_bulk_data_of_foreign_addresses_is_not_fetched(url: str) -> None:
    body = json.dumps({"7FE00010": {"vr": "OW", "BulkDataURI": url}})
    with pytest.raises(InvalidInput, match="cannot be fetched"):
        elements_from_json(json.loads(body))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (name, url)
        for name in ("storage_endpoint", "public_url")
        for url in ("file:///etc/passwd", "gopher://x")
    ]
    + [("storage_url", url) for url in ("http://169.254.169.254/", "ftp://x/y", "javascript:alert(1)")]
    + [("database_url", url) for url in ("http://169.254.169.254/", "file:///etc/passwd")],
)
def test_settings_take_no_foreign_scheme(name: str, url: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({name: url})


@pytest.mark.parametrize(
    "url", ["file://other.example/etc", "s3://user:key@bucket", "file:///x?endpoint=http://y"]
)
def test_storage_urls_that_smuggle(url: str) -> None:
    with pytest.raises(InvalidInput):
        open_store(url)
