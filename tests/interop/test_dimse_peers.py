"""Our server and our client against DCMTK and pynetdicom, which nobody here wrote."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
import uvloop
from pydicom.dataset import Dataset, FileMetaDataset

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from dimse_service import (
    CT,
    EXPLICIT,
    IMPLICIT,
    STUDY_FIND,
    VERIFICATION,
    MemoryService,
    serving,
)

from isocenter.dimse.net.bodies import FileBody
from isocenter.dimse.net.client import Proposal, connect
from isocenter.dimse.net.errors import AssociationRejected, ConnectFailed, DimseFailure
from isocenter.dimse.net.server import DimseServer
from isocenter.dimse.net.service import PendingAnswer
from isocenter.dimse.protocol import rejections
from isocenter.dimse.protocol.user_information import AsynchronousOperationsWindow, UserIdentity

UID_ROOT = "1.2.826.0.1.3680043.8.498"
IDENTIFIER = b"\x08\x00\x52\x00CS\x06\x00STUDY \x10\x00\x20\x00LO\x02\x001 "


def ct(number: int, rows: int = 512) -> Dataset:
    data_set = Dataset()
    data_set.SOPClassUID = CT
    data_set.SOPInstanceUID = f"{UID_ROOT}.{number}"
    data_set.PatientID, data_set.Modality = "X1", "CT"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    data_set.Rows = data_set.Columns = rows
    data_set.BitsAllocated = data_set.BitsStored = 16
    data_set.HighBit, data_set.PixelRepresentation, data_set.SamplesPerPixel = 15, 0, 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.PixelData = numpy.random.default_rng(number).integers(0, 4096, rows * rows, "uint16").tobytes()
    data_set["PixelData"].VR = "OW"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = EXPLICIT
    data_set.file_meta.MediaStorageSOPClassUID = CT
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    return data_set


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("slices")
    paths = []
    for number in range(1, 21):
        paths.append(folder / f"{number}.dcm")
        ct(number).save_as(paths[-1], enforce_file_format=True)
    return paths


@contextmanager
def running(service: Any, **options: Any) -> Iterator[DimseServer]:
    """A server on uvloop in a thread of its own, for peers that block."""
    ready: list[DimseServer] = []
    started = threading.Event()
    loop = uvloop.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        try:
            async with serving(service, **options) as server:
                ready.append(server)
                started.set()
                await end.wait()
        finally:
            started.set()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


def data_set_offset(path: Path) -> int:
    """Where the data set of a Part-10 file starts."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        return file.tell()


# ---- DCMTK asks us


def test_echoscu(dcmtk: Any) -> None:
    with running(MemoryService()) as server:
        run = dcmtk.run("echoscu", "-v", "-aec", "ISOCENTER", "--repeat", 5, "127.0.0.1", server.port)
        assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("max_pdu", [16384, 131072])
def test_storescu_with_nagle_on(dcmtk: Any, slices: list[Path], max_pdu: int) -> None:
    service = MemoryService()
    with running(service) as server:
        run = dcmtk.run("storescu", "--max-send-pdu", max_pdu, "127.0.0.1", server.port, *slices)
        assert run.returncode == 0, run.stdout
    assert len(service.stored) == len(slices)
    for stored, path in zip(service.stored, slices, strict=True):
        assert stored.transfer_syntax == EXPLICIT
        assert pydicom.dcmread(path).PixelData in stored.data


def test_nagle_does_not_stall_small_objects(dcmtk: Any, tmp_path: Path) -> None:
    """storescu writes header and body apart; without TCP_QUICKACK each object waits 41 ms for our ACK."""
    paths = [tmp_path / f"{number}.dcm" for number in range(40)]
    for number, path in enumerate(paths):
        ct(number, rows=64).save_as(path, enforce_file_format=True)
    service = MemoryService()
    with running(service) as server:
        run = dcmtk.run("storescu", "127.0.0.1", server.port, *paths)
        assert run.returncode == 0, run.stdout
    assert service.outcomes.get_nowait().duration_s < 0.020 * len(paths)


def test_storescu_hears_failures_and_goes_on(dcmtk: Any, slices: list[Path]) -> None:
    failing = {"n": 0}

    async def fail(sink: Any) -> None:
        failing["n"] += 1
        if failing["n"] == 2:
            raise DimseFailure(0xA700, "disk full")

    service = MemoryService(on_finish=fail)
    with running(service) as server:
        run = dcmtk.run("storescu", "-v", "-nh", "127.0.0.1", server.port, *slices[:4])
    assert "Refused: OutOfResources" in run.stdout
    assert len(service.stored) == 3


def test_storescu_is_rejected_with_the_reason(dcmtk: Any, slices: list[Path]) -> None:
    with running(MemoryService(verdict=rejections.CALLED_AE_TITLE_NOT_RECOGNIZED)) as server:
        run = dcmtk.run("storescu", "127.0.0.1", server.port, slices[0])
    assert run.returncode != 0
    assert "Called AE Title Not Recognized" in run.stdout


