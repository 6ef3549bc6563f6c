"""C-MOVE, C-GET and storage commitment with the real server: DCMTK, pynetdicom and Orthanc, each way."""

from __future__ import annotations

import io
import queue
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from services.archive import CT, Image
from services.dcmtk import Dcmtk, StoreScp
from services.isocenter import Isocenter
from services.orthanc import Orthanc
from services.series import new_series

_COUNTS = re.compile(r"(Completed|Failed|Warning) Suboperations\s*: (\d+)")


@contextmanager
def storescp(dcmtk: Dcmtk, folder: Path, *options: str, ae_title: str = "STORESCP") -> Iterator[StoreScp]:
    server = StoreScp(dcmtk, folder / ae_title, folder / f"{ae_title}.log", *options, ae_title=ae_title)
    try:
        yield server
    finally:
        server.stop()


def destination(server: Isocenter, title: str, port: int, *options: str | int) -> None:
    done = server.run("ae", "destination", "add", title, "127.0.0.1", port, *options)
    assert done.returncode == 0, done.stderr


def movescu(dcmtk: Dcmtk, server: Isocenter, to: str, *keys: str) -> tuple[int, dict[str, int], str]:
    """Exit code, the counts of the last response, what it said."""
    asked = [word for key in keys for word in ("-k", key)]
    done = dcmtk.run("movescu", "-d", "-S", "-aem", to, *server.called, *asked, timeout_s=120)
    counts = {name: int(count) for name, count in _COUNTS.findall(done.stdout)}
    return done.returncode, counts, done.stdout


def received(path: Path) -> pydicom.FileDataset:
    return pydicom.dcmread(path)


def source(image: Image) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(image.file))


def by_uid(paths: list[Path]) -> dict[str, pydicom.FileDataset]:
    return {str(one.SOPInstanceUID): one for one in map(received, paths)}


# --- DCMTK


def test_movescu_to_storescp(isocenter: Isocenter, dcmtk: Dcmtk, tmp_path: Path) -> None:
    images = new_series(20, name="MOVE^DCMTK", pixels=20_000)
    isocenter.store(images)
    with storescp(dcmtk, tmp_path) as there:
        destination(isocenter, there.ae_title, there.port)
        code, counts, said = movescu(
            dcmtk,
            isocenter,
            there.ae_title,
            "QueryRetrieveLevel=STUDY",
            f"StudyInstanceUID={images[0].study}",
        )
        assert code == 0, said
        assert counts == {"Completed": 20, "Failed": 0, "Warning": 0}
        assert by_uid(there.files()) == {image.sop: source(image) for image in images}
        written = sorted(there.files(), key=lambda path: path.stat().st_mtime_ns)
        assert [received(path).InstanceNumber for path in written] == list(range(1, 21))
        _, _, unknown = movescu(
            dcmtk, isocenter, "NOBODY", "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={images[0].study}"
        )
        assert "MoveDestinationUnknown" in unknown
        _, _, keyless = movescu(dcmtk, isocenter, there.ae_title, "QueryRetrieveLevel=STUDY")
        assert "no Study Instance UID" in keyless


def test_ten_movescus_at_once(
    start_isocenter: Callable[..., Isocenter], dcmtk: Dcmtk, tmp_path: Path
) -> None:
    """500 objects each, by one storescp that takes an association after the other and by one that forks."""
    server = start_isocenter()
    studies = [new_series(500, name=f"PARALLEL^{number}", pixels=64) for number in range(10)]
    for study in studies:
        server.store(study)
    for options, associations in (((), 1), (("--fork",), 8)):
        title = f"STORE{associations}"
        with storescp(dcmtk, tmp_path, *options, ae_title=title) as there:
            destination(server, title, there.port, "--associations", associations)
            with ThreadPoolExecutor(10) as threads:
                ended = list(
                    threads.map(
                        lambda study, title=title: movescu(  # type: ignore[misc]
                            dcmtk,
                            server,
                            title,
                            "QueryRetrieveLevel=STUDY",
                            f"StudyInstanceUID={study[0].study}",
                        ),
                        studies,
                    )
                )
            assert [code for code, _, _ in ended] == [0] * 10
            assert [counts for _, counts, _ in ended] == [{"Completed": 500, "Failed": 0, "Warning": 0}] * 10
            paths = there.files()
            assert len(paths) == 5000
            order: dict[str, list[tuple[int, int]]] = {}
            for path in paths:
                one = pydicom.dcmread(path, specific_tags=["StudyInstanceUID", "InstanceNumber"])
                arrived = (path.stat().st_mtime_ns, int(one.InstanceNumber))
                order.setdefault(str(one.StudyInstanceUID), []).append(arrived)
            for arrivals in order.values():
                assert [number for _, number in sorted(arrivals)] == list(range(1, 501))


