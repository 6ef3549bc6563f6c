"""pynetdicom and the real server: it stores, asks and cancels; we echo, find and send to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from services.archive import Image
from services.isocenter import Isocenter, attribute
from services.series import new_series, write_files

PENDING = (0xFF00, 0xFF01)


@pytest.fixture
def associate(isocenter: Isocenter) -> Iterator[Callable[..., Any]]:
    """``associate(*sop_classes)``: an association with the server; released when the test is over."""
    opened = []

    def open_one(*sop_classes: str) -> Any:
        entity = AE(ae_title="PYNETDICOM")
        for sop_class in sop_classes:
            entity.add_requested_context(sop_class, AllTransferSyntaxes[:2])
        association = entity.associate("127.0.0.1", isocenter.dicom_port, ae_title=isocenter.ae_title)
        assert association.is_established
        opened.append(association)
        return association

    yield open_one
    for association in opened:
        association.release()


def query(level: str, **keys: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def found(association: Any, identifier: Dataset, model: str) -> list[Dataset]:
    answers = list(association.send_c_find(identifier, model))
    assert answers[-1][0].Status == 0
    assert all(status.Status in PENDING for status, _ in answers[:-1])
    return [match for _, match in answers[:-1]]


def test_echo_store_find(associate: Callable[..., Any], tmp_path: Path) -> None:
    images = new_series(3, name="Å^ßtore", more=((0x00080005, "CS", "ISO_IR 100"),))
    association = associate(Verification, CTImageStorage, StudyRootQueryRetrieveInformationModelFind)
    assert association.send_c_echo().Status == 0
    for path in write_files(tmp_path, images):
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    study = images[0].study
    model = StudyRootQueryRetrieveInformationModelFind
    [match] = found(association, query("STUDY", StudyInstanceUID=study, PatientName=""), model)
    assert match.PatientName == "Å^ßtore"
    assert match.RetrieveAETitle == "ISOCENTER"
    [series] = found(association, query("SERIES", StudyInstanceUID=study, SeriesInstanceUID=""), model)
    assert series.SeriesInstanceUID == images[0].series
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": images[0].series}
    instances = found(association, query("IMAGE", **keys, SOPInstanceUID="", InstanceNumber=""), model)
    assert [one.SOPInstanceUID for one in instances] == [image.sop for image in images]


def test_patient_root_and_a_level_it_does_not_have(associate: Callable[..., Any], tmp_path: Path) -> None:
    [image] = new_series(1, name="ROOT^PATIENT")
    [path] = write_files(tmp_path, [image])
    models = (PatientRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelFind)
    association = associate(CTImageStorage, *models)
    assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    [match] = found(association, query("PATIENT", PatientName="root^*", PatientID=""), models[0])
    assert match.PatientID == image.patient_id
    [(status, _)] = association.send_c_find(query("PATIENT", PatientID=""), models[1])
    assert status.Status == 0xA900


def test_cancel(associate: Callable[..., Any], tmp_path: Path) -> None:
    images = new_series(60)
    association = associate(CTImageStorage, StudyRootQueryRetrieveInformationModelFind)
    for path in write_files(tmp_path, images):
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    identifier = query("IMAGE", StudyInstanceUID=images[0].study, SOPInstanceUID="")
    statuses = []
    for status, _ in association.send_c_find(
        identifier, StudyRootQueryRetrieveInformationModelFind, msg_id=7
    ):
        if not statuses:
            association.send_c_cancel(7, query_model=StudyRootQueryRetrieveInformationModelFind)
        statuses.append(status.Status)
    # All answers may have been on their way when the cancel came.
    assert statuses[-1] in {0xFE00, 0x0000}
    assert set(statuses[:-1]) <= set(PENDING)
    again = query("STUDY", StudyInstanceUID=images[0].study)
    assert len(found(association, again, StudyRootQueryRetrieveInformationModelFind)) == 1


def test_a_bad_object_is_quarantined_and_the_association_lives_on(
    associate: Callable[..., Any], isocenter: Isocenter, tmp_path: Path
) -> None:
    good, bad = new_series(2)
    bad = bad.but(modality=None)
    good_path, bad_path = write_files(tmp_path, [good, bad])
    association = associate(CTImageStorage)
    refused = association.send_c_store(pydicom.dcmread(bad_path))
    assert refused.Status == 0xA900
    assert refused.ErrorComment.startswith("quarantined") and "Modality" in refused.ErrorComment
    assert association.send_c_store(pydicom.dcmread(good_path)).Status == 0
    [entry] = [one for one in isocenter.quarantine() if one["known"]["00080018"]["Value"] == [bad.sop]]
    assert [problem["tag"] for problem in entry["problems"]] == ["00080060"]
    assert len(isocenter.found(f"/studies/{good.study}/instances")) == 1


class Peer:
    """pynetdicom as SCP; keeps what it is sent and finds what it was given."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[str, bytes]] = {}
        self.matches: list[Dataset] = []
        self.asked: list[Dataset] = []
        self.calling: list[str] = []
        entity = AE(ae_title="PEER")
        entity.add_supported_context(Verification)
        entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers = [
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
        ]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        self._server.shutdown()

    def _echo(self, event: Any) -> int:
        self.calling.append(event.assoc.requestor.ae_title)
        return 0

    def _store(self, event: Any) -> int:
        data = event.request.DataSet.getvalue()
        self.stored[event.request.AffectedSOPInstanceUID] = (event.context.transfer_syntax, data)
        return 0

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier)
        for match in self.matches:
            yield 0xFF00, match