def test_findscu_and_its_cancel(dcmtk: Any) -> None:
    async def endless() -> AsyncIterator[PendingAnswer]:
        while True:
            yield PendingAnswer(IDENTIFIER)

    service = MemoryService()
    keys = ("-S", "-k", "0008,0052=STUDY", "-k", "0010,0020=1")
    with running(service) as server:
        run = dcmtk.run("findscu", "-v", *keys, "127.0.0.1", server.port)
        assert run.returncode == 0, run.stdout
        assert run.stdout.count("(Pending)") == 3
        service.on_find = endless
        run = dcmtk.run("findscu", "-v", "--cancel", 5, *keys, "127.0.0.1", server.port)
        assert "Cancel" in run.stdout
        assert run.returncode == 0, run.stdout


def test_sixty_four_storescu_at_once(dcmtk: Any, slices: list[Path]) -> None:
    service = MemoryService()
    with running(service) as server:
        senders = [
            subprocess.Popen(
                [dcmtk.tools["storescu"], "127.0.0.1", str(server.port), slices[n % len(slices)]],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for n in range(64)
        ]
        outputs = [(sender.communicate()[0], sender.returncode) for sender in senders]
    assert [code for _, code in outputs] == [0] * 64, outputs
    assert len(service.stored) == 64


# ---- we ask DCMTK


async def test_we_store_into_storescp(start_storescp: Callable[..., Any], slices: list[Path]) -> None:
    receiver = start_storescp()
    association = await connect(
        "127.0.0.1",
        receiver.port,
        calling_ae_title="ISOCENTER",
        called_ae_title=receiver.ae_title,
        contexts=[Proposal(VERIFICATION), Proposal(CT, (EXPLICIT,))],
    )
    async with association:
        await association.echo()
        for path in slices:
            uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
            body = FileBody(path, await asyncio.to_thread(data_set_offset, path))
            assert (await association.store(CT, uid, EXPLICIT, body)).status == 0
    received = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, receiver.files())}
    assert len(received) == len(slices)
    for path in slices:
        sent = pydicom.dcmread(path)
        assert received[sent.SOPInstanceUID] == sent


# ---- pynetdicom, both ways


@pytest.fixture
def pynetdicom_ae() -> Iterator[Callable[..., Any]]:
    from pynetdicom import AE

    servers = []

    def start(handlers: list[Any], contexts: list[tuple[str, str]], **attributes: Any) -> int:
        ae = AE(ae_title="PYNET")
        for name, value in attributes.items():
            setattr(ae, name, value)
        for abstract, transfer in contexts:
            ae.add_supported_context(abstract, transfer)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()


async def test_we_ask_pynetdicom(pynetdicom_ae: Callable[..., Any], slices: list[Path]) -> None:
    from pynetdicom import evt

    received: list[bytes] = []

    def on_store(event: Any) -> int:
        received.append(event.request.DataSet.getvalue())
        return 0x0000 if len(received) > 1 else 0xB000

    def on_find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(4):
            answer = Dataset()
            answer.PatientID = str(number)
            yield 0xFF00, answer
        yield 0x0000, None

    port = pynetdicom_ae(
        [(evt.EVT_C_STORE, on_store), (evt.EVT_C_FIND, on_find), (evt.EVT_C_ECHO, lambda e: 0)],
        [(CT, EXPLICIT), (STUDY_FIND, EXPLICIT), (VERIFICATION, IMPLICIT)],
    )
    association = await connect(
        "127.0.0.1",
        port,
        calling_ae_title="ISOCENTER",
        called_ae_title="PYNET",
        contexts=[Proposal(VERIFICATION), Proposal(CT), Proposal(STUDY_FIND)],
        user_identity=UserIdentity(1, b"jane"),
    )
    async with association:
        await association.echo()
        offset = data_set_offset(slices[0])
        body = slices[0].read_bytes()[offset:]
        assert (await association.store(CT, "1.2.3", EXPLICIT, body)).status == 0xB000
        assert (await association.store(CT, "1.2.3", EXPLICIT, FileBody(slices[0], offset))).status == 0
        assert received == [body, body]
        matches = [match async for match in association.find(STUDY_FIND, IDENTIFIER)]
        assert len(matches) == 4
    with pytest.raises(AssociationRejected):
        port = pynetdicom_ae(
            [], [(VERIFICATION, IMPLICIT)], require_calling_aet=["SOMEBODY"], require_called_aet=True
        )
        await connect(
            "127.0.0.1",
            port,
            calling_ae_title="ISOCENTER",
            called_ae_title="PYNET",
            contexts=[Proposal(VERIFICATION)],
        )


