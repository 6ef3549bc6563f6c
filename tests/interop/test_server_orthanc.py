"""Orthanc and the real server: by C-STORE, C-FIND and DICOMweb, each way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import orjson
import pydicom
import pytest

from services.archive import Image
from services.isocenter import Isocenter
from services.orthanc import Orthanc
from services.series import new_series


@pytest.fixture
def peer(orthanc: Orthanc, isocenter: Isocenter) -> Iterator[Orthanc]:
    """Orthanc that knows us as the modality ``iso`` and the DICOMweb server ``iso``."""
    orthanc.add_modality("iso", ae_title=isocenter.ae_title, port=isocenter.dicom_port)
    orthanc.request("PUT", "/dicom-web/servers/iso", {"Url": isocenter.dicom_web_url + "/"})
    yield orthanc
    orthanc.request("DELETE", "/dicom-web/servers/iso")


def put(orthanc: Orthanc, images: list[Image]) -> list[str]:
    """Orthanc's names of the instances."""
    return [orthanc.request("POST", "/instances", image.file)["ID"] for image in images]


def orthanc_file(orthanc: Orthanc, image: Image) -> pydicom.FileDataset:
    [name] = orthanc.request("POST", "/tools/lookup", image.sop.encode())
    content = orthanc.request("GET", f"/instances/{name['ID']}/file")
    return pydicom.dcmread(io.BytesIO(content))


def our_file(server: Isocenter, image: Image) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(server.stored_file(image)))


def source(image: Image) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(image.file))


def test_orthanc_sends_to_us_and_asks_us(peer: Orthanc, isocenter: Isocenter) -> None:
    images = new_series(6, name="ORTHANC^SENDS")
    peer.request("POST", "/modalities/iso/echo", {})
    job = peer.request("POST", "/modalities/iso/store", {"Resources": put(peer, images), "Synchronous": True})
    assert (job["InstancesCount"], job["FailedInstancesCount"]) == (6, 0)
    assert [our_file(isocenter, image) for image in images] == [source(image) for image in images]

    def ask(level: str, **keys: str) -> list[dict[str, Any]]:
        query = peer.request("POST", "/modalities/iso/query", {"Level": level, "Query": keys})["ID"]
        answers = peer.request("GET", f"/queries/{query}/answers?expand&simplify")
        return list(answers)

    [study] = ask("Study", PatientName="ORTHANC*", StudyInstanceUID="")
    assert study["StudyInstanceUID"] == images[0].study
    [series] = ask("Series", StudyInstanceUID=images[0].study, SeriesInstanceUID="", Modality="")
    assert (series["SeriesInstanceUID"], series["Modality"]) == (images[0].series, "CT")
    instances = ask(
        "Instance", StudyInstanceUID=images[0].study, SeriesInstanceUID=images[0].series, SOPInstanceUID=""
    )
    assert {one["SOPInstanceUID"] for one in instances} == {image.sop for image in images}


def test_we_send_to_orthanc_and_ask_it(peer: Orthanc, isocenter: Isocenter) -> None:
    images = new_series(6, name="WE^SEND", pixels=100_000)
    isocenter.store(images)
    to = ("127.0.0.1", peer.dicom_port, "--called", peer.ae_title)
    sent = isocenter.run("scu", "send", *to, "--study", images[0].study, "--associations", 3)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert [orthanc_file(peer, image) for image in images] == [source(image) for image in images]
    found = isocenter.run(
        "scu", "find", *to, "--level", "image", f"StudyInstanceUID={images[0].study}", "--json"
    )
    matches = [orjson.loads(line) for line in found.stdout.splitlines()]
    assert {one["00080018"]["Value"][0] for one in matches} == {image.sop for image in images}
    shown = isocenter.run("scu", "find", *to, "PatientName=WE^*")
    assert shown.returncode == 0 and images[0].study in shown.stdout and "1 match." in shown.stdout


def test_orthanc_as_a_client_of_our_dicomweb(peer: Orthanc, isocenter: Isocenter) -> None:
    theirs, ours = new_series(4, name="STOW^FROM"), new_series(4, name="WADO^TO")
    peer.request("POST", "/dicom-web/servers/iso/stow", {"Resources": put(peer, theirs), "Synchronous": True})
    assert [our_file(isocenter, image) for image in theirs] == [source(image) for image in theirs]

    isocenter.store(ours)
    question = {"Uri": "/studies", "Arguments": {"PatientName": "WADO*", "includefield": "00081030"}}
    answer = peer.request("POST", "/dicom-web/servers/iso/qido", question)
    assert [one["0020000D"]["Value"] for one in answer] == [ours[0].study]
    fetched = {"Resources": [{"Study": ours[0].study}], "Synchronous": True}
    peer.request("POST", "/dicom-web/servers/iso/retrieve", fetched)
    assert [orthanc_file(peer, image) for image in ours] == [source(image) for image in ours]