def test_movescu_cancels(isocenter: Isocenter, dcmtk: Dcmtk, tmp_path: Path) -> None:
    """storescp takes a second for each object; the cancel comes with the first response."""
    images = new_series(100, name="CANCEL^ME")
    isocenter.store(images)
    with storescp(dcmtk, tmp_path, "--sleep-during", "1") as there:
        destination(isocenter, there.ae_title, there.port)
        done = dcmtk.run(
            *("movescu", "-d", "-S", "--cancel", 1, "-aem", there.ae_title, *isocenter.called),
            *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={images[0].study}"),
        )
        final = done.stdout.rpartition("C-MOVE RSP")[2]
        assert "0xfe00" in final, done.stdout[-3000:]
        counts = {name: int(count) for name, count in _COUNTS.findall(final)}
        assert counts["Failed"] == 0 and counts["Completed"] == len(there.files()) < 10
        assert f"Remaining Suboperations       : {100 - counts['Completed']}" in final


def test_getscu(isocenter: Isocenter, dcmtk: Dcmtk, tmp_path: Path) -> None:
    images = new_series(20, name="GET^DCMTK", pixels=20_000)
    isocenter.store(images)
    folder = tmp_path / "got"
    folder.mkdir()
    for level, key in (
        ("STUDY", f"StudyInstanceUID={images[0].study}"),
        ("IMAGE", f"SOPInstanceUID={images[0].sop}"),
    ):
        done = dcmtk.run(
            *("getscu", "-v", "-S", "-od", folder, *isocenter.called),
            *("-k", f"QueryRetrieveLevel={level}", "-k", key),
        )
        assert done.returncode == 0, done.stdout
    assert by_uid(list(folder.iterdir())) == {image.sop: source(image) for image in images}


# --- pynetdicom


def query(level: str, **keys: str) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