def test_pynetdicom_asks_us(slices: list[Path]) -> None:
    from pynetdicom import AE
    from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation, UserIdentityNegotiation

    service = MemoryService(window=AsynchronousOperationsWindow(4, 4))
    with running(service) as server:
        ae = AE(ae_title="PYNET")
        for uid in (VERIFICATION, CT, STUDY_FIND):
            ae.add_requested_context(uid, EXPLICIT)
        identity = UserIdentityNegotiation()
        identity.user_identity_type = 2
        identity.primary_field, identity.secondary_field = b"jane", b"secret"
        identity.positive_response_requested = True
        window = AsynchronousOperationsWindowNegotiation()
        window.maximum_number_operations_invoked = 3
        association = ae.associate("127.0.0.1", server.port, ext_neg=[identity, window])
        assert association.is_established
        assert association.send_c_echo().Status == 0
        for path in slices[:5]:
            assert association.send_c_store(path).Status == 0
        query = Dataset()
        query.QueryRetrieveLevel, query.PatientID = "STUDY", "1"
        answers = [status.Status for status, _ in association.send_c_find(query, STUDY_FIND)]
        assert answers == [0xFF00] * 3 + [0]
        association.release()
        association.join()
    assert len(service.stored) == 5
    assert service.infos[0].user_identity == UserIdentity(2, b"jane", b"secret", response_requested=True)
    assert service.infos[0].implementation_version_name.startswith("PYNETDICOM")
    assert service.outcomes.get_nowait().reason == "released"


def test_pynetdicom_aborts(slices: list[Path]) -> None:
    from pynetdicom import AE

    service = MemoryService()
    with running(service) as server:
        ae = AE(ae_title="PYNET")
        ae.add_requested_context(VERIFICATION)
        association = ae.associate("127.0.0.1", server.port)
        association.abort()
        association.join()
    assert service.outcomes.get_nowait().reason == "aborted by the peer"


# ---- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``server.*`` and ``client.*``: keys and self-signed certificates of a day."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed; Debian package: openssl")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client"):
        command = (
            f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.crt"
        )
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def server_tls(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "client.crt"))
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(folder: Path, *, certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "server.crt"))
    if certificate:
        context.load_cert_chain(folder / "client.crt", folder / "client.key")
    return context


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_mutual_tls_between_ourselves(certificates: Path, loop: Any) -> None:
    service = MemoryService()
    body = numpy.random.default_rng(1).bytes(3_000_000)

    async def scenario() -> None:
        async with serving(service, tls=server_tls(certificates)) as server:
            association = await connect(
                "127.0.0.1",
                server.port,
                calling_ae_title="A",
                called_ae_title="B",
                contexts=[Proposal(VERIFICATION), Proposal(CT)],
                tls=client_tls(certificates),
            )
            async with association:
                await association.echo()
                await association.store(CT, "1.2.3", EXPLICIT, body)
            with pytest.raises(ConnectFailed):
                await connect(
                    "127.0.0.1",
                    server.port,
                    calling_ae_title="A",
                    called_ae_title="B",
                    contexts=[Proposal(VERIFICATION)],
                    tls=ssl.create_default_context(),
                )

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())
    assert service.stored[0].data == body
    _, peer = service.requests[0]
    assert peer.tls
    assert peer.certificate is not None
    assert (("commonName", "client"),) in peer.certificate["subject"]


def test_storescu_over_tls(dcmtk: Any, slices: list[Path], certificates: Path) -> None:
    service = MemoryService()
    with running(service, tls=server_tls(certificates)) as server:
        keys = ("+tls", certificates / "client.key", certificates / "client.crt")
        trust = ("+cf", certificates / "server.crt")
        run = dcmtk.run("storescu", *keys, *trust, "127.0.0.1", server.port, *slices[:5])
        assert run.returncode == 0, run.stdout
        run = dcmtk.run("echoscu", "-to", 5, "127.0.0.1", server.port)
        assert run.returncode != 0
    assert len(service.stored) == 5
    assert all(peer.certificate for _, peer in service.requests)


async def test_we_store_over_tls_into_storescp(
    start_storescp: Callable[..., Any], slices: list[Path], certificates: Path, dcmtk: Any, tmp_path: Path
) -> None:
    from services.processes import Process, can_connect, free_ports

    (port,) = free_ports(1)
    folder = tmp_path / "received"
    folder.mkdir()
    command = [dcmtk.tools["storescp"], "-od", folder, "+tls", certificates / "server.key"]
    command += [certificates / "server.crt", "+cf", certificates / "client.crt", port]
    process = Process([str(part) for part in command], log=tmp_path / "storescp.log")
    try:
        process.wait_until(lambda: can_connect(port), "listen")
        association = await connect(
            "127.0.0.1",
            port,
            calling_ae_title="ISOCENTER",
            called_ae_title="STORESCP",
            contexts=[Proposal(CT, (EXPLICIT,))],
            tls=client_tls(certificates),
        )
        async with association:
            body = FileBody(slices[0], data_set_offset(slices[0]))
            assert (await association.store(CT, f"{UID_ROOT}.1", EXPLICIT, body)).status == 0
    finally:
        process.stop()
    assert len(list(folder.iterdir())) == 1
