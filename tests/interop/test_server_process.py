"""The server as a process: health, its end, many senders, its twins (PostgreSQL, S3), its neighbours."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import orjson
import pydicom
import pytest

from isocenter.dimse.net.client import Proposal, connect
from isocenter.dimse.net.errors import AssociationAborted, DimseFailure
from services.archive import CT, EXPLICIT, Image
from services.dcmtk import Dcmtk
from services.dicomweb import BOUNDARY
from services.isocenter import Isocenter, attribute, s3_flags
from services.postgres import Postgres
from services.radosgw import RadosGateway
from services.series import new_series, write_files

PATIENT_ID = "00100020"


def test_health(isocenter: Isocenter) -> None:
    assert isocenter.request("GET", "/health/live")[0] == 200
    assert isocenter.request("GET", "/health/ready") == (200, b'{"status":"ready"}')


def test_two_servers_know_nothing_of_each_other(start_isocenter: Callable[..., Isocenter]) -> None:
    one, other = start_isocenter(), start_isocenter()
    [image] = new_series(1)
    one.store([image])
    assert len(one.found("/studies")) == 1
    assert other.found("/studies") == []
    assert (len(one.objects()), len(other.objects())) == (1, 0)


def test_what_it_had_it_has_again(start_isocenter: Callable[..., Isocenter], tmp_path: Path) -> None:
    """Stopped and started on the same folder; on a port that is taken it says so, and ends with 1."""
    first = start_isocenter()
    images = new_series(3)
    first.store(images)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = first.run("serve", "--http-port", port, "--dicom-port", "0")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"isocenter: Port {port} for HTTP cannot be opened")
    assert first.terminate() == 0
    second = start_isocenter(data_folder=first.data_folder)
    assert all(second.stored_file(image) == image.file for image in images)
    assert "Traceback" not in first.log.read_text() + second.log.read_text()


def check_everything_works(server: Isocenter, dcmtk: Dcmtk, folder: Path) -> None:
    """One object by each door and back, searches at both, deletion, and nothing wrong with the store."""
    by_dimse, by_web = new_series(5, name="TWIN^ONE", pixels=300_000), new_series(5, name="TWIN^TWO")
    sent = dcmtk.run("storescu", *server.called, *write_files(folder / "files", by_dimse))
    assert sent.returncode == 0, sent.stdout
    server.store(by_web)
    for image in (*by_dimse, *by_web):
        kept = pydicom.dcmread(io.BytesIO(server.stored_file(image)))
        assert kept == pydicom.dcmread(io.BytesIO(image.file))
    assert len(server.found("/studies?PatientName=TWIN*")) == 2
    level = ("-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=TWIN*")
    found = dcmtk.run("findscu", "-v", "-S", *level, *server.called)
    assert found.stdout.count("Find Response:") == 2, found.stdout
    series = f"/studies/{by_web[0].study}/series/{by_web[0].series}"
    assert len(server.json(f"/dicom-web{series}/metadata")) == 5
    assert server.request("DELETE", f"/dicom-web/studies/{by_web[0].study}")[0] in {200, 204}
    assert len(server.found("/studies?PatientName=TWIN*")) == 1
    checked = server.run("storage", "check", "--json")
    [report] = orjson.loads(checked.stdout)["organizations"]
    assert (report["rows"], report["missing_count"], report["damaged_count"]) == (10, 0, 0), (
        "what was deleted waits"
    )


def test_postgresql_and_s3(
    start_isocenter: Callable[..., Isocenter],
    postgres: Postgres,
    postgres_url: str,
    radosgw: RadosGateway,
    dcmtk: Dcmtk,
    tmp_path: Path,
) -> None:
    flags, keys = s3_flags(radosgw.account, radosgw.bucket())
    server = start_isocenter("--database-url", postgres_url, *flags, environ=keys)
    check_everything_works(server, dcmtk, tmp_path)
    assert server.objects() == []
    assert not (server.data_folder / "isocenter.db").exists()
    assert server.terminate() == 0
    assert keys["ISOCENTER_STORAGE_SECRET_KEY"] not in server.log.read_text()


def test_sqlite_and_a_folder(start_isocenter: Callable[..., Isocenter], dcmtk: Dcmtk, tmp_path: Path) -> None:
    """Which was empty."""
    server = start_isocenter(migrated=False)
    check_everything_works(server, dcmtk, tmp_path)
    assert server.terminate() == 0


def senders_of_one_patient(count: int) -> list[Image]:
    """One study each, of a patient that nobody has seen before."""
    return [new_series(1, name="MANY^SENDERS", patient_id="NEW")[0] for _ in range(count)]


def is_one_patient(server: Isocenter, images: list[Image], dcmtk: Dcmtk) -> None:
    assert len(server.found("/studies?PatientID=NEW")) == len(images)
    keys = ("-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=NEW", "-k", "NumberOfPatientRelatedStudies")
    found = dcmtk.run("findscu", "-v", "-P", *keys, *server.called)
    assert found.stdout.count("Find Response:") == 1, found.stdout
    assert f"[{len(images)}" in found.stdout


def test_thirty_two_storescu_of_one_new_patient(
    start_isocenter: Callable[..., Isocenter], dcmtk: Dcmtk, tmp_path: Path
) -> None:
    server = start_isocenter()
    images = senders_of_one_patient(32)
    paths = write_files(tmp_path / "files", images)
    with ThreadPoolExecutor(32) as threads:
        sent = list(threads.map(lambda path: dcmtk.run("storescu", *server.called, path), paths))
    assert [one.stdout for one in sent if one.returncode] == []
    is_one_patient(server, images, dcmtk)


async def test_thirty_two_of_our_senders_and_postgresql(
    start_isocenter: Callable[..., Isocenter], postgres_url: str, dcmtk: Dcmtk
) -> None:
    """All of them have their association open before the first object is sent."""
    server = start_isocenter("--database-url", postgres_url)
    images = senders_of_one_patient(32)
    ready = asyncio.Barrier(len(images))

    async def send(image: Image) -> None:
        async with await association_with(server) as association:
            await ready.wait()
            await association.store(CT, image.sop, EXPLICIT, image.data_set)

    async with asyncio.TaskGroup() as tasks:
        for image in images:
            tasks.create_task(send(image))
    is_one_patient(server, images, dcmtk)
    assert server.terminate() == 0  # before its database goes


async def association_with(server: Isocenter):
    return await connect(
        "127.0.0.1",
        server.dicom_port,
        calling_ae_title="SENDER",
        called_ae_title=server.ae_title,
        contexts=[Proposal(CT, (EXPLICIT,))],
    )


async def test_sigterm_while_objects_come(start_isocenter: Callable[..., Isocenter]) -> None:
    """Senders by both doors, in the middle of their work: what was acknowledged is kept."""
    server = start_isocenter()
    acknowledged: list[Image] = []
    under_way = asyncio.Event()

    async def send_many(images: list[Image]) -> None:
        async with await association_with(server) as association:
            for image in images:
                try:
                    await association.store(CT, image.sop, EXPLICIT, image.data_set)
                except (AssociationAborted, DimseFailure):
                    return
                acknowledged.append(image)
                if len(acknowledged) >= 10:
                    under_way.set()

    async def stow_many(images: list[Image]) -> None:
        async with httpx2.AsyncClient(base_url=server.dicom_web_url, timeout=30) as client:
            for image in images:
                try:
                    response = await client.post(
                        "/studies", content=image.file, headers={"Content-Type": "application/dicom"}
                    )
                except httpx2.TransportError:
                    return
                if response.status_code != 200:
                    return
                acknowledged.append(image)

    loads = [new_series(3000) for _ in range(4)]
    tasks = [asyncio.create_task(send_many(load)) for load in loads[:2]]
    tasks += [asyncio.create_task(stow_many(load)) for load in loads[2:]]
    await under_way.wait()
    server.ask_to_end()
    assert await asyncio.to_thread(server.ended, 10) == 0
    await asyncio.gather(*tasks, return_exceptions=True)
    log = server.log.read_text()
    assert log.rstrip().endswith("Stopped.") and "Traceback" not in log

    again = start_isocenter(data_folder=server.data_folder)
    there = {attribute(one, "00080018") for one in again.found("/instances?limit=20000")}
    missing = {image.sop for image in acknowledged} - there
    assert missing == set()
    assert len(acknowledged) >= 10
    [report] = orjson.loads(again.run("storage", "check", "--json").stdout)["organizations"]
    assert report["missing_count"] == report["damaged_count"] == 0


async def nothing_is_left_of_it(server: Isocenter, start_isocenter: Callable[..., Isocenter]) -> None:
    """It ends in time, and another one on the same folder finds no trace of what was half received."""
    assert await asyncio.to_thread(server.ended, 10) == 0
    again = start_isocenter(data_folder=server.data_folder)
    assert again.found("/instances") == []
    assert again.quarantine() == []
    spooled = [path for path in (server.data_folder / "spool").rglob("*") if path.is_file()]
    assert [path for path in spooled if path.name != ".lock"] == []


async def test_sigterm_with_half_a_c_store(start_isocenter: Callable[..., Isocenter]) -> None:
    """The sender never gets to its end: the server does not wait for it for longer than it may."""
    server = start_isocenter()
    [image] = new_series(1, pixels=400_000)
    half_sent, ended = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield image.data_set[:200_000]
        half_sent.set()
        await ended.wait()
        yield image.data_set[200_000:]

    association = await association_with(server)
    sending = asyncio.create_task(association.store(CT, image.sop, EXPLICIT, pieces()))
    await half_sent.wait()
    server.ask_to_end()
    await nothing_is_left_of_it(server, start_isocenter)
    ended.set()
    with pytest.raises(AssociationAborted):
        await sending


async def test_sigterm_with_half_a_stow_request(start_isocenter: Callable[..., Isocenter]) -> None:
    """And the client hears what happened, before the connection goes."""
    server = start_isocenter()
    [image] = new_series(1, pixels=400_000)
    body = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + image.file
    head = (
        "POST /dicom-web/studies HTTP/1.1\r\nHost: isocenter\r\n"
        f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}\r\n'
        f"Content-Length: {2 * len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    writer.write(head.encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    await writer.drain()
    server.ask_to_end()
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert orjson.loads(answer.split(b"\r\n\r\n", 1)[1])["code"] == "stopping"
    await nothing_is_left_of_it(server, start_isocenter)