class Pynetdicom:
    """A workstation: it takes objects and reports, moves and gets, and asks to commit."""

    def __init__(self, server: Isocenter, title: str = "WORKSTATION") -> None:
        self.title = title
        self.server = server
        self.stored: list[tuple[Dataset, str | None, int | None]] = []
        self.events: queue.Queue[tuple[int, Dataset]] = queue.Queue()
        self.ae = AE(title)
        self.ae.acse_timeout = self.ae.dimse_timeout = self.ae.network_timeout = 30
        self.handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._event),
        ]
        self.ae.add_supported_context(CT)
        self.ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        for model in (
            StudyRootQueryRetrieveInformationModelMove,
            PatientRootQueryRetrieveInformationModelMove,
            StudyRootQueryRetrieveInformationModelGet,
            StorageCommitmentPushModel,
            CT,
        ):
            self.ae.add_requested_context(model)
        self._listener = self.ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=self.handlers)  # type: ignore[arg-type]
        self.port = self._listener.server_address[1]

    def close(self) -> None:
        self._listener.shutdown()
        self.ae.shutdown()

    def associated(self, act: Callable[[Any], Any], *, roles: tuple[Any, ...] = ()) -> Any:
        association = self.ae.associate(
            "127.0.0.1",
            self.server.dicom_port,
            ae_title=self.server.ae_title,
            ext_neg=list(roles),
            evt_handlers=self.handlers,  # type: ignore[arg-type]
        )
        assert association.is_established
        try:
            return act(association)
        finally:
            if association.is_established:
                association.release()

    def _store(self, event: Any) -> int:
        request = event.request
        self.stored.append(
            (event.dataset, request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        return 0

    def _event(self, event: Any) -> tuple[int, None]:
        self.events.put((event.request.EventTypeID, event.event_information))
        return 0, None


@pytest.fixture
def workstation(isocenter: Isocenter) -> Iterator[Pynetdicom]:
    made = Pynetdicom(isocenter)
    destination(isocenter, made.title, made.port)
    yield made
    made.close()


def test_pynetdicom_moves_to_itself(isocenter: Isocenter, workstation: Pynetdicom) -> None:
    images = new_series(12, name="MOVE^PYNETDICOM")
    isocenter.store(images)
    wanted = query("STUDY", StudyInstanceUID=images[0].study)

    def move(association: Any) -> list[tuple[int, int, int]]:
        model = StudyRootQueryRetrieveInformationModelMove
        return [
            (one.Status, one.NumberOfCompletedSuboperations, one.NumberOfFailedSuboperations)
            for one, _ in association.send_c_move(wanted, workstation.title, model, msg_id=77)
        ]

    told = workstation.associated(move)
    assert told[0][0] == 0xFF00 and told[-1] == (0, 12, 0)
    assert [str(one.SOPInstanceUID) for one, _, _ in workstation.stored] == [image.sop for image in images]
    assert {(title, number) for _, title, number in workstation.stored} == {("WORKSTATION", 77)}


def test_pynetdicom_gets(isocenter: Isocenter, workstation: Pynetdicom) -> None:
    images = new_series(12, name="GET^PYNETDICOM")
    isocenter.store(images)
    wanted = query("STUDY", StudyInstanceUID=images[0].study)

    def get(association: Any) -> list[int]:
        return [
            one.Status for one, _ in association.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet)
        ]

    statuses = workstation.associated(get, roles=(build_role(CT, scp_role=True),))
    assert statuses[-1] == 0
    assert [one for one, _, _ in workstation.stored] == [_bare(source(image)) for image in images]
    assert workstation.associated(get)[-1] == 0xA702, "without the role nothing can come"


def _bare(dataset: pydicom.FileDataset) -> Dataset:
    return Dataset(dataset)


def _action(images: list[Image], transaction: str) -> Dataset:
    action = Dataset()
    action.TransactionUID = transaction
    action.ReferencedSOPSequence = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, image.sop
        action.ReferencedSOPSequence.append(item)
    return action


@pytest.mark.parametrize("stays", [True, False], ids=["the same association", "another association"])
def test_pynetdicom_asks_to_commit(isocenter: Isocenter, workstation: Pynetdicom, stays: bool) -> None:
    images = new_series(5, name="COMMIT^ME")
    isocenter.store(images[:4])
    transaction = f"{images[0].study}.{int(stays) + 1}"

    def ask(association: Any) -> int:
        status, _ = association.send_n_action(
            _action(images, transaction), 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        if stays:
            event_type, told = workstation.events.get(timeout=30)
            workstation.events.put((event_type, told))
        return int(status.Status)

    assert workstation.associated(ask) == 0
    while True:
        event_type, told = workstation.events.get(timeout=30)
        if told.TransactionUID == transaction:
            break
    assert event_type == 2
    assert {item.ReferencedSOPInstanceUID for item in told.ReferencedSOPSequence} == {
        image.sop for image in images[:4]
    }
    [failed] = told.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (images[4].sop, 0x0112)


# --- Orthanc


@pytest.fixture
def peer(orthanc: Orthanc, isocenter: Isocenter) -> Iterator[Orthanc]:
    orthanc.add_modality("iso", ae_title=isocenter.ae_title, port=isocenter.dicom_port)
    orthanc.add_modality("orthanc", ae_title=orthanc.ae_title, port=orthanc.dicom_port)
    destination(isocenter, orthanc.ae_title, orthanc.dicom_port)
    yield orthanc


def put(orthanc: Orthanc, images: list[Image]) -> list[str]:
    return [orthanc.request("POST", "/instances", image.file)["ID"] for image in images]


def orthanc_file(orthanc: Orthanc, image: Image) -> pydicom.FileDataset:
    [name] = orthanc.request("POST", "/tools/lookup", image.sop.encode())
    return pydicom.dcmread(io.BytesIO(orthanc.request("GET", f"/instances/{name['ID']}/file")))


def test_orthanc_retrieves_from_us_by_move(peer: Orthanc, isocenter: Isocenter) -> None:
    images = new_series(15, name="ORTHANC^MOVES", pixels=50_000)
    isocenter.store(images)
    asked = {"Level": "Study", "Query": {"StudyInstanceUID": images[0].study}}
    found = peer.request("POST", "/modalities/iso/query", asked)["ID"]
    job = peer.request(
        "POST", f"/queries/{found}/retrieve", {"TargetAet": peer.ae_title, "Synchronous": True}
    )
    assert job["Query"][0]["0020,000d"] == images[0].study
    assert [orthanc_file(peer, image) for image in images] == [source(image) for image in images]


def test_movescu_has_us_send_to_orthanc(peer: Orthanc, isocenter: Isocenter, dcmtk: Dcmtk) -> None:
    images = new_series(15, name="TO^ORTHANC", pixels=50_000)
    isocenter.store(images)
    code, counts, said = movescu(
        dcmtk,
        isocenter,
        peer.ae_title,
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={images[0].study}",
        f"SeriesInstanceUID={images[0].series}",
    )
    assert code == 0, said
    assert counts == {"Completed": 15, "Failed": 0, "Warning": 0}
    assert [orthanc_file(peer, image) for image in images] == [source(image) for image in images]


def test_we_fetch_from_orthanc(peer: Orthanc, isocenter: Isocenter) -> None:
    got, moved = (new_series(9, name=name, pixels=50_000) for name in ("WE^GET", "WE^MOVE"))
    put(peer, got + moved)
    to = ("127.0.0.1", peer.dicom_port, "--called", peer.ae_title)
    done = isocenter.run("scu", "get", *to, "--study", got[0].study, "--json")
    assert done.returncode == 0, done.stderr
    told = orjson.loads(done.stdout)
    assert (told["status"], told["completed"], told["outcomes"]) == ("0000", 9, {"stored": 9})
    done = isocenter.run("scu", "move", *to, "--study", moved[0].study)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9  sent, 0 failed" in done.stdout
    for image in got + moved:
        assert pydicom.dcmread(io.BytesIO(isocenter.stored_file(image))) == source(image)
    nowhere = isocenter.run("scu", "move", *to, "--study", moved[0].study, "--to", "NOBODY")
    assert nowhere.returncode == 1
    nothing = isocenter.run("scu", "get", *to)
    assert nothing.returncode == 1 and "Nothing to retrieve" in nothing.stderr


def test_orthanc_asks_us_to_commit(peer: Orthanc, isocenter: Isocenter) -> None:
    images = new_series(4, name="ORTHANC^COMMITS")
    names = put(peer, images)
    isocenter.store(images[:3])
    wanted = {"Resources": names, "Synchronous": True}
    answer = peer.request("POST", "/modalities/iso/storage-commitment", wanted)
    transaction = answer["Path"].rpartition("/")[2]

    def status() -> dict[str, Any]:
        return dict(peer.request("GET", f"/storage-commitment/{transaction}"))

    isocenter.wait_until(lambda: status()["Status"] != "Pending", "report to Orthanc")
    ended = status()
    assert ended["Status"] == "Failure", ended
    assert {one["SOPInstanceUID"] for one in ended["Success"]} == {image.sop for image in images[:3]}
    assert [one["SOPInstanceUID"] for one in ended["Failures"]] == [images[3].sop]


def test_we_ask_orthanc_to_commit(peer: Orthanc, isocenter: Isocenter) -> None:
    images = new_series(4, name="WE^ASK")
    isocenter.store(images)
    put(peer, images[:3])
    asked = isocenter.run("commitment", "ask", peer.ae_title, "--study", images[0].study, "--json")
    assert asked.returncode == 0, asked.stderr
    number = orjson.loads(asked.stdout)["id"]

    def shown() -> dict[str, Any]:
        return dict(isocenter.json(f"/api/v1/commitments/{number}"))

    isocenter.wait_until(lambda: shown()["state"] == "settled", "report of Orthanc")
    reasons = {one["sop_instance_uid"]: one["failure_reason"] for one in shown()["instances"]}
    assert reasons == {image.sop: 0 for image in images[:3]} | {images[3].sop: 0x0112}
    assert shown()["failed_count"] == 1
    listed = isocenter.run("commitment", "list", "--role", "scu")
    assert "1 not committed" in listed.stdout and f"we asked {peer.ae_title}" in listed.stdout