@pytest.fixture
def peer() -> Iterator[Peer]:
    one = Peer()
    yield one
    one.stop()


def test_we_call(isocenter: Isocenter, peer: Peer) -> None:
    echo = isocenter.run(
        "scu", "echo", "127.0.0.1", peer.port, "--called", "PEER", "--calling", "US", "--json"
    )
    assert echo.returncode == 0, echo.stderr
    assert orjson.loads(echo.stdout)["answered"] is True
    assert peer.calling == ["US"]


def test_we_find(isocenter: Isocenter, peer: Peer) -> None:
    for number, name in enumerate(("Doe^Jane", "Müller^Jörg")):
        match = query("STUDY", PatientName=name, StudyInstanceUID=f"1.2.3.{number}", StudyDate="20260102")
        match.SpecificCharacterSet = "ISO_IR 100"
        peer.matches.append(match)
    to = ("127.0.0.1", peer.port, "--called", "PEER")
    done = isocenter.run("scu", "find", *to, "PatientName=*", "StudyDate=20260101-")
    assert done.returncode == 0, done.stderr
    heads, jane, joerg, count = done.stdout.splitlines()
    assert heads.split()[0] == "StudyDate" and count == "2 matches."
    assert "Doe^Jane" in jane and "Müller^Jörg" in joerg and "20260102" in joerg
    [asked] = peer.asked
    assert (asked.QueryRetrieveLevel, asked.PatientName, asked.StudyDate) == ("STUDY", "*", "20260101-")
    assert asked.StudyInstanceUID == "" and "SpecificCharacterSet" not in asked

    done = isocenter.run("scu", "find", *to, "PatientName=MÜLL*", "StudyID", "--json", "--limit", 1)
    [line] = map(orjson.loads, done.stdout.splitlines())
    assert attribute({tag: one.get("Value", []) for tag, one in line.items()}, "0020000D") == "1.2.3.0"
    assert peer.asked[-1].SpecificCharacterSet == "ISO_IR 192" and peer.asked[-1].PatientName == "MÜLL*"


def test_we_send_what_we_were_sent(isocenter: Isocenter, peer: Peer, tmp_path: Path) -> None:
    """Stored by one, sent on by us: the bytes of the data set are those that came."""
    images: list[Image] = new_series(5, pixels=300_000)
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", isocenter.dicom_port, ae_title=isocenter.ae_title)
    for path in write_files(tmp_path, images):
        assert association.send_c_store(str(path)).Status == 0
    association.release()
    done = isocenter.run(
        "scu", "send", "127.0.0.1", peer.port, "--called", "PEER", "--study", images[0].study
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert peer.stored == {image.sop: (ExplicitVRLittleEndian, image.data_set) for image in images}
